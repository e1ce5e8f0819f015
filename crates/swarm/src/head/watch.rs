//! Time: who is silent, which lease is to be renewed, what has waited for too long.

use shoal_wire::{LeaseRenew, Message, NodeId, RequestId};

use super::requests::Live;
use super::ring::State;
use super::{Failure, Head, HeadEffect, Scout};
use crate::{Moment, limits};

impl Head {
    /// When a tick is due.
    #[must_use]
    pub fn wake_at(&self) -> Option<Moment> {
        let own = match self.state {
            State::Idle => None,
            // It looks more often than it has to, to notice when it was not awake.
            State::Leasing { since } => {
                let look_at = self.looked + limits::PROBE_EVERY;
                Some(self.lease_at(since).min(self.renew_at()).min(look_at))
            }
            State::Shadowing { until } => Some(until.min(self.renew_at())),
            State::Down { retry_at, .. } => Some(retry_at),
            State::Ready if self.live.is_empty() => {
                Some(self.renew_at().min(self.idle_since + limits::IDLE_RELEASE))
            }
            State::Ready if self.live.values().any(Live::is_waiting) => {
                Some(self.renew_at().min(self.probe_at()))
            }
            State::Ready => Some(self.renew_at()),
        };
        let stalled = self.live.values().chain(&self.waiting);
        let stalled = stalled.map(|live| live.progress + limits::REQUEST_STALLED).min();
        own.into_iter().chain(stalled).min()
    }

    /// When the stages are asked next whether they live, or one of them counts as dead.
    fn probe_at(&self) -> Moment {
        let quiet = self.progress + limits::PROBE_AFTER;
        let asked = self.links.iter().map(|link| match link.asked {
            None => quiet.max(link.asked_last + limits::PROBE_EVERY),
            Some(asked) => (link.asked_last + limits::PROBE_EVERY).min(asked + link.patience()),
        });
        asked.min().unwrap_or(quiet)
    }

    /// When a stage that was asked for its lease has taken too long.
    fn lease_at(&self, since: Moment) -> Moment {
        let owing = self.links.iter().filter(|link| !link.is_granted);
        let until = owing.map(|link| match link.prepares {
            Some(heard) => heard + limits::PREPARE_SILENT,
            None => since + limits::LEASE_ANSWER,
        });
        until.min().unwrap_or(since)
    }

    fn renew_at(&self) -> Moment {
        let every = std::time::Duration::from_millis(self.policy.ttl_ms.into())
            / limits::RENEWALS_PER_LEASE;
        let first = self.links.iter().map(|link| link.renewed).min();
        first.unwrap_or_default() + every
    }

    pub(super) fn tick(&mut self, now: Moment, scout: &mut dyn Scout, out: &mut Vec<HeadEffect>) {
        self.excluded.retain(|_, until| *until > now);
        self.forgive_own_absence(now);
        self.looked = now;
        self.fail_stalled(now, out);
        match self.state {
            State::Leasing { since } => self.watch_leasing(since, now, scout, out),
            State::Shadowing { until } if until <= now => self.without_late_shadows(now, out),
            State::Ready => {
                self.watch(now, scout, out);
                self.ask_to_stand_by(now, scout, out);
                if self.live.is_empty() && self.idle_since + limits::IDLE_RELEASE <= now {
                    self.rest(out);
                }
            }
            _ => {}
        }
    }

    /// Answers that came while this node was not awake are still to be read: whoever owes one gets
    /// as much time again, but not for ever. Without a request ticks are rare, and nothing hurries.
    fn forgive_own_absence(&mut self, now: Moment) {
        let due = self.wake_at().filter(|_| !self.live.is_empty());
        if due.is_none_or(|due| due + limits::LATE_LOOK > now) {
            return;
        }
        let mut is_granted = true;
        for link in &mut self.links {
            is_granted &= link.forgive(now);
        }
        match &mut self.state {
            State::Leasing { since } if is_granted => *since = now,
            State::Shadowing { until } if is_granted => *until = now + limits::SHADOW_ANSWER,
            _ => {}
        }
    }

