//! One ring as its head sees it: stages leased, requests run, stages replaced. Spec 03, 5 and 6.
//!
//! Owns: the generation and the route, which positions of which request have been computed, when a
//! stage counts as dead and what then happens. Does not own: tokens to rows and rows to tokens
//! (the driver embeds and samples), and which nodes are good: a [`Scout`] knows.
//!
//! Invariants: rows are taken from the present generation, epoch, stage and position only, each
//! once; a token that was emitted is never changed; each submission is answered by exactly one
//! [`HeadEffect::Finished`].

mod prepare;
mod replies;
mod requests;
mod ring;
mod shadows;
mod watch;

use std::collections::{BTreeMap, VecDeque};

use shoal_base::{Lane, SharedBytes, TokenId};
use shoal_wire::{
    Admission, Frame, FrameHeader, GenerationId, LayerRange, Message, NodeId, PayloadFormat,
    RequestId, RingId, RouteStage,
};

use crate::credit::Amount;
use crate::{ModelShape, Moment, limits};
use prepare::StandBy;
use requests::Live;
use ring::{Link, State};

/// Knows which nodes can take part. [`crate::Planner`] over [`crate::Members`] in a node.
pub trait Scout {
    /// Stages for all layers of the model, without some nodes: those that failed, the one that did
    /// so longest ago first. Where there is no way without them, that one is worth a try before the
    /// others.
    fn route(&mut self, excluded: &[NodeId]) -> Option<Vec<RouteStage>>;

    /// A node for some layers, without some nodes; the best one. It may have to load them first.
    fn spare(&mut self, layers: LayerRange, excluded: &[NodeId]) -> Option<NodeId>;

    /// A node that should have some layers in memory in case somebody dies, if nobody stands by
    /// with them, or if that is not known.
    fn stand_by(&mut self, _layers: LayerRange, _excluded: &[NodeId]) -> Option<NodeId> {
        None
    }
}

/// Which stages get a shadow, where there is a spare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shadows {
    /// None.
    Never,
    /// All, from the first request on that may come to [`limits::SHADOW_TOKENS`].
    #[default]
    Long,
    /// All.
    Always,
}

/// What a head asks of its ring.
#[derive(Clone, Copy, Debug)]
pub struct HeadPolicy {
    /// Longest sequence.
    pub context_tokens: u32,
    /// Tokens of all requests together.
    pub cache_tokens: u32,
    /// Requests at once.
    pub requests: u16,
    /// Rows in a piece of a prompt.
    pub frame_rows: u16,
    /// Frames on an edge.
    pub credit_frames: u16,
    /// Life of a lease.
    pub ttl_ms: u32,
    /// Who gets a shadow.
    pub shadows: Shadows,
    /// Whose frames come first.
    pub lane: Lane,
}

impl Default for HeadPolicy {
    fn default() -> Self {
        Self {
            context_tokens: 8192,
            cache_tokens: 16_384,
            requests: 8,
            frame_rows: 256,
            credit_frames: 16,
            ttl_ms: 15_000,
            shadows: Shadows::default(),
            lane: Lane::Interactive,
        }
    }
}

impl HeadPolicy {
    /// What each stage has to agree to.
    #[must_use]
    pub fn admission(&self, model: &ModelShape, layers: LayerRange) -> Admission {
        let row = u64::from(model.width) * 2;
        let credit = 4 * (u64::from(self.frame_rows) * row + 32);
        Admission {
            package: model.package,
            layers,
            arithmetic: model.arithmetic,
            width: model.width,
            payload: PayloadFormat::Bf16,
            context_tokens: self.context_tokens,
            cache_tokens: self.cache_tokens,
            frame_rows: self.frame_rows,
            requests: self.requests,
            credit_frames: self.credit_frames,
            credit_bytes: u32::try_from(credit).unwrap_or(u32::MAX),
        }
    }
}

/// A request to be run.
#[derive(Clone, Debug)]
pub struct Submission {
    /// Never used again in this ring.
    pub request: RequestId,
    /// The prompt.
    pub tokens: Vec<TokenId>,
    /// Most tokens of the answer.
    pub tokens_max: u32,
}

