//! The layers a node computes for others: leases, frames, queue, credit, replay. Spec 03, 5 and 6.
//!
//! Owns: which head may use this node, what each request's sequence is, in which order frames are
//! computed, what is sent where. Does not own: the weights, the caches, the arithmetic: the driver
//! computes what [`StageEffect::Compute`] says and comes back with [`StageEvent::Computed`].
//!
//! Invariants: one batch is computed at a time; frames of a lower generation or a dead epoch
//! change nothing; a ring never holds more frames than its credit.

mod frames;
mod lease;
mod ring;
mod work;

use std::collections::BTreeMap;

use shoal_base::{Blame, Digest, PackageId, SharedBytes};
use shoal_wire::{
    EndReason, Fault, FaultCode, Frame, FrameHeader, GenerationId, LayerRange, Message, NodeId,
    RequestId, RingId,
};

use crate::{Moment, limits};
use ring::Ring;

/// What a node has of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Version of the arithmetic.
    pub arithmetic: u16,
    /// Elements of a row.
    pub width: u32,
    /// In memory.
    pub loaded: Vec<LayerRange>,
    /// On disk.
    pub held: Vec<LayerRange>,
    /// Room for caches: tokens times layers.
    pub cache_token_layers: u64,
}

/// What the owner of a node allows.
#[derive(Clone, Copy, Debug)]
pub struct StageConfig {
    /// Frames of decode that are computed together.
    pub batch_max: usize,
    /// Memory for rows that may have to be sent again.
    pub log_bytes_max: usize,
    /// Share of the room for caches one other head may have, in percent.
    pub head_share_percent: u8,
    /// Longest lease.
    pub ttl_ms_max: u32,
}

impl Default for StageConfig {
    fn default() -> Self {
        Self { batch_max: 16, log_bytes_max: 256 << 20, head_share_percent: 50, ttl_ms_max: 15_000 }
    }
}

/// Rows to compute.
#[derive(Clone, Debug)]
pub struct Work {
    /// The ring.
    pub ring: RingId,
    /// The model.
    pub package: PackageId,
    /// The layers.
    pub layers: LayerRange,
    /// The frame. Its position is where the cache of the request is to be cut first.
    pub frame: Frame,
}

/// Rows that were computed.
#[derive(Clone, Debug)]
pub struct Output {
    /// That of the work.
    pub header: FrameHeader,
    /// As many rows as the work had, after the last layer; `None`: a number was not finite.
    pub rows: Option<SharedBytes>,
    /// The prefix root after each row.
    pub roots: Vec<Digest>,
}

/// What happens to a stage.
#[derive(Clone, Debug)]
pub enum StageEvent {
    /// A message of a peer that the gate let in.
    Message {
        /// Who.
        from: NodeId,
        /// What.
        message: Box<Message>,
    },
    /// A frame.
    Frame {
        /// Who sent it.
        from: NodeId,
        /// The frame.
        frame: Frame,
    },
    /// The batch that was asked for.
    Computed(Vec<Output>),
    /// A peer cannot be reached.
    PeerLost(NodeId),
    /// A head may no longer use this node.
    Forbid(NodeId),
    /// Layers were loaded or dropped, or there is more or less memory.
    Holding {
        /// The model.
        package: PackageId,
        /// What there is now; `None`: nothing.
        holding: Option<Holding>,
    },
    /// No new leases; those there are end when their heads have moved.
    Drain {
        /// How long they are served at most.
        drain_ms: u32,
    },
    /// New leases again.
    Resume,
    /// Time passes.
    Tick,
}

/// What a stage wants done.
#[derive(Clone, Debug)]
pub enum StageEffect {
    /// Send a message.
    Send {
        /// To whom.
        to: NodeId,
        /// The message.
        message: Box<Message>,
    },
    /// Send a frame.
    SendFrame {
        /// To whom.
        to: NodeId,
        /// The frame.
        frame: Frame,
    },
    /// Compute these, in order, and come back with as many outputs.
    Compute(Vec<Work>),
    /// Drop caches: of one request, or of a whole ring.
    Forget {
        /// The ring.
        ring: RingId,
        /// The request; `None`: all of them.
        request: Option<RequestId>,
    },
}