    /// Leaves out who does not answer. Leases of the others are renewed: one of them may have to
    /// load its layers for longer than a lease lasts.
    fn watch_leasing(
        &mut self,
        since: Moment,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        if self.lease_at(since) <= now {
            let silent = self.links.iter().filter(|link| match link.prepares {
                Some(heard) => heard + limits::PREPARE_SILENT <= now,
                None => !link.is_granted && since + limits::LEASE_ANSWER <= now,
            });
            let silent: Vec<NodeId> = silent.map(|link| link.stage.node).collect();
            self.nodes_failed(&silent, now, scout, out);
            return;
        }
        if self.renew_at() <= now {
            self.ask_links(true, false, now, out);
        }
    }

    /// Asks stages that may be dead, renews leases, replaces stages that do not answer.
    fn watch(&mut self, now: Moment, scout: &mut dyn Scout, out: &mut Vec<HeadEffect>) {
        let is_waiting = self.live.values().any(Live::is_waiting);
        let dead: Vec<NodeId> = self
            .links
            .iter()
            .filter(|link| link.asked.is_some_and(|asked| asked + link.patience() <= now))
            .map(|link| link.stage.node)
            .collect();
        if !dead.is_empty() {
            self.nodes_failed(&dead, now, scout, out);
            return;
        }
        if is_waiting && self.progress + limits::STALLED_AFTER <= now {
            let all: Vec<NodeId> = self.links.iter().map(|link| link.stage.node).collect();
            self.nodes_failed(&all, now, scout, out);
            return;
        }
        if let Some(silent) = self.swallows_rows(now).filter(|_| is_waiting) {
            self.node_failed(silent, now, scout, out);
            return;
        }
        let is_quiet = is_waiting && self.progress + limits::PROBE_AFTER <= now;
        let must_renew = self.renew_at() <= now;
        self.ask_links(must_renew, is_quiet, now, out);
    }

    /// Renews all leases that were granted, or asks those who owe an answer, or everybody.
    fn ask_links(
        &mut self,
        must_renew: bool,
        is_quiet: bool,
        now: Moment,
        out: &mut Vec<HeadEffect>,
    ) {
        let (ring, generation, ttl_ms) = (self.ring, self.generation, self.policy.ttl_ms);
        for link in &mut self.links {
            if must_renew {
                link.renewed = now;
            }
            if !link.is_granted {
                continue;
            }
            let again = link.asked.is_some() || is_quiet;
            let ask = again && link.asked_last + limits::PROBE_EVERY <= now;
            if !ask && !must_renew {
                continue;
            }
            link.asked.get_or_insert(now);
            link.asked_last = now;
            let message = Box::new(Message::LeaseRenew(LeaseRenew { ring, generation, ttl_ms }));
            let shadow = link.stage.shadow.filter(|_| must_renew);
            for to in [Some(link.stage.node), shadow].into_iter().flatten() {
                out.push(HeadEffect::Send { to, message: message.clone() });
            }
        }
    }

    /// All stages live and say that they have nothing to do, and still an answer is due: then one
    /// of them has not passed on its rows. It is the last that knows as many tokens as the first.
    fn swallows_rows(&self, now: Moment) -> Option<NodeId> {
        let is_idle = |since: Option<Moment>| {
            let since = since.map(|since| since.max(self.progress));
            since.is_some_and(|since| since + limits::SWALLOWED_AFTER <= now)
        };
        if !self.links.iter().all(|link| is_idle(link.idle_since)) {
            return None;
        }
        let knows_less =
            self.links.windows(2).position(|pair| pair[1].cached_tokens < pair[0].cached_tokens);
        let index = knows_less.unwrap_or(self.links.len().checked_sub(1)?);
        Some(self.links[index].stage.node)
    }

    fn fail_stalled(&mut self, now: Moment, out: &mut Vec<HeadEffect>) {
        let is_over = |live: &&Live| live.progress + limits::REQUEST_STALLED <= now;
        let over = self.live.values().chain(&self.waiting).filter(is_over);
        let over: Vec<RequestId> = over.map(|live| live.id).collect();
        for request in over {
            self.finish(request, Some(Failure::NoRoute), now, out);
        }
    }
}