/// Why a request is not accepted. The gateway says so in the words of its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AdmitError {
    /// Prompt and answer are longer than the context.
    #[error("{prompt} tokens of the prompt and {answer} of the answer, the context has {limit}")]
    Context {
        /// Tokens of the prompt.
        prompt: u64,
        /// Tokens it may be answered with.
        answer: u64,
        /// What there is.
        limit: u32,
    },
    /// There is nothing to compute.
    #[error("an empty prompt or no tokens to answer with")]
    Empty,
    /// Too many wait already.
    #[error("{limit} requests wait already, try again later")]
    Busy {
        /// How many may wait.
        limit: usize,
    },
    /// The number was used before.
    #[error("the request id was used before")]
    Repeated,
}

/// Why a request ended before its answer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No route was found for a long time.
    NoRoute,
    /// A number was not finite: the package or a stage is broken.
    Arithmetic,
    /// A stage has no room, although it agreed to.
    NoRoom,
}

/// What happens to a head.
#[derive(Clone, Debug)]
pub enum HeadEvent {
    /// A request. Refused ones have no effect but the error.
    Submit(Submission),
    /// The client no longer wants an answer.
    Abort(RequestId),
    /// A token was sampled from the rows of [`HeadEffect::Sample`].
    Sampled {
        /// The request.
        request: RequestId,
        /// The token.
        token: TokenId,
        /// Whether the answer ends with it.
        is_last: bool,
    },
    /// A message of a stage.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: Box<Message>,
    },
    /// A reply.
    Frame {
        /// Who.
        from: NodeId,
        /// The frame.
        frame: Frame,
    },
    /// A peer cannot be reached.
    PeerLost(NodeId),
    /// A better route, worth the move. Requests go on where they are.
    Move(Vec<RouteStage>),
    /// Somebody says something new of itself: there may be a route now.
    News,
    /// Time passes. A tick is due at [`Head::wake_at`]; one that comes much later says that this
    /// node was not awake, and then silence of others counts for nothing.
    Tick,
}

/// What a head wants done.
#[derive(Clone, Debug)]
pub enum HeadEffect {
    /// Send a message.
    Send {
        /// To whom.
        to: NodeId,
        /// The message.
        message: Box<Message>,
    },
    /// Embed tokens, and send them as the rows of a frame.
    SendRows {
        /// To whom.
        to: NodeId,
        /// The header; rows, width and length are those of the tokens.
        header: FrameHeader,
        /// One per row.
        tokens: Vec<TokenId>,
    },
    /// Send a frame without rows.
    SendFrame {
        /// To whom.
        to: NodeId,
        /// The frame.
        frame: Frame,
    },
    /// Compute logits from a row and come back with [`HeadEvent::Sampled`].
    Sample {
        /// The request.
        request: RequestId,
        /// The position of the row; the token is for the next one.
        position: u32,
        /// The row after the last layer.
        row: SharedBytes,
        /// The generation it was computed in.
        generation: GenerationId,
    },
    /// Give a token to the client.
    Token {
        /// The request.
        request: RequestId,
        /// Its place in the answer.
        index: u32,
        /// The token.
        token: TokenId,
    },
    /// The request is over. Nothing follows.
    Finished {
        /// The request.
        request: RequestId,
        /// Why, when not because the answer ended or the client left.
        failure: Option<Failure>,
    },
}

/// What a console shows of a ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeadStatus {
    /// The present generation.
    pub generation: GenerationId,
    /// The present route; empty without one.
    pub stages: Vec<RouteStage>,
    /// Whether frames flow.
    pub is_ready: bool,
    /// Requests that run.
    pub live: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Stages that were replaced since the start.
    pub replaced: u64,
    /// Positions that were computed again since the start.
    pub replayed_tokens: u64,
}

