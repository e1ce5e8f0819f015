//! What this node says about itself, what it plans, and what its owner is shown.

use std::time::Duration;

use shoal_swarm::{HeadEvent, Moment, Plan, PlanError, Planner, StageEvent, Want};
use shoal_wire::{
    Descriptor, LayerRange, List, MemberState, Message, NodeId, Offer, RingId, Signed, SwarmRole,
    duties,
};

use super::Driver;
use crate::book::About;
use crate::chance::SystemRandom;
use crate::limits::PLAN_EVERY;
use crate::owner::RestReason;
use crate::view::{MemberView, OfferView, SwarmView};

impl Driver {
    /// What this node says about itself now.
    pub(super) fn describe(&mut self) -> Signed<Descriptor> {
        let own = self.member.as_ref().map(|member| member.door.own().clone());
        let role = own.as_ref().map_or(SwarmRole::Serve, |chain| chain.certificate.body.role);
        let offers = if role < SwarmRole::Serve { Vec::new() } else { self.offers() };
        let is_asked = role >= SwarmRole::Serve && self.layers.prepares.is_allowed();
        let stage = if offers.is_empty() && !is_asked { 0 } else { duties::STAGE };
        let about = About {
            state: self.state,
            duties: duties::HEAD | stage,
            certificate: own,
            memory_free_bytes: self.layers.prepares.memory_free(),
            coordinate: self.links.place(),
            offers,
            links: self.links.list(|peer| self.peers.is_relayed(peer) == Some(true)),
        };
        let address = self.peers.address();
        self.book.describe(about, &address, self.now())
    }

    fn offers(&self) -> Vec<Offer> {
        let offer = |(package, holding): (&_, &shoal_swarm::Holding)| {
            let speed = self.speeds.get(package).copied().unwrap_or_default();
            Offer {
                package: *package,
                arithmetic: holding.arithmetic,
                held: joined(&holding.held),
                loaded: apart(&holding.loaded),
                decode_ns: speed.decode_ns,
                prefill_ns: speed.prefill_ns,
                cache_tokens_free: self.stage.cache_tokens_free(*package),
            }
        };
        self.holdings.iter().map(offer).collect()
    }

    /// Says what this node is, when it is time to or what is here has changed.
    pub(super) fn announce(&mut self) {
        let offers = self.offers();
        if offers != self.offered {
            self.offered = offers;
            self.book.announce_soon();
        }
        if self.book.is_announcement_due(self.now()) {
            let descriptor = self.describe();
            for peer in self.peers.present() {
                self.send_message(peer, Message::Descriptor(descriptor.clone()));
            }
        }
    }

    /// Looks for better plans.
    pub(super) fn plan(&mut self, now: Moment) {
        if self.plan_at > now {
            return;
        }
        self.plan_at = now + PLAN_EVERY;
        if self.book.members().get(self.me).is_none() {
            self.describe();
        }
        let mut moves: Vec<(RingId, HeadEvent)> = Vec::new();
        for (ring, slot) in &mut self.slots {
            let status = slot.head.status();
            let in_use = status.is_ready.then_some(&status.stages[..]);
            let members = (self.book.members(), self.me);
            if let Some(stages) = slot.way.look(members, in_use, now) {
                moves.push((*ring, HeadEvent::Move(stages)));
            }
            slot.publish();
        }
        for (ring, event) in moves {
            self.head(ring, event);
        }
    }

    /// The best plan of each number of stages.
    pub(crate) fn plans(
        &mut self,
        model: shoal_swarm::ModelShape,
        want: Want,
    ) -> Result<Vec<Plan>, PlanError> {
        if self.book.members().get(self.me).is_none() {
            self.describe();
        }
        Planner::new(self.book.members(), self.me, model, want)?.plans(&mut SystemRandom)
    }

    /// The swarm as this node sees it.
    pub(crate) fn view(&mut self) -> Option<SwarmView> {
        self.describe();
        let member = self.member.as_ref()?;
        let own = &member.door.own().certificate.body;
        let all = self.book.members().iter().map(|descriptor| self.member_view(descriptor));
        Some(SwarmView {
            name: member.name.clone(),
            swarm: member.door.swarm(),
            node: self.me,
            is_owner: member.door.issuer().is_some_and(shoal_swarm::Issuer::is_owner),
            role: own.role,
            expires_at_s: own.expires_at_s,
            revocation: member.door.gate().counter(),
            sockets: self.peers.address().sockets,
            relays: self.peers.relays(),
            has_twin: self.book.has_twin(),
            is_published: self.peers.is_published(),
            members: all.collect(),
            leases: self.stage.ring_count(),
            rests: self.rests.clone(),
        })
    }

