//! What comes back: replies, credit, faults. Nothing is believed that was not asked for.

use shoal_wire::{
    Credit, Fault, FaultCode, Frame, FrameKind, LeaseEnd, LeaseRenewed, Message, NodeId,
};

use super::requests::widen;
use super::ring::State;
use super::{Failure, Head, HeadEffect, Scout};
use crate::Moment;
use crate::credit::Amount;
use crate::limits;

impl Head {
    pub(super) fn message(
        &mut self,
        from: NodeId,
        message: Message,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        match message {
            Message::LeaseGrant(grant)
                if grant.ring == self.ring && grant.generation == self.generation =>
            {
                self.granted(from, &grant, now, scout, out);
            }
            Message::LeaseRefusal(refusal)
                if refusal.ring == self.ring && self.nodes().contains(&from) =>
            {
                self.refused(from, refusal, now, scout, out);
            }
            Message::LeaseRenewed(renewed)
                if renewed.ring == self.ring && renewed.generation == self.generation =>
            {
                self.renewed(from, renewed, now);
            }
            Message::LeaseEnd(end) if end.ring == self.ring => {
                self.lease_ended(from, end, now, scout, out);
            }
            Message::Credit(credit) if credit.ring == self.ring => self.credit(from, credit, now),
            Message::PrepareStatus(status) if status.package == self.model.package => {
                self.prepared(from, status, now, scout, out);
            }
            Message::Fault(fault) if fault.ring == Some(self.ring) => {
                self.fault(from, &fault, now, scout, out);
            }
            _ => {}
        }
    }

    fn heard(&mut self, from: NodeId, now: Moment) {
        for link in self.links.iter_mut().filter(|link| link.stage.node == from) {
            link.heard(now);
        }
    }

    fn renewed(&mut self, from: NodeId, renewed: LeaseRenewed, now: Moment) {
        self.heard(from, now);
        for link in self.links.iter_mut().filter(|link| link.stage.node == from) {
            link.cached_tokens = renewed.cached_tokens;
            link.idle_since = match renewed.queued_frames {
                0 => link.idle_since.or(Some(now)),
                _ => None,
            };
        }
    }

    fn credit(&mut self, from: NodeId, credit: Credit, now: Moment) {
        let first = self.links.first().map(|link| link.stage);
        let (Some(first), State::Ready) = (first, self.state) else {
            return;
        };
        if credit.generation != self.generation {
            return;
        }
        let admission = self.policy.admission(&self.model, first.layers);
        let amount = Amount { frames: credit.frames.into(), bytes: credit.bytes.into() };
        if first.node == from {
            self.heard(from, now);
            self.credit.give_back(amount, Amount::full(&admission));
        } else if let (true, Some(shadow)) =
            (first.shadow == Some(from), self.shadow_credit.as_mut())
        {
            shadow.give_back(amount, Amount::of_shadow(&admission));
        }
    }

    fn lease_ended(
        &mut self,
        from: NodeId,
        end: LeaseEnd,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        if end.generation != self.generation {
            return;
        }
        let is_ours = self.nodes().contains(&from);
        if is_ours && end.drain_ms > 0 && self.live.is_empty() && self.state == State::Ready {
            // Nobody needs it: it need not wait for this ring.
            self.rest(out);
            return;
        }
        // A node that leaves still serves: it is replaced only if somebody else can take over.
        let is_stage = self.links.iter().find(|link| link.stage.node == from);
        let layers = is_stage.map(|link| link.stage.layers);
        if end.drain_ms > 0 {
            let mut taboo = self.excluded_now();
            taboo.extend(self.nodes());
            if layers.is_none_or(|layers| scout.spare(layers, &taboo).is_none()) {
                return;
            }
        }
        self.node_failed(from, now, scout, out);
    }

