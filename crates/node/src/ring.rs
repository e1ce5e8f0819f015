//! What a gateway sees of a ring: a [`Generate`] like any other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use shoal_base::{
    EventSink, Generate, GenerateError, Generation, Grammar, ModelCard, Prompt, Request, Route,
    TokenId,
};
use shoal_engine::{Accepted, Intake};
use shoal_swarm::Plan;
use shoal_wire::{RequestId, RingId, RouteStage};
use tokio::sync::mpsc::UnboundedSender;

use crate::driver::{Command, Submit};
use crate::head::Asked;
use crate::limits::{OPEN_MAX, RETRY_AFTER_MS};

/// Digits of a node's id in a route: enough to tell the nodes of a swarm apart.
const NODE_DIGITS: usize = 16;

/// What a console shows of a ring.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RingStatus {
    /// The present generation.
    pub generation: u32,
    /// The present route; empty without one.
    pub stages: Vec<RouteStage>,
    /// Whether frames flow.
    pub is_ready: bool,
    /// Stages that were replaced since the start.
    pub replaced: u64,
    /// Positions that were computed again since the start.
    pub replayed_tokens: u64,
    /// The best plan at present, where a swarm is planned with.
    pub plan: Option<Plan>,
    /// Why there is no plan; empty when there is one.
    pub why: String,
    /// What last went wrong, naming the peer; empty when nothing did.
    pub trouble: String,
}

/// What the loop and the one who asks share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Requests that run or wait.
    pub(crate) open: AtomicUsize,
    pub(crate) status: Mutex<RingStatus>,
}

impl Shared {
    /// A request is over.
    pub(crate) fn close_one(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The head of a ring. Dropping it gives the stages back.
#[derive(Debug)]
pub struct RingHead {
    pub(crate) ring: RingId,
    pub(crate) intake: Intake,
    pub(crate) commands: UnboundedSender<Command>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) next_request: Mutex<u64>,
}

impl RingHead {
    /// The ring as it is now.
    #[must_use]
    pub fn status(&self) -> RingStatus {
        self.shared.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Requests that run or wait.
    #[must_use]
    pub fn open_requests(&self) -> usize {
        self.shared.open.load(Ordering::Acquire)
    }

    /// Takes one of the places for requests.
    fn take_place(&self) -> Result<(), GenerateError> {
        let more = |open: usize| (open < OPEN_MAX).then_some(open + 1);
        let taken = self.shared.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.map(drop).map_err(|_| GenerateError::Overloaded { retry_after_ms: RETRY_AFTER_MS })
    }
}

impl Drop for RingHead {
    fn drop(&mut self) {
        // A node that has stopped has no ring either.
        let _ = self.commands.send(Command::EndRing(self.ring));
    }
}

impl Generate for RingHead {
    fn card(&self) -> &ModelCard {
        self.intake.card()
    }

    fn route(&self) -> Route {
        let stages = self.status().stages;
        let stage = |stage: &RouteStage| {
            let (node, layers) = (stage.node.to_string(), stage.layers);
            format!("{}:{}-{}", &node[..NODE_DIGITS], layers.first, layers.end - 1)
        };
        let stages: Vec<String> = stages.iter().map(stage).collect();
        Route::Nodes(if stages.is_empty() { "swarm".to_owned() } else { stages.join(",") })
    }

    fn submit(
        &self,
        request: Request,
        sink: Box<dyn EventSink>,
    ) -> Result<Arc<dyn Generation>, GenerateError> {
        let Accepted { tokens, answer } = self.intake.accept(&request)?;
        self.take_place()?;
        let prompt_tokens = tokens.len() as u32;
        let asked = Box::new(Asked { answer, sink, prompt_tokens, arrived: Instant::now() });
        // Numbers arrive in the order in which they are given.
        let mut next = self.next_request.lock().unwrap_or_else(PoisonError::into_inner);
        let request = RequestId(*next);
        *next += 1;
        let submit = Submit { ring: self.ring, request, tokens, asked };
        let sent = self.commands.send(Command::Submit(Box::new(submit)));
        drop(next);
        sent.map_err(|_| GenerateError::ShuttingDown)?;
        Ok(Arc::new(Handle { ring: self.ring, request, commands: self.commands.clone() }))
    }

    fn embed(&self, _inputs: &[Prompt]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let rule = "is held by this machine alone, or it gives no embeddings".to_owned();
        Err(GenerateError::Parameter { name: "model", rule })
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<TokenId>, GenerateError> {
        self.intake.tokenize(prompt)
    }

    fn detokenize(&self, ids: &[TokenId]) -> Result<String, GenerateError> {
        self.intake.detokenize(ids)
    }

    fn check_grammar(&self, grammar: &Grammar) -> Result<(), GenerateError> {
        self.intake.check_grammar(grammar)
    }
}

struct Handle {
    ring: RingId,
    request: RequestId,
    commands: UnboundedSender<Command>,
}

impl Generation for Handle {
    fn cancel(&self) {
        // A node that has stopped has ended the request already.
        let _ = self.commands.send(Command::Cancel { ring: self.ring, request: self.request });
    }
}
