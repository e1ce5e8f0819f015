//! Shadows: spares that compute what a stage computes, so that its death costs no caches. Spec 03,
//! 5.5.

use shoal_wire::{NodeId, RouteStage};

use super::ring::{Link, State};
use super::{Head, HeadEffect, Scout, Shadows};
use crate::{Moment, limits};

impl Head {
    /// A request that may come to so many tokens was let in.
    pub(super) fn weigh_shadows(&mut self, tokens: u64) {
        self.wants_shadows |=
            self.policy.shadows == Shadows::Long && tokens >= limits::SHADOW_TOKENS;
    }

    /// Gives shadows to a ring that has none yet. A shadow knows what it has seen: so this comes
    /// before the first row of the request that is worth it, and never in the middle of a replay.
    pub(super) fn see_to_shadows(
        &mut self,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        let begins = self.live.values().any(|live| !live.is_started);
        let is_whole = self.live.values().all(|live| live.missing.is_none());
        let lacks = self.links.iter().any(|link| !link.is_shadow_granted);
        if !self.wants_shadows || self.state != State::Ready || !(begins && is_whole && lacks) {
            return;
        }
        let present = self.links.iter().map(|link| RouteStage {
            shadow: link.stage.shadow.filter(|_| link.is_shadow_granted),
            ..link.stage
        });
        let present: Vec<RouteStage> = present.collect();
        let stages = self.with_shadows(present.clone(), scout);
        if stages != present {
            self.switch(stages, now, out);
        }
    }

    /// Adds shadows to stages without one, where there are spares.
    pub(super) fn with_shadows(
        &self,
        mut stages: Vec<RouteStage>,
        scout: &mut dyn Scout,
    ) -> Vec<RouteStage> {
        if !self.wants_shadows {
            return stages;
        }
        let mut taboo = self.excluded_now();
        taboo.extend(stages.iter().flat_map(|stage| [Some(stage.node), stage.shadow]).flatten());
        for stage in stages.iter_mut().filter(|stage| stage.shadow.is_none()) {
            stage.shadow = scout.spare(stage.layers, &taboo);
            taboo.extend(stage.shadow);
        }
        stages
    }

    /// Nodes that are shadows at most have failed. While the ring is being leased a route without
    /// them is put into force: nobody is to send to them. Later they are just not counted on.
    pub(super) fn shadows_failed(
        &mut self,
        nodes: &[NodeId],
        now: Moment,
        out: &mut Vec<HeadEffect>,
    ) {
        let is_gone = |link: &Link| link.stage.shadow.is_some_and(|shadow| nodes.contains(&shadow));
        let is_leasing = matches!(self.state, State::Leasing { .. } | State::Shadowing { .. });
        if !is_leasing || !self.links.iter().any(is_gone) {
            return;
        }
        let without = self.links.iter().map(|link| match is_gone(link) {
            true => RouteStage { shadow: None, ..link.stage },
            false => link.stage,
        });
        let without = without.collect();
        self.switch(without, now, out);
    }

    /// Shadows that did not answer in time are left out.
    pub(super) fn without_late_shadows(&mut self, now: Moment, out: &mut Vec<HeadEffect>) {
        let late = self.links.iter().filter(|link| !link.is_shadow_granted);
        let late: Vec<NodeId> = late.filter_map(|link| link.stage.shadow).collect();
        for node in &late {
            self.exclude(*node, now);
        }
        self.shadows_failed(&late, now, out);
    }
}
