//! The route of a ring: leasing it, replacing parts of it, giving it back. Spec 03, 5.

use std::collections::BTreeSet;
use std::time::Duration;

use shoal_wire::{
    Duty, GenerationId, LayerRange, LeaseGrant, LeaseRefusal, LeaseRelease, LeaseRequest, List,
    Message, NodeId, RefusalReason, Route, RouteStage,
};

use super::{Head, HeadEffect, Scout, Shadows};
use crate::credit::Amount;
use crate::{Moment, limits};

/// How far a ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// No stage is leased, and none is needed.
    Idle,
    /// Requests have gone out.
    Leasing {
        /// When.
        since: Moment,
    },
    /// All stages are leased, and shadows owe an answer.
    Shadowing {
        /// How long to wait for it.
        until: Moment,
    },
    /// Frames flow.
    Ready,
    /// No route was found.
    Down {
        /// When to try again.
        retry_at: Moment,
        /// The pause after that.
        pause: Duration,
    },
}

/// A stage of the present generation.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) stage: RouteStage,
    pub(super) is_granted: bool,
    pub(super) is_shadow_granted: bool,
    /// It loads the layers first: when it last said so.
    pub(super) prepares: Option<Moment>,
    /// Whether it has no caches of earlier generations.
    pub(super) is_fresh: bool,
    /// The first question that was not answered.
    pub(super) asked: Option<Moment>,
    /// When it was last asked.
    pub(super) asked_last: Moment,
    /// The shortest time in which it answered.
    pub(super) round_trip: Option<Duration>,
    /// The longest lately: it falls by an eighth with each answer.
    pub(super) slowest: Duration,
    pub(super) renewed: Moment,
    /// How often a late look was granted since it was last heard.
    pub(super) late_looks: u32,
    /// Since when it says that it has nothing to compute for this ring.
    pub(super) idle_since: Option<Moment>,
    /// Tokens it says it keeps.
    pub(super) cached_tokens: u32,
}

impl Link {
    fn new(stage: RouteStage, is_fresh: bool, now: Moment) -> Self {
        Self {
            stage,
            is_granted: false,
            is_shadow_granted: false,
            prepares: None,
            is_fresh,
            asked: Some(now),
            asked_last: now,
            round_trip: None,
            slowest: Duration::ZERO,
            renewed: now,
            late_looks: 0,
            idle_since: None,
            cached_tokens: 0,
        }
    }

    /// It answered.
    pub(super) fn heard(&mut self, now: Moment) {
        self.late_looks = 0;
        if let Some(asked) = self.asked.take() {
            let took = now - asked;
            self.round_trip = Some(self.round_trip.map_or(took, |best| best.min(took)));
            self.slowest = took.max(self.slowest * 7 / 8);
        }
    }

    /// This node was not awake. Says whether what was asked counts as asked just now.
    pub(super) fn forgive(&mut self, now: Moment) -> bool {
        self.idle_since = None;
        if self.late_looks >= limits::LATE_LOOKS_MAX {
            return false;
        }
        if self.asked.is_some() {
            self.late_looks += 1;
            self.asked = Some(now);
        }
        true
    }

    /// How long it may be silent: longer when it is far, or has been slow lately, as on a machine
    /// whose cores others keep busy.
    pub(super) fn patience(&self) -> Duration {
        let trips = self.round_trip.unwrap_or_default() * limits::DEAD_ROUND_TRIPS;
        let slow = (self.slowest * limits::DEAD_SLOW_ANSWERS).min(limits::DEAD_SLOW_MAX);
        limits::DEAD_AFTER.max(trips).max(slow)
    }
}

impl Head {
    /// Looks for a route when there is none and there should be one.
    pub(super) fn find_route(
        &mut self,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        let pause = match self.state {
            State::Idle => limits::RETRY_FIRST,
            State::Down { retry_at, pause } if retry_at <= now => pause,
            _ => return,
        };
        match scout.route(&self.excluded_now()) {
            Some(stages) => {
                let stages = self.with_shadows(stages, scout);
                self.switch(stages, now, out);
            }
            None => {
                let doubled = (pause * 2).min(limits::RETRY_MAX);
                self.state = State::Down { retry_at: now + pause, pause: doubled };
            }
        }
    }

    /// There may be a route: looks for it before the pause is over.
    pub(super) fn look_again(&mut self, now: Moment) {
        if let State::Down { retry_at, .. } = &mut self.state {
            *retry_at = now;
        }
    }

