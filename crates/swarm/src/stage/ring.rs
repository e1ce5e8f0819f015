//! One lease: its requests, its queue, and the credit on both of its edges.

use std::collections::{BTreeMap, VecDeque};

use shoal_wire::{
    Admission, Duty, Epoch, Frame, FrameKind, GenerationId, LeaseRequest, NodeId, Replay, RequestId,
};

use crate::credit::Amount;
use crate::{ActivationLog, Moment};

/// A request at this stage.
#[derive(Debug)]
pub(super) struct Sequence {
    pub(super) epoch: Epoch,
    /// Positions that are computed or queued.
    pub(super) length: u32,
    pub(super) committed: u32,
    pub(super) sequence_in: u32,
    pub(super) sequence_out: u32,
    /// Frames that arrived before an earlier one.
    pub(super) early: BTreeMap<u32, Frame>,
    pub(super) log: ActivationLog,
    /// Of its last frame.
    pub(super) generation: GenerationId,
}

impl Sequence {
    pub(super) fn new(row_bytes: usize, generation: GenerationId) -> Self {
        Self {
            generation,
            epoch: Epoch(0),
            length: 0,
            committed: 0,
            sequence_in: 0,
            sequence_out: 0,
            early: BTreeMap::new(),
            log: ActivationLog::new(row_bytes),
        }
    }
}

/// One lease.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) request: LeaseRequest,
    pub(super) generation: GenerationId,
    pub(super) stage: u8,
    pub(super) expires: Moment,
    pub(super) sequences: BTreeMap<RequestId, Sequence>,
    pub(super) decode: VecDeque<Frame>,
    pub(super) prefill: VecDeque<Frame>,
    /// Computed, waiting for credit.
    pub(super) outbox: VecDeque<Frame>,
    pub(super) replays: VecDeque<Replay>,
    /// What may still be sent on.
    pub(super) credit: Amount,
    pub(super) shadow_credit: Option<Amount>,
    /// Frames that are being computed.
    pub(super) computing: u16,
    /// What is held here and counts against the credit of the sender.
    pub(super) held: Amount,
    /// What the sender gets back with the next message.
    pub(super) owed: Amount,
    /// Requests that had to make room, and are to be forgotten by the driver too.
    pub(super) evicted: Vec<(RequestId, usize)>,
}

impl Ring {
    pub(super) fn new(request: LeaseRequest, expires: Moment) -> Self {
        let mut ring = Self {
            generation: request.generation,
            stage: request.stage,
            request,
            expires,
            sequences: BTreeMap::new(),
            decode: VecDeque::new(),
            prefill: VecDeque::new(),
            outbox: VecDeque::new(),
            replays: VecDeque::new(),
            credit: Amount::default(),
            shadow_credit: None,
            computing: 0,
            held: Amount::default(),
            owed: Amount::default(),
            evicted: Vec::new(),
        };
        ring.reset_edges();
        ring
    }

    /// A later generation of the same ring with the same layers: edges start anew, caches stay.
    pub(super) fn renew(&mut self, request: LeaseRequest, expires: Moment) {
        // What was queued is gone, so the sequences are as long as what was computed and logged.
        for frame in self.decode.iter().chain(&self.prefill) {
            if let Some(sequence) = self.sequences.get_mut(&frame.header.request) {
                sequence.length = sequence.length.min(frame.header.position);
            }
        }
        self.generation = request.generation;
        self.stage = request.stage;
        self.request = request;
        self.expires = expires;
        for sequence in self.sequences.values_mut() {
            (sequence.sequence_in, sequence.sequence_out) = (0, 0);
            sequence.early.clear();
        }
        self.decode.clear();
        self.prefill.clear();
        self.outbox.clear();
        self.replays.clear();
        self.reset_edges();
    }

    fn reset_edges(&mut self) {
        self.credit = Amount::full(&self.request.admission);
        let of_shadow = Amount::of_shadow(&self.request.admission);
        self.shadow_credit = self.shadow().map(|_| of_shadow);
        self.held = Amount::default();
        self.owed = Amount::default();
    }

    pub(super) fn admission(&self) -> &Admission {
        &self.request.admission
    }

    /// What this stage may hold for whoever is before it.
    pub(super) fn credit_in(&self) -> Amount {
        match self.request.duty {
            Duty::Shadow => Amount::of_shadow(self.admission()),
            Duty::Primary | Duty::Warm => Amount::full(self.admission()),
        }
    }

    pub(super) fn head(&self) -> NodeId {
        self.request.route.head
    }

    /// Who sends frames here.
    pub(super) fn previous(&self) -> NodeId {
        match usize::from(self.stage).checked_sub(1) {
            None => self.head(),
            Some(index) => self.request.route.stages[index].node,
        }
    }

    /// Who gets frames from here; `None`: the head.
    pub(super) fn next(&self) -> Option<NodeId> {
        self.request.route.stages.get(usize::from(self.stage) + 1).map(|stage| stage.node)
    }

    /// Who gets copies of what the next stage gets.
    pub(super) fn shadow(&self) -> Option<NodeId> {
        let is_primary = self.request.duty == Duty::Primary;
        let next = self.request.route.stages.get(usize::from(self.stage) + 1);
        next.and_then(|stage| stage.shadow).filter(|_| is_primary)
    }

    pub(super) fn lose_shadow(&mut self) {
        self.shadow_credit = None;
    }

    pub(super) fn held_frames(&self) -> usize {
        let early: usize = self.sequences.values().map(|sequence| sequence.early.len()).sum();
        early + self.decode.len() + self.prefill.len() + self.outbox.len()
    }

    pub(super) fn log_bytes(&self) -> usize {
        self.sequences.values().map(|sequence| sequence.log.bytes()).sum()
    }

    /// Tokens of all requests.
    pub(super) fn cached_tokens(&self) -> u64 {
        self.sequences.values().map(|sequence| u64::from(sequence.length)).sum()
    }

    /// Drops a request of which no frame came in this generation. Its cancel may have been lost
    /// with an earlier one. If it lives after all, its next frame is a gap, and it is replayed.
    pub(super) fn evict_stale(&mut self) -> bool {
        let is_stale = |sequence: &Sequence| sequence.generation < self.generation;
        let stale = self.sequences.iter().find(|(_, sequence)| is_stale(sequence));
        let Some(request) = stale.map(|(request, _)| *request) else {
            return false;
        };
        let gone = self.sequences.remove(&request);
        self.evicted.push((request, gone.map_or(0, |sequence| sequence.log.bytes())));
        true
    }

    /// Puts a frame into the queue. A decode frame never overtakes the prompt it follows.
    pub(super) fn enqueue(&mut self, frame: Frame) {
        let request = frame.header.request;
        let waits = self.prefill.iter().any(|other| other.header.request == request);
        match frame.header.kind {
            FrameKind::Decode if !waits => self.decode.push_back(frame),
            _ => self.prefill.push_back(frame),
        }
    }

    /// Removes queued frames of a request below an epoch, and what they held.
    pub(super) fn drop_dead(&mut self, request: RequestId, below: Epoch) {
        let mut dropped = Amount::default();
        let mut keep = |frame: &Frame| {
            let is_dead = frame.header.request == request && frame.header.epoch < below;
            if is_dead {
                dropped.add(Amount::of(frame));
            }
            !is_dead
        };
        self.decode.retain(&mut keep);
        self.prefill.retain(&mut keep);
        self.owed.add(dropped);
        self.replays.retain(|replay| replay.request != request || replay.epoch >= below);
    }
}
