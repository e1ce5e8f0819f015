//! Spares that have to load layers: in the background so that they stand by, and at once when
//! nobody else is left. Spec 03, 5.4.

use std::collections::BTreeSet;

use shoal_wire::{Duty, LayerRange, Message, NodeId, Prepare, PrepareState, PrepareStatus};

use super::ring::State;
use super::{Head, HeadEffect, Scout};
use crate::{Moment, limits};

/// A node that was asked to hold layers in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct StandBy {
    layers: LayerRange,
    state: PrepareState,
    at: Moment,
}

impl Head {
    /// Asks a node for each stage to stand by, if none does.
    pub(super) fn ask_to_stand_by(
        &mut self,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        if self.stand_by_at > now {
            return;
        }
        self.stand_by_at = now + limits::STAND_BY_EVERY;
        self.standbys.retain(|_, standby| {
            let is_asked_again = standby.state == PrepareState::Refused;
            !is_asked_again || standby.at + limits::STAND_BY_REFUSED_FOR > now
        });
        let mut taboo = self.excluded_now();
        taboo.extend(self.nodes());
        let unwilling = |standby: &&StandBy| standby.state == PrepareState::Refused;
        let refused = self.standbys.iter().filter(|(_, standby)| unwilling(standby));
        taboo.extend(refused.map(|(node, _)| *node));
        let ranges: BTreeSet<LayerRange> =
            self.links.iter().map(|link| link.stage.layers).collect();
        for layers in ranges {
            let Some(node) = scout.stand_by(layers, &taboo) else {
                continue;
            };
            taboo.push(node);
            if self.standbys.get(&node).is_none_or(|standby| standby.layers != layers) {
                self.ask_to_prepare(node, layers, now, out);
            }
        }
    }

    fn ask_to_prepare(
        &mut self,
        node: NodeId,
        layers: LayerRange,
        now: Moment,
        out: &mut Vec<HeadEffect>,
    ) {
        let standby = StandBy { layers, state: PrepareState::Fetching, at: now };
        if self.standbys.len() >= limits::STAND_BY_MAX {
            self.standbys.pop_first();
        }
        self.standbys.insert(node, standby);
        let message = Box::new(Message::Prepare(Prepare { package: self.model.package, layers }));
        out.push(HeadEffect::Send { to: node, message });
    }

    /// A stage that was asked for a lease has not loaded its layers: it is told to, and gets its
    /// lease then. Says whether there is hope.
    pub(super) fn have_prepared(
        &mut self,
        node: NodeId,
        now: Moment,
        out: &mut Vec<HeadEffect>,
    ) -> bool {
        // Whoever said that it was ready, or that it will not, says so again.
        let is_over = |standby: &StandBy| {
            matches!(standby.state, PrepareState::Refused | PrepareState::Ready)
        };
        let is_refused = self.standbys.get(&node).is_some_and(is_over);
        let link = self.links.iter_mut().find(|link| link.stage.node == node && !link.is_granted);
        let Some(link) = link.filter(|link| link.prepares.is_none() && !is_refused) else {
            return false;
        };
        link.heard(now);
        link.prepares = Some(now);
        let layers = link.stage.layers;
        self.ask_to_prepare(node, layers, now, out);
        true
    }

    /// A node says how far it is.
    pub(super) fn prepared(
        &mut self,
        from: NodeId,
        status: PrepareStatus,
        now: Moment,
        scout: &mut dyn Scout,
        out: &mut Vec<HeadEffect>,
    ) {
        let standby = self.standbys.get_mut(&from);
        let Some(standby) = standby.filter(|standby| standby.layers == status.layers) else {
            return;
        };
        (standby.state, standby.at) = (status.state, now);
        let State::Leasing { since } = &mut self.state else {
            return;
        };
        let index = self.links.iter().position(|link| {
            link.stage.node == from && link.stage.layers == status.layers && link.prepares.is_some()
        });
        let Some(index) = index else {
            return;
        };
        match status.state {
            PrepareState::Fetching | PrepareState::Loading => {
                self.links[index].prepares = Some(now);
            }
            PrepareState::Ready => {
                *since = now;
                (self.links[index].prepares, self.links[index].asked) = (None, Some(now));
                self.ask_for_lease(from, index, Duty::Primary, out);
            }
            PrepareState::Refused => self.node_failed(from, now, scout, out),
        }
    }

    /// A node is gone, and with it what it had prepared.
    pub(super) fn forget_stand_by(&mut self, node: NodeId) {
        self.standbys.remove(&node);
    }
}
