//! The life of a request: admitted, its prompt sent in pieces, token after token, finished.

use std::collections::VecDeque;

use shoal_base::TokenId;
use shoal_wire::limits::{THROUGH, VERSION};
use shoal_wire::{
    Epoch, Frame, FrameHeader, FrameKind, Message, PayloadFormat, Replay, RequestId, Version, flags,
};

use super::ring::State;
use super::{AdmitError, Failure, Head, HeadEffect, Submission};
use crate::credit::Amount;
use crate::{Moment, limits};

/// Stages without the caches of a request, and from which position on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) first: u8,
    pub(super) last: u8,
    pub(super) from: u32,
}

/// A reply that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    /// The first position after the frame.
    pub(super) end: u32,
    /// Rows that come back.
    pub(super) rows: u16,
}

/// A request that runs or waits.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: RequestId,
    /// Prompt and answer.
    pub(super) tokens: Vec<TokenId>,
    pub(super) prompt_len: u32,
    pub(super) tokens_max: u32,
    pub(super) epoch: Epoch,
    /// Positions that all stages have computed.
    pub(super) done: u32,
    /// Positions that were sent in this epoch.
    pub(super) sent: u32,
    pub(super) sequence: u32,
    pub(super) due: VecDeque<Due>,
    pub(super) missing: Option<Missing>,
    /// A replay by a stage is under way.
    pub(super) is_replaying: bool,
    /// The driver samples.
    pub(super) is_sampling: bool,
    /// Whether any stage may know of it.
    pub(super) is_started: bool,
    /// How often a stage had no room for it.
    pub(super) refusals: u32,
    pub(super) progress: Moment,
}

impl Live {
    fn new(submission: Submission, now: Moment) -> Self {
        Self {
            id: submission.request,
            prompt_len: submission.tokens.len() as u32,
            tokens: submission.tokens,
            tokens_max: submission.tokens_max,
            epoch: Epoch(0),
            done: 0,
            sent: 0,
            sequence: 0,
            due: VecDeque::new(),
            missing: None,
            is_replaying: false,
            is_sampling: false,
            is_started: false,
            refusals: 0,
            progress: now,
        }
    }

    /// Tokens it may come to.
    fn room(&self) -> u64 {
        u64::from(self.prompt_len) + u64::from(self.tokens_max)
    }

    pub(super) fn length(&self) -> u32 {
        self.tokens.len() as u32
    }

    /// Whether replies are due.
    pub(super) fn is_waiting(&self) -> bool {
        !self.due.is_empty() || self.is_replaying
    }

    /// A new generation: what was under way is void. `fresh`: stages without caches, and whether
    /// they were shadows, which have nearly all.
    pub(super) fn interrupt(&mut self, fresh: &[(usize, bool)], stage_count: usize) {
        let mut missing = self.missing.take().filter(|m| usize::from(m.last) < stage_count);
        if self.done > 0 {
            for (index, was_shadow) in fresh {
                let from = if *was_shadow { self.done } else { 0 };
                missing = Some(widen(missing, *index as u8, from));
            }
        }
        self.missing = missing.filter(|missing| missing.from < self.done);
        self.sequence = 0;
        self.restart();
    }

    /// A new epoch from the last position that is done.
    pub(super) fn restart(&mut self) {
        if self.is_started {
            self.epoch = Epoch(self.epoch.0 + 1);
        }
        self.due.clear();
        self.is_replaying = false;
        self.sent = match self.missing {
            Some(missing) if missing.first == 0 => missing.from,
            _ => self.done,
        };
    }
}

/// The range of stages from which on caches are missing, with one more.
pub(super) fn widen(missing: Option<Missing>, stage: u8, from: u32) -> Missing {
    let missing = missing.unwrap_or(Missing { first: stage, last: stage, from });
    Missing {
        first: missing.first.min(stage),
        last: missing.last.max(stage),
        from: missing.from.min(from),
    }
}