    /// Puts a route into force: a new generation, a request for a lease to each stage.
    pub(super) fn switch(
        &mut self,
        stages: Vec<RouteStage>,
        now: Moment,
        out: &mut Vec<HeadEffect>,
    ) {
        self.release_except(&stages, out);
        self.generation = GenerationId(self.generation.0 + 1);
        self.state = State::Leasing { since: now };
        self.stand_by_at = now;
        self.looked = now;
        let survives = |stage: &RouteStage| {
            let same = |old: &&RouteStage| old.node == stage.node && old.layers == stage.layers;
            self.completed.iter().any(|old| same(&old))
        };
        self.links = stages.iter().map(|stage| Link::new(*stage, !survives(stage), now)).collect();
        let shadows = self.completed.iter().filter_map(|old| Some((old.shadow?, old.layers)));
        let shadows: Vec<(NodeId, LayerRange)> = shadows.collect();
        let fresh: Vec<(usize, bool)> = self
            .links
            .iter()
            .enumerate()
            .filter(|(_, link)| link.is_fresh)
            .map(|(index, link)| (index, shadows.contains(&(link.stage.node, link.stage.layers))))
            .collect();
        for live in self.live.values_mut() {
            live.interrupt(&fresh, self.links.len());
        }
        self.ask_for_leases(out);
    }

    fn ask_for_leases(&self, out: &mut Vec<HeadEffect>) {
        for (index, link) in self.links.iter().enumerate() {
            let duties = [
                Some((link.stage.node, Duty::Primary)),
                link.stage.shadow.map(|node| (node, Duty::Shadow)),
            ];
            for (to, duty) in duties.into_iter().flatten() {
                self.ask_for_lease(to, index, duty, out);
            }
        }
    }

    pub(super) fn ask_for_lease(
        &self,
        to: NodeId,
        index: usize,
        duty: Duty,
        out: &mut Vec<HeadEffect>,
    ) {
        let stages = self.links.iter().map(|link| link.stage);
        let route = Route {
            head: self.node,
            layer_count: self.model.layer_count,
            stages: List::truncated(stages),
        };
        let message = Box::new(Message::LeaseRequest(LeaseRequest {
            ring: self.ring,
            generation: self.generation,
            ttl_ms: self.policy.ttl_ms,
            admission: self.policy.admission(&self.model, self.links[index].stage.layers),
            route,
            stage: u8::try_from(index).expect("a route has at most 64 stages"),
            duty,
            lane: self.policy.lane,
        }));
        out.push(HeadEffect::Send { to, message });
    }

    pub(super) fn granted(
        &mut self,
        from: NodeId,
        grant: &LeaseGrant,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        let (State::Leasing { .. } | State::Shadowing { .. }) = self.state else {
            return;
        };
        let Some(link) = self.links.get_mut(usize::from(grant.stage)) else {
            return;
        };
        let expected = self.policy.admission(&self.model, link.stage.layers);
        let is_shadow = link.stage.shadow == Some(from);
        if link.stage.node != from && !is_shadow {
            return;
        }
        if grant.admission != expected {
            // Not a bit of it may differ: no token is computed with this stage.
            self.node_failed(from, now, scout, out);
            return;
        }
        if is_shadow {
            link.is_shadow_granted = true;
        } else {
            link.heard(now);
            (link.is_granted, link.prepares) = (true, None);
        }
        let is_whole = |link: &Link| {
            link.is_granted && (link.is_shadow_granted || link.stage.shadow.is_none())
        };
        if self.links.iter().all(is_whole) {
            self.ready(now);
        } else if self.links.iter().all(|link| link.is_granted) && !is_shadow {
            // Shadows answer as quickly as stages do, or the ring does without them.
            self.state = State::Shadowing { until: now + limits::SHADOW_ANSWER };
        }
    }

    fn ready(&mut self, now: Moment) {
        self.state = State::Ready;
        self.progress = now;
        self.completed = self.links.iter().map(|link| link.stage).collect();
        if let Some(first) = self.links.first() {
            let admission = self.policy.admission(&self.model, first.stage.layers);
            self.credit = Amount::full(&admission);
            let of_shadow = Amount::of_shadow(&admission);
            self.shadow_credit = first.stage.shadow.map(|_| of_shadow);
        }
    }