/// A generation that was seen of a ring whose lease has ended.
#[derive(Clone, Copy, Debug)]
struct PastRing {
    head: NodeId,
    generation: GenerationId,
    until: Moment,
}

/// All leases of a node.
#[derive(Debug)]
pub struct Stage {
    node: NodeId,
    config: StageConfig,
    holdings: BTreeMap<PackageId, Holding>,
    rings: BTreeMap<RingId, Ring>,
    past: BTreeMap<RingId, PastRing>,
    /// A batch is being computed.
    is_busy: bool,
    /// Where the next batch starts to look, so that no ring waits for ever.
    last_served: RingId,
    decode_run: u32,
    log_bytes: usize,
    /// No new leases, and until when those there are may last.
    drains_until: Option<Moment>,
}

impl Stage {
    /// A node without leases.
    #[must_use]
    pub fn new(node: NodeId, config: StageConfig) -> Self {
        Self {
            node,
            config,
            holdings: BTreeMap::new(),
            rings: BTreeMap::new(),
            past: BTreeMap::new(),
            is_busy: false,
            last_served: RingId([0; 16]),
            decode_run: 0,
            log_bytes: 0,
            drains_until: None,
        }
    }

    /// Feeds an event.
    pub fn handle(&mut self, event: StageEvent, now: Moment, out: &mut Vec<StageEffect>) {
        match event {
            StageEvent::Message { from, message } => self.message(from, *message, now, out),
            StageEvent::Frame { from, frame } => self.frame(from, frame, now, out),
            StageEvent::Computed(outputs) => self.computed(outputs, out),
            StageEvent::PeerLost(peer) => self.peer_lost(peer, out),
            StageEvent::Forbid(head) => self.forbid(head, now, out),
            StageEvent::Holding { package, holding } => self.hold(package, holding, now, out),
            StageEvent::Drain { drain_ms } => self.drain(drain_ms, now, out),
            StageEvent::Resume => self.drains_until = None,
            StageEvent::Tick => self.tick(now, out),
        }
        self.start_batch(out);
    }

    /// When a tick is due: the first lease to expire.
    #[must_use]
    pub fn wake_at(&self) -> Option<Moment> {
        let drained = self.drains_until.filter(|_| !self.rings.is_empty());
        self.rings.values().map(|ring| ring.expires).chain(drained).min()
    }

    /// Leases at present.
    #[must_use]
    pub fn ring_count(&self) -> usize {
        self.rings.len()
    }

    /// The most frames any ring holds, queued or waiting for credit.
    #[must_use]
    pub fn queued_frames_max(&self) -> usize {
        self.rings.values().map(Ring::held_frames).max().unwrap_or(0)
    }