impl Head {
    pub(super) fn submit(&mut self, submission: Submission, now: Moment) -> Result<(), AdmitError> {
        if submission.request < self.next_request {
            return Err(AdmitError::Repeated);
        }
        if submission.tokens.is_empty() || submission.tokens_max == 0 {
            return Err(AdmitError::Empty);
        }
        let (prompt, answer) = (submission.tokens.len() as u64, u64::from(submission.tokens_max));
        let limit = self.policy.context_tokens.min(self.policy.cache_tokens);
        if prompt + answer > limit.into() {
            return Err(AdmitError::Context { prompt, answer, limit });
        }
        if self.waiting.len() >= limits::WAITING_MAX {
            return Err(AdmitError::Busy { limit: limits::WAITING_MAX });
        }
        self.next_request = RequestId(submission.request.0 + 1);
        self.waiting.push_back(Live::new(submission, now));
        Ok(())
    }

    /// Lets waiting requests start as far as the caches allow, and sends what can be sent.
    pub(super) fn advance(
        &mut self,
        now: Moment,
        scout: &mut dyn super::Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        self.admit(now);
        if !self.live.is_empty() {
            self.idle_since = now;
            self.find_route(now, scout, out);
            self.see_to_shadows(now, scout, out);
        }
        if self.state != State::Ready {
            return;
        }
        let ids: Vec<RequestId> = self.live.keys().copied().collect();
        for id in ids {
            self.start_replay(id, out);
            while self.send_piece(id, now, out) {}
        }
    }

    fn admit(&mut self, now: Moment) {
        while let Some(first) = self.waiting.front() {
            let used: u64 = self.live.values().map(Live::room).sum();
            let fits = used + first.room() <= self.policy.cache_tokens.into();
            if !fits || self.live.len() >= usize::from(self.policy.requests) {
                return;
            }
            let mut live = self.waiting.pop_front().expect("there is a first one");
            live.progress = now;
            if self.live.values().all(|other| !other.is_waiting()) {
                self.progress = now;
            }
            self.weigh_shadows(live.room());
            self.live.insert(live.id, live);
        }
    }

    /// Asks the stage before the ones without caches to send its rows again.
    fn start_replay(&mut self, id: RequestId, out: &mut Vec<HeadEffect>) {
        let Some(live) = self.live.get_mut(&id) else {
            return;
        };
        let Some(missing) = live.missing.filter(|m| m.first > 0 && !live.is_replaying) else {
            return;
        };
        live.is_replaying = true;
        live.due.clear();
        self.replayed_tokens += u64::from(live.done - missing.from);
        let to = self.links[usize::from(missing.first) - 1].stage.node;
        let message = Box::new(Message::Replay(Replay {
            ring: self.ring,
            generation: self.generation,
            request: id,
            epoch: live.epoch,
            from: missing.from,
            end: live.done,
            last_stage: missing.last,
        }));
        out.push(HeadEffect::Send { to, message });
    }

    /// Sends the next rows of a request, if any are due and there is credit. Says whether it did.
    fn send_piece(&mut self, id: RequestId, now: Moment, out: &mut Vec<HeadEffect>) -> bool {
        let Some(live) = self.live.get_mut(&id) else {
            return false;
        };
        let replay = live.missing;
        let end = if replay.is_some() { live.done } else { live.length() };
        let may_send = !live.is_replaying && !live.is_sampling || replay.is_some();
        if live.is_replaying || !may_send || live.sent >= end {
            return false;
        }
        if live.due.len() >= limits::PIECES_MAX {
            return false;
        }
        let rows = (end - live.sent).min(self.policy.frame_rows.into());
        let bytes = FrameHeader::payload_bytes_of(
            FrameKind::Prefill,
            u16::try_from(rows).expect("at most the rows of a frame"),
            self.model.width,
        );
        if !self.credit.take(Amount { frames: 1, bytes }) {
            return false;
        }
        let piece_end = live.sent + rows;
        let is_last = replay.is_none() && piece_end == live.length();
        let is_decode = replay.is_none() && live.sent >= live.prompt_len;
        let header = FrameHeader {
            kind: if is_decode { FrameKind::Decode } else { FrameKind::Prefill },
            version: Version(VERSION),
            flags: if replay.is_some() { flags::REPLAY } else { 0 },
            ring: self.ring,
            generation: self.generation,
            request: id,
            epoch: live.epoch,
            position: live.sent,
            rows: rows as u16,
            reply_rows: u16::from(is_last),
            width: self.model.width,
            committed: if replay.is_some() { 0 } else { live.done.min(live.sent) },
            sequence: live.sequence,
            payload_bytes: u32::try_from(bytes).expect("the admission was checked"),
            stage: 0,
            last_stage: replay.map_or(THROUGH, |missing| missing.last),
            lane: self.policy.lane,
            payload: PayloadFormat::Bf16,
        };
        let tokens = live.tokens[live.sent as usize..piece_end as usize].to_vec();
        if replay.is_some() {
            self.replayed_tokens += u64::from(rows);
        }
        if self.live.values().all(|live| !live.is_waiting()) {
            self.progress = now;
        }
        let live = self.live.get_mut(&id).expect("it was found above");
        live.due.push_back(Due { end: piece_end, rows: u16::from(is_last) });
        live.sent = piece_end;
        live.sequence += 1;
        live.is_started = true;
        self.send_rows(header, tokens, out);
        true
    }