    /// Everybody there is a connection to, and whether it goes over a relay.
    pub(crate) fn ways(&self) -> Vec<(NodeId, bool)> {
        let present = self.peers.present().into_iter();
        present.filter_map(|peer| Some((peer, self.peers.is_relayed(peer)?))).collect()
    }

    fn member_view(&self, descriptor: &Descriptor) -> MemberView {
        let node = descriptor.node;
        let certificate = descriptor.certificate.as_ref().map(|chain| &chain.certificate.body);
        let offer = |offer: &Offer| OfferView {
            package: offer.package,
            loaded: offer.loaded.to_vec(),
            decode_ns: offer.decode_ns,
            cache_tokens_free: offer.cache_tokens_free,
        };
        MemberView {
            node,
            is_me: node == self.me,
            is_connected: node == self.me || self.peers.present().contains(&node),
            state: descriptor.state,
            role: certificate.map(|body| body.role),
            expires_at_s: certificate.map(|body| body.expires_at_s),
            addresses: descriptor.addresses.iter().map(|text| text.to_string()).collect(),
            memory_free_bytes: descriptor.memory_free_bytes,
            round_trip: self.links.round_trip(node),
            is_relayed: self.peers.is_relayed(node),
            offers: descriptor.offers.iter().map(offer).collect(),
        }
    }

    /// Begins to leave: no new leases, those there are end when their heads have moved.
    pub(crate) fn drain(&mut self, drain: Duration) {
        let drain_ms = u32::try_from(drain.as_millis()).unwrap_or(u32::MAX);
        self.stage(StageEvent::Drain { drain_ms });
        self.say(MemberState::Draining);
    }

    /// The owner does not want anything computed for others, for these reasons; for none of them it
    /// is wanted again. Those who use this node have `drain` to move.
    pub(crate) fn rest(&mut self, reasons: Vec<RestReason>, drain: Duration) {
        let rested = !std::mem::replace(&mut self.rests, reasons).is_empty();
        match (rested, self.rests.is_empty()) {
            (false, false) => self.drain(drain),
            (true, true) => {
                self.stage(StageEvent::Resume);
                self.say(MemberState::Active);
            }
            _ => {}
        }
    }

    /// Leases of others at present.
    pub(crate) fn lease_count(&self) -> usize {
        self.stage.ring_count()
    }

    /// Says that this node is gone on purpose.
    pub(crate) fn say_left(&mut self) {
        self.say(MemberState::Left);
    }

    fn say(&mut self, state: MemberState) {
        self.state = state;
        let signed = self.describe();
        for peer in self.peers.present() {
            self.send_message(peer, Message::Descriptor(signed.clone()));
        }
    }

    /// What the owner gives to weights and caches, and what is free of it.
    pub(crate) fn set_memory_free(&mut self, bytes: u64) {
        self.layers.prepares.set_memory_free(bytes);
        self.book.announce_soon();
    }

    /// Which layers of a package others hold in memory, each as often as it is held.
    pub(crate) fn loaded_elsewhere(&self, package: shoal_base::PackageId) -> Vec<LayerRange> {
        let others = self.book.members().iter().filter(|descriptor| descriptor.node != self.me);
        let offers = others.flat_map(|descriptor| descriptor.offers.iter());
        let ours = offers.filter(|offer| offer.package == package);
        ours.flat_map(|offer| offer.loaded.iter().copied()).collect()
    }
}

/// Ranges in order, those that touch as one.
pub(super) fn joined<const MAX: usize>(ranges: &[LayerRange]) -> List<LayerRange, MAX> {
    let mut all = ranges.to_vec();
    all.sort_unstable();
    let mut joined: Vec<LayerRange> = Vec::new();
    for range in all {
        match joined.last_mut().filter(|last| last.end >= range.first) {
            Some(last) => last.end = last.end.max(range.end),
            None => joined.push(range),
        }
    }
    List::truncated(joined)
}

/// Ranges in order; of those that touch the first, as each is computed for itself.
fn apart<const MAX: usize>(ranges: &[LayerRange]) -> List<LayerRange, MAX> {
    let mut all = ranges.to_vec();
    all.sort_unstable();
    let mut apart: Vec<LayerRange> = Vec::new();
    for range in all {
        if apart.last().is_none_or(|last| last.end < range.first) {
            apart.push(range);
        }
    }
    List::truncated(apart)
}