    pub(super) fn refused(
        &mut self,
        from: NodeId,
        refusal: LeaseRefusal,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        if refusal.generation != self.generation {
            return;
        }
        if refusal.reason == RefusalReason::Generation {
            // This head forgot how far it was, as after a restart: continue above that.
            self.generation = self.generation.max(refusal.generation_seen);
            let stages = self.links.iter().map(|link| link.stage).collect();
            self.completed.clear();
            self.switch(stages, now, out);
            return;
        }
        let is_cold = matches!(refusal.reason, RefusalReason::Loading | RefusalReason::NotHeld);
        if is_cold && self.have_prepared(from, now, out) {
            return;
        }
        self.node_failed(from, now, scout, out);
    }

    /// Leaves a node out from now on. If it is a stage a spare takes its place; if there is none, a
    /// whole new route is looked for.
    pub(super) fn node_failed(
        &mut self,
        node: NodeId,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        self.nodes_failed(&[node], now, scout, out);
    }

    pub(super) fn nodes_failed(
        &mut self,
        nodes: &[NodeId],
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        let mut stages: Vec<RouteStage> = self.links.iter().map(|link| link.stage).collect();
        let mut is_stage = false;
        for node in nodes {
            if self.nodes().contains(node) {
                self.exclude(*node, now);
            }
            is_stage |= stages.iter().any(|stage| stage.node == *node);
        }
        for link in &mut self.links {
            if link.stage.shadow.is_some_and(|shadow| nodes.contains(&shadow)) {
                link.is_shadow_granted = false;
            }
        }
        if !is_stage {
            return self.shadows_failed(nodes, now, out);
        }
        if matches!(self.state, State::Idle | State::Down { .. }) {
            return;
        }
        let mut excluded: BTreeSet<NodeId> = self.excluded.keys().copied().collect();
        excluded.extend(self.nodes());
        let shadows: Vec<Option<NodeId>> = self
            .links
            .iter()
            .map(|link| link.stage.shadow.filter(|_| link.is_shadow_granted))
            .collect();
        for (stage, shadow) in stages.iter_mut().zip(shadows) {
            if stage.shadow.is_some_and(|shadow| nodes.contains(&shadow)) {
                stage.shadow = None;
            }
            if !nodes.contains(&stage.node) {
                continue;
            }
            self.replaced += 1;
            let taboo: Vec<NodeId> = excluded.iter().copied().collect();
            let shadow = shadow.filter(|shadow| !nodes.contains(shadow));
            let Some(spare) = shadow.or_else(|| scout.spare(stage.layers, &taboo)) else {
                self.give_up_route(now, out);
                self.find_route(now, scout, out);
                return;
            };
            excluded.insert(spare);
            *stage = RouteStage { node: spare, layers: stage.layers, shadow: None };
        }
        // A new shadow has what comes from now on.
        let stages = self.with_shadows(stages, scout);
        self.switch(stages, now, out);
    }

    /// Takes the ring apart. Requests wait for the next route.
    fn give_up_route(&mut self, now: Moment, out: &mut Vec<HeadEffect>) {
        self.release_except(&[], out);
        self.links.clear();
        self.completed.clear();
        self.state = State::Down { retry_at: now, pause: limits::RETRY_FIRST };
    }

    /// Gives all stages back until there is a request again.
    pub(super) fn rest(&mut self, out: &mut Vec<HeadEffect>) {
        self.release_except(&[], out);
        self.links.clear();
        self.completed.clear();
        self.wants_shadows = self.policy.shadows == Shadows::Always;
        self.state = State::Idle;
    }

    /// Gives back stages that are not part of a route.
    pub(super) fn release_except(&self, stages: &[RouteStage], out: &mut Vec<HeadEffect>) {
        let stay: Vec<NodeId> =
            stages.iter().flat_map(|stage| [Some(stage.node), stage.shadow]).flatten().collect();
        for to in self.nodes().into_iter().filter(|node| !stay.contains(node)) {
            let (ring, generation) = (self.ring, self.generation);
            let message = Box::new(Message::LeaseRelease(LeaseRelease { ring, generation }));
            out.push(HeadEffect::Send { to, message });
        }
    }

    /// Moves to another route. Parts that stay keep their caches.
    pub(super) fn move_to(
        &mut self,
        stages: Vec<RouteStage>,
        now: Moment,
        out: &mut Vec<HeadEffect>,
    ) {
        // What is being computed again counts stages of the present route.
        let is_whole = self.live.values().all(|live| live.missing.is_none());
        if self.state == State::Ready && is_whole {
            self.switch(stages, now, out);
        }
    }
}