/// A head of one ring.
#[derive(Debug)]
pub struct Head {
    node: NodeId,
    ring: RingId,
    model: ModelShape,
    policy: HeadPolicy,
    generation: GenerationId,
    state: State,
    links: Vec<Link>,
    /// The route of the last generation in which frames flowed.
    completed: Vec<RouteStage>,
    live: BTreeMap<RequestId, Live>,
    waiting: VecDeque<Live>,
    /// Below it every number counts as used.
    next_request: RequestId,
    /// Nodes that failed, and until when to leave them out.
    excluded: BTreeMap<NodeId, Moment>,
    /// Who was asked to hold layers in memory.
    standbys: BTreeMap<NodeId, StandBy>,
    stand_by_at: Moment,
    /// Whether a request came that is worth shadows.
    wants_shadows: bool,
    credit: Amount,
    /// That of the first stage's shadow; `None`: it gets no copies.
    shadow_credit: Option<Amount>,
    progress: Moment,
    /// The last tick.
    looked: Moment,
    idle_since: Moment,
    replaced: u64,
    replayed_tokens: u64,
}

impl Head {
    /// A head without a route. The ring's id is to be random.
    #[must_use]
    pub fn new(node: NodeId, ring: RingId, model: ModelShape, policy: HeadPolicy) -> Self {
        Self {
            node,
            ring,
            model,
            policy,
            generation: GenerationId(0),
            state: State::Idle,
            links: Vec::new(),
            completed: Vec::new(),
            live: BTreeMap::new(),
            waiting: VecDeque::new(),
            next_request: RequestId(0),
            excluded: BTreeMap::new(),
            standbys: BTreeMap::new(),
            stand_by_at: Moment(0),
            wants_shadows: policy.shadows == Shadows::Always,
            credit: Amount::default(),
            shadow_credit: None,
            progress: Moment(0),
            looked: Moment(0),
            idle_since: Moment(0),
            replaced: 0,
            replayed_tokens: 0,
        }
    }

    /// Feeds an event.
    ///
    /// # Errors
    /// When it is a submission that is refused.
    pub fn handle(
        &mut self,
        event: HeadEvent,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) -> Result<(), AdmitError> {
        match event {
            HeadEvent::Submit(submission) => self.submit(submission, now)?,
            HeadEvent::Abort(request) => self.finish(request, None, now, out),
            HeadEvent::Sampled { request, token, is_last } => {
                self.sampled(request, token, is_last, now, out);
            }
            HeadEvent::Message { from, message } => self.message(from, *message, now, scout, out),
            HeadEvent::Frame { from, frame } => self.reply(from, &frame, now, scout, out),
            HeadEvent::PeerLost(node) => {
                self.forget_stand_by(node);
                self.node_failed(node, now, scout, out);
            }
            HeadEvent::News => self.look_again(now),
            HeadEvent::Move(stages) => self.move_to(stages, now, out),
            HeadEvent::Tick => self.tick(now, scout, out),
        }
        self.advance(now, scout, out);
        Ok(())
    }

    /// The ring's id.
    #[must_use]
    pub fn ring(&self) -> RingId {
        self.ring
    }

    /// The present generation.
    #[must_use]
    pub fn generation(&self) -> GenerationId {
        self.generation
    }

    /// What a console shows.
    #[must_use]
    pub fn status(&self) -> HeadStatus {
        HeadStatus {
            generation: self.generation,
            stages: self.links.iter().map(|link| link.stage).collect(),
            is_ready: self.state == State::Ready,
            live: self.live.len(),
            waiting: self.waiting.len(),
            replaced: self.replaced,
            replayed_tokens: self.replayed_tokens,
        }
    }

    /// The nodes of the present route, shadows included.
    fn nodes(&self) -> Vec<NodeId> {
        let all = self.links.iter().flat_map(|link| [Some(link.stage.node), link.stage.shadow]);
        all.flatten().collect()
    }

    /// Nodes not to be chosen now, the one that failed longest ago first.
    fn excluded_now(&self) -> Vec<NodeId> {
        let mut all: Vec<_> = self.excluded.iter().map(|(node, until)| (*until, *node)).collect();
        all.sort_unstable();
        all.into_iter().map(|(_, node)| node).collect()
    }

    fn exclude(&mut self, node: NodeId, now: Moment) {
        self.excluded.insert(node, now + limits::EXCLUDED_FOR);
        if self.excluded.len() > limits::EXCLUDED_MAX {
            let first = self.excluded.iter().min_by_key(|(_, until)| **until);
            let first = first.map(|(node, _)| *node).expect("there are entries");
            self.excluded.remove(&first);
        }
    }
}
