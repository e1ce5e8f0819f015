//! What a plan is: stages, the predicted speed and the numbers it follows from.

use shoal_base::PackageId;
use shoal_wire::{LayerRange, NodeId};

use crate::{Law, Speculation};

/// What the planner has to know about a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelShape {
    /// Its id.
    pub package: PackageId,
    /// Version of the arithmetic.
    pub arithmetic: u16,
    /// How many layers.
    pub layer_count: u16,
    /// Elements of a row.
    pub width: u32,
    /// Bytes of the weights of one layer.
    pub layer_bytes: u64,
    /// Bytes of cache for one token in one layer.
    pub cache_bytes: u64,
}

/// What is asked of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Want {
    /// Tokens of all its requests together.
    pub cache_tokens: u32,
    /// Whether nodes may load or fetch layers first; else only layers in memory count.
    pub may_fetch: bool,
    /// How guesses are used.
    pub speculation: Speculation,
}

/// One stage of a plan, and why it takes the time it takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlanStage {
    /// Who.
    pub node: NodeId,
    /// What.
    pub layers: LayerRange,
    /// One row through it, in seconds.
    pub compute_s: f64,
    /// The way to it, in seconds.
    pub link_s: f64,
    /// Whether that way goes over a relay, if it is in use and one of its ends says so.
    pub is_relayed: Option<bool>,
    /// What has to be fetched before it can start.
    pub bytes_to_move: u64,
}

/// A way to run a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// In order.
    pub stages: Vec<PlanStage>,
    /// The way back to the head, in seconds.
    pub return_s: f64,
    /// Whether it goes over a relay.
    pub return_is_relayed: Option<bool>,
    /// What the speed follows from.
    pub law: Law,
    /// Predicted.
    pub tokens_per_s: f64,
    /// Of all stages.
    pub bytes_to_move: u64,
    /// How long fetching takes, in seconds; stages fetch at the same time.
    pub move_s: f64,
}

impl Plan {
    /// From its stages.
    #[must_use]
    pub(crate) fn new(
        stages: Vec<PlanStage>,
        return_s: f64,
        move_s: f64,
        speculation: Speculation,
    ) -> Self {
        let links: f64 = stages.iter().map(|stage| stage.link_s).sum::<f64>() + return_s;
        let computing: f64 = stages.iter().map(|stage| stage.compute_s).sum();
        let slowest_s = stages.iter().map(|stage| stage.compute_s).fold(0.0, f64::max);
        let law = Law { slowest_s, ring_s: links + computing, speculation };
        let bytes_to_move = stages.iter().map(|stage| stage.bytes_to_move).sum();
        let tokens_per_s = law.tokens_per_s();
        let return_is_relayed = None;
        Self { stages, return_s, return_is_relayed, law, tokens_per_s, bytes_to_move, move_s }
    }

    /// What plans are compared by: seconds for a horizon of tokens, fetching included.
    #[must_use]
    pub fn cost_s(&self) -> f64 {
        self.law.token_s() * crate::limits::HORIZON_TOKENS + self.move_s
    }
}

/// Why there is no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Nobody offers the package or has room for a layer of it.
    #[error("no member can hold a layer of the package, invite more machines")]
    NoCandidate,
    /// All candidates together do not hold all layers.
    #[error(
        "the members hold {layers} of {layer_count} layers, free memory or invite more machines"
    )]
    TooSmall {
        /// As far as the best attempt came.
        layers: u16,
        /// All.
        layer_count: u16,
    },
    /// The head is not among the members.
    #[error("this node has not described itself yet")]
    NoHead,
}