    /// To the first stage, and a copy to its shadow.
    fn send_rows(&mut self, header: FrameHeader, tokens: Vec<TokenId>, out: &mut Vec<HeadEffect>) {
        let first = self.links[0].stage;
        let amount = Amount { frames: 1, bytes: header.payload_bytes.into() };
        if !self.shadow_credit.as_mut().is_some_and(|credit| credit.take(amount)) {
            // A shadow that is gone or cannot keep up must not slow down the ring.
            self.shadow_credit = None;
        }
        if let (Some(to), Some(_)) = (first.shadow, self.shadow_credit) {
            let header = FrameHeader { flags: header.flags | flags::SHADOW, ..header };
            out.push(HeadEffect::SendRows { to, header, tokens: tokens.clone() });
        }
        out.push(HeadEffect::SendRows { to: first.node, header, tokens });
    }

    pub(super) fn sampled(
        &mut self,
        request: RequestId,
        token: TokenId,
        is_last: bool,
        now: Moment,
        out: &mut Vec<HeadEffect>,
    ) {
        let Some(live) = self.live.get_mut(&request).filter(|live| live.is_sampling) else {
            return;
        };
        live.is_sampling = false;
        live.progress = now;
        let index = live.length() - live.prompt_len;
        live.tokens.push(token);
        out.push(HeadEffect::Token { request, index, token });
        if is_last || index + 1 >= live.tokens_max {
            self.finish(request, None, now, out);
        }
    }

    /// Ends a request, wherever it is.
    pub(super) fn finish(
        &mut self,
        request: RequestId,
        failure: Option<Failure>,
        now: Moment,
        out: &mut Vec<HeadEffect>,
    ) {
        if let Some(index) = self.waiting.iter().position(|live| live.id == request) {
            self.waiting.remove(index);
            out.push(HeadEffect::Finished { request, failure });
            return;
        }
        let Some(live) = self.live.remove(&request) else {
            return;
        };
        self.idle_since = now;
        if live.is_started && self.state == State::Ready {
            self.send_cancel(&live, out);
        }
        out.push(HeadEffect::Finished { request, failure });
    }

    fn send_cancel(&self, live: &Live, out: &mut Vec<HeadEffect>) {
        let header = FrameHeader {
            kind: FrameKind::Cancel,
            version: Version(VERSION),
            flags: 0,
            ring: self.ring,
            generation: self.generation,
            request: live.id,
            epoch: live.epoch,
            position: live.done,
            rows: 0,
            reply_rows: 0,
            width: 0,
            committed: 0,
            sequence: live.sequence,
            payload_bytes: 0,
            stage: 0,
            last_stage: THROUGH,
            lane: self.policy.lane,
            payload: PayloadFormat::Bf16,
        };
        let rows = shoal_base::SharedBytes::new(Vec::new());
        let frame = Frame { header, root: None, rows };
        let first = &self.links[0].stage;
        let shadow = first.shadow.filter(|_| self.shadow_credit.is_some());
        for to in [Some(first.node), shadow].into_iter().flatten() {
            out.push(HeadEffect::SendFrame { to, frame: frame.clone() });
        }
    }
}