    /// Bytes of rows kept to be sent again.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    fn message(&mut self, from: NodeId, message: Message, now: Moment, out: &mut Vec<StageEffect>) {
        match message {
            Message::LeaseRequest(request) => self.lease_request(from, &request, now, out),
            Message::LeaseRenew(renew) => self.lease_renew(from, renew, now, out),
            Message::LeaseRelease(release) => {
                let ours = self.rings.get(&release.ring);
                if ours.is_some_and(|r| r.head() == from && r.generation == release.generation) {
                    self.end_ring(release.ring, now, out);
                }
            }
            Message::Credit(credit) => self.credit(from, credit, out),
            Message::Replay(replay) => self.replay(from, replay, out),
            _ => send_fault(out, from, None, None, FaultCode::Unexpected, (0, 0)),
        }
    }

    fn peer_lost(&mut self, peer: NodeId, out: &mut Vec<StageEffect>) {
        for (id, ring) in &mut self.rings {
            if ring.next() == Some(peer) {
                let got = u64::from(ring.stage) + 1;
                let at = Some((*id, ring.generation));
                send_fault(out, ring.head(), at, None, FaultCode::Unreachable, (got, 0));
            }
            if ring.shadow() == Some(peer) {
                ring.lose_shadow();
            }
        }
    }

    fn forbid(&mut self, head: NodeId, now: Moment, out: &mut Vec<StageEffect>) {
        let all = self.rings.iter().filter(|(_, ring)| ring.head() == head);
        let all: Vec<RingId> = all.map(|(id, _)| *id).collect();
        for id in all {
            self.end_lease(id, EndReason::Forbidden, now, out);
        }
    }

    /// Tokens of cache that one more head could have for the layers of a package.
    #[must_use]
    pub fn cache_tokens_free(&self, package: PackageId) -> u32 {
        let Some(holding) = self.holdings.get(&package) else {
            return 0;
        };
        let leases = self.rings.values().map(Ring::admission).filter(|a| a.package == package);
        let used: u64 =
            leases.map(|a| u64::from(a.cache_tokens) * u64::from(a.layers.count())).sum();
        let layers: u64 = holding.loaded.iter().map(|range| u64::from(range.count())).sum();
        let total = holding.cache_token_layers;
        let share = total.saturating_mul(self.config.head_share_percent.into()) / 100;
        let free = total.saturating_sub(used).min(share) / layers.max(1);
        u32::try_from(free).unwrap_or(u32::MAX)
    }

    fn hold(
        &mut self,
        package: PackageId,
        holding: Option<Holding>,
        now: Moment,
        out: &mut Vec<StageEffect>,
    ) {
        match holding {
            Some(holding) => drop(self.holdings.insert(package, holding)),
            None => drop(self.holdings.remove(&package)),
        }
        let lost: Vec<RingId> = self
            .rings
            .iter()
            .filter(|(_, ring)| ring.admission().package == package && !self.still_loaded(ring))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            self.end_lease(id, EndReason::Owner, now, out);
        }
    }

    fn still_loaded(&self, ring: &Ring) -> bool {
        let admission = ring.admission();
        let holding = self.holdings.get(&admission.package);
        holding.is_some_and(|h| h.loaded.iter().any(|range| range.covers(admission.layers)))
    }

    fn tick(&mut self, now: Moment, out: &mut Vec<StageEffect>) {
        let over = self.rings.iter().filter(|(_, ring)| ring.expires <= now);
        let over: Vec<RingId> = over.map(|(id, _)| *id).collect();
        for id in over {
            self.tell_end(id, EndReason::Expired, 0, out);
            self.end_ring(id, now, out);
        }
        self.end_drained(now, out);
        self.past.retain(|_, past| past.until > now);
    }

    /// Ends a lease and remembers its generation.
    fn end_ring(&mut self, id: RingId, now: Moment, out: &mut Vec<StageEffect>) {
        let Some(ring) = self.rings.remove(&id) else {
            return;
        };
        self.log_bytes -= ring.log_bytes();
        let until = now + limits::PAST_RING_FOR;
        let past = PastRing { head: ring.head(), generation: ring.generation, until };
        self.past.insert(id, past);
        if self.past.len() > limits::PAST_RINGS_MAX {
            let first = self.past.iter().min_by_key(|(_, past)| past.until);
            let first = first.map(|(id, _)| *id).expect("there are entries");
            self.past.remove(&first);
        }
        out.push(StageEffect::Forget { ring: id, request: None });
    }
}

/// Tells a peer what went wrong.
fn send_fault(
    out: &mut Vec<StageEffect>,
    to: NodeId,
    at: Option<(RingId, GenerationId)>,
    request: Option<RequestId>,
    code: FaultCode,
    (got, limit): (u64, u64),
) {
    let blame = match code {
        FaultCode::CacheFull | FaultCode::LogGone | FaultCode::Resources => Blame::Local,
        FaultCode::NoLease | FaultCode::Quota => Blame::Caller,
        _ => Blame::Peer,
    };
    let message = Box::new(Message::Fault(Fault {
        code,
        blame,
        ring: at.map(|(ring, _)| ring),
        generation: at.map_or(GenerationId(0), |(_, generation)| generation),
        request,
        got,
        limit,
    }));
    out.push(StageEffect::Send { to, message });
}