    fn fault(
        &mut self,
        from: NodeId,
        fault: &Fault,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        let index = self.links.iter().position(|link| link.stage.node == from);
        let (Some(index), true) = (index, fault.generation == self.generation) else {
            return;
        };
        if self.state != State::Ready {
            return;
        }
        let request = fault.request.filter(|request| self.live.contains_key(request));
        match (fault.code, request) {
            (FaultCode::Gap, Some(request)) => {
                let live = self.live.get_mut(&request).expect("it was just found");
                let from = u32::try_from(fault.limit).unwrap_or(0).min(live.done);
                // A fault about positions that were not asked for is of an older epoch.
                let missing = Some(widen(live.missing, index as u8, from));
                if from < live.done && missing != live.missing {
                    live.missing = missing;
                    live.restart();
                }
            }
            (FaultCode::LogGone, Some(request)) => {
                let live = self.live.get_mut(&request).expect("it was just found");
                if live.is_replaying {
                    let missing = live.missing.map(|missing| widen(Some(missing), 0, 0));
                    live.missing = missing;
                    live.restart();
                }
            }
            (FaultCode::Arithmetic, Some(request)) => {
                self.finish(request, Some(Failure::Arithmetic), now, out);
            }
            (FaultCode::CacheFull, Some(request)) => {
                // The end of an earlier request may still be on its way to that stage.
                let live = self.live.get_mut(&request).expect("it was just found");
                live.refusals += 1;
                live.restart();
                if live.refusals > limits::REFUSALS_MAX {
                    self.finish(request, Some(Failure::NoRoom), now, out);
                }
            }
            (FaultCode::Unreachable, _) => {
                let lost = self.links.get(index + 1).map(|link| link.stage.node);
                if let Some(lost) = lost {
                    self.node_failed(lost, now, scout, out);
                }
            }
            (FaultCode::NoLease | FaultCode::Internal | FaultCode::Resources, _) => {
                self.node_failed(from, now, scout, out);
            }
            (FaultCode::Sequence | FaultCode::Root | FaultCode::Unexpected, _)
            | (FaultCode::Credit | FaultCode::Limit | FaultCode::Quota, _) => {
                // An edge fault: who is to blame cannot be told, so both ends are left out.
                let before = index.checked_sub(1).map(|before| self.links[before].stage.node);
                let both: Vec<NodeId> = [Some(from), before].into_iter().flatten().collect();
                self.nodes_failed(&both, now, scout, out);
            }
            _ => {}
        }
    }

    pub(super) fn reply(
        &mut self,
        from: NodeId,
        frame: &Frame,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        let header = frame.header;
        let is_ours = header.ring == self.ring && header.generation == self.generation;
        if !is_ours || self.state != State::Ready || header.kind != FrameKind::Reply {
            return;
        }
        let Some(live) = self.live.get_mut(&header.request) else {
            return;
        };
        if header.epoch != live.epoch {
            return;
        }
        let last = self.links.len() - 1;
        let expected = live.missing.map_or(last, |missing| usize::from(missing.last).min(last));
        let is_from_there = self.links[expected].stage.node == from;
        let end = header.end();
        let due = match live.missing.filter(|_| live.is_replaying) {
            // Pieces of a replay are cut by the stage that sends them.
            Some(_) => header.rows == 0 && end <= live.done && end > 0,
            None => live.due.front().is_some_and(|due| due.end == end && due.rows == header.rows),
        };
        if !is_from_there || !due || (header.rows > 0 && header.width != self.model.width) {
            // Rows nobody asked for, or not by this stage: it does not follow the protocol.
            self.node_failed(from, now, scout, out);
            return;
        }
        self.progress = now;
        live.progress = now;
        live.due.pop_front();
        if live.missing.is_some() {
            if end >= live.done {
                live.missing = None;
                live.is_replaying = false;
                live.due.clear();
                live.sent = live.done;
            }
            return;
        }
        live.done = end;
        if header.rows > 0 {
            live.is_sampling = true;
            let (request, position) = (header.request, end - 1);
            let (row, generation) = (frame.rows.clone(), header.generation);
            out.push(HeadEffect::Sample { request, position, row, generation });
        }
    }
}
