//! Granting, refusing, renewing and ending leases. Spec 03, 5.

use std::time::Duration;

use shoal_wire::{
    Admission, Duty, EndReason, FaultCode, GenerationId, LeaseEnd, LeaseGrant, LeaseRefusal,
    LeaseRenew, LeaseRenewed, LeaseRequest, Message, NodeId, RefusalReason, RingId,
};

use super::ring::Ring;
use super::{Stage, StageEffect, send_fault};
use crate::{Moment, limits};

impl Stage {
    pub(super) fn lease_request(
        &mut self,
        from: NodeId,
        request: &LeaseRequest,
        now: Moment,
        out: &mut Vec<StageEffect>,
    ) {
        if let Err((reason, retry_after_ms)) = self.check_request(from, request) {
            let message = Box::new(Message::LeaseRefusal(LeaseRefusal {
                ring: request.ring,
                generation: request.generation,
                reason,
                generation_seen: self.generation_seen(from, request.ring),
                retry_after_ms,
            }));
            out.push(StageEffect::Send { to: from, message });
            return;
        }
        let ttl_ms = request.ttl_ms.min(self.config.ttl_ms_max);
        let expires = now + Duration::from_millis(ttl_ms.into());
        self.put_ring(request, expires, now, out);
        let message = Box::new(Message::LeaseGrant(LeaseGrant {
            ring: request.ring,
            generation: request.generation,
            stage: request.stage,
            admission: request.admission,
            ttl_ms,
        }));
        out.push(StageEffect::Send { to: from, message });
    }

    fn put_ring(
        &mut self,
        request: &LeaseRequest,
        expires: Moment,
        now: Moment,
        out: &mut Vec<StageEffect>,
    ) {
        let same = |admission: &Admission| {
            let wanted = &request.admission;
            admission.package == wanted.package && admission.layers == wanted.layers
        };
        match self.rings.get_mut(&request.ring) {
            Some(ring) if ring.generation == request.generation => ring.expires = expires,
            Some(ring) if same(ring.admission()) => ring.renew(request.clone(), expires),
            _ => {
                self.end_ring(request.ring, now, out);
                self.past.remove(&request.ring);
                self.rings.insert(request.ring, Ring::new(request.clone(), expires));
            }
        }
    }

    /// The highest generation of a ring of this head.
    fn generation_seen(&self, head: NodeId, ring: RingId) -> GenerationId {
        let lease = self.rings.get(&ring).filter(|lease| lease.head() == head);
        let past = self.past.get(&ring).filter(|past| past.head == head);
        let seen = lease.map(|lease| lease.generation).or(past.map(|past| past.generation));
        seen.unwrap_or(GenerationId(0))
    }

    fn check_request(
        &self,
        from: NodeId,
        request: &LeaseRequest,
    ) -> Result<(), (RefusalReason, u32)> {
        let present = self.rings.get(&request.ring);
        let owner = present.map(Ring::head).or(self.past.get(&request.ring).map(|p| p.head));
        if request.route.head != from || owner.is_some_and(|owner| owner != from) {
            return Err((RefusalReason::Forbidden, 0));
        }
        let seen = self.generation_seen(from, request.ring);
        let is_repeated = present.is_some_and(|ring| ring.request == *request);
        if request.generation < seen || (request.generation == seen && !is_repeated) {
            return Err((RefusalReason::Generation, 0));
        }
        let place = &request.route.stages[usize::from(request.stage)];
        let is_meant = match request.duty {
            Duty::Primary => place.node == self.node,
            Duty::Shadow => place.shadow == Some(self.node),
            Duty::Warm => place.node != self.node,
        };
        if !is_meant {
            return Err((RefusalReason::Mismatch, 0));
        }
        if is_repeated {
            return Ok(());
        }
        if self.drains_until.is_some() {
            return Err((RefusalReason::Leaving, 0));
        }
        self.check_holding(&request.admission)?;
        self.check_room(from, request)
    }

    fn check_holding(&self, admission: &Admission) -> Result<(), (RefusalReason, u32)> {
        let holding = self.holdings.get(&admission.package);
        let holding = holding.ok_or((RefusalReason::NotHeld, 0))?;
        if holding.arithmetic != admission.arithmetic || holding.width != admission.width {
            return Err((RefusalReason::Mismatch, 0));
        }
        let covers = |ranges: &[shoal_wire::LayerRange]| {
            ranges.iter().any(|range| range.covers(admission.layers))
        };
        if covers(&holding.loaded) {
            return Ok(());
        }
        if covers(&holding.held) {
            return Err((RefusalReason::Loading, limits::LOADING_RETRY_MS));
        }
        Err((RefusalReason::NotHeld, 0))
    }

    /// Whether memory and the head's share allow one more lease, the present one left out.
    fn check_room(&self, head: NodeId, request: &LeaseRequest) -> Result<(), (RefusalReason, u32)> {
        let package = request.admission.package;
        let others = || self.rings.iter().filter(|(id, _)| **id != request.ring);
        let of_head = || others().filter(|(_, ring)| ring.head() == head);
        if others().count() >= limits::RINGS_MAX {
            return Err((RefusalReason::Memory, 1000));
        }
        if of_head().count() >= limits::RINGS_PER_HEAD_MAX {
            return Err((RefusalReason::Quota, 0));
        }
        let size = |admission: &Admission| {
            u64::from(admission.cache_tokens) * u64::from(admission.layers.count())
        };
        let used = |rings: &mut dyn Iterator<Item = (&RingId, &Ring)>| -> u64 {
            let same = rings.filter(|(_, ring)| ring.admission().package == package);
            same.map(|(_, ring)| size(ring.admission())).sum()
        };
        let total = self.holdings.get(&package).map_or(0, |holding| holding.cache_token_layers);
        let asked = size(&request.admission);
        if used(&mut others()) + asked > total {
            return Err((RefusalReason::Memory, 1000));
        }
        let share = total.saturating_mul(self.config.head_share_percent.into()) / 100;
        if head != self.node && used(&mut of_head()) + asked > share {
            return Err((RefusalReason::Quota, 0));
        }
        Ok(())
    }

    pub(super) fn lease_renew(
        &mut self,
        from: NodeId,
        renew: LeaseRenew,
        now: Moment,
        out: &mut Vec<StageEffect>,
    ) {
        let ring = self.rings.get_mut(&renew.ring).filter(|ring| ring.head() == from);
        let at = Some((renew.ring, renew.generation));
        let Some(ring) = ring.filter(|ring| ring.generation == renew.generation) else {
            send_fault(out, from, at, None, FaultCode::NoLease, (0, 0));
            return;
        };
        let ttl_ms = renew.ttl_ms.min(self.config.ttl_ms_max);
        ring.expires = now + Duration::from_millis(ttl_ms.into());
        let message = Box::new(Message::LeaseRenewed(LeaseRenewed {
            ring: renew.ring,
            generation: renew.generation,
            queued_frames: u16::try_from(ring.held_frames())
                .unwrap_or(u16::MAX)
                .saturating_add(ring.computing),
            cached_tokens: u32::try_from(ring.cached_tokens()).unwrap_or(u32::MAX),
        }));
        out.push(StageEffect::Send { to: from, message });
    }

    pub(super) fn drain(&mut self, drain_ms: u32, now: Moment, out: &mut Vec<StageEffect>) {
        self.drains_until = Some(now + Duration::from_millis(drain_ms.into()));
        let all: Vec<RingId> = self.rings.keys().copied().collect();
        for id in all {
            self.tell_end(id, EndReason::Leaving, drain_ms, out);
        }
    }

    /// Ends leases whose heads have not moved in the time they had.
    pub(super) fn end_drained(&mut self, now: Moment, out: &mut Vec<StageEffect>) {
        if self.drains_until.is_some_and(|until| until <= now) {
            let all: Vec<RingId> = self.rings.keys().copied().collect();
            for id in all {
                self.end_lease(id, EndReason::Leaving, now, out);
            }
        }
    }

    /// Ends a lease at once, because of the head or of this node.
    pub(super) fn end_lease(
        &mut self,
        id: RingId,
        why: EndReason,
        now: Moment,
        out: &mut Vec<StageEffect>,
    ) {
        self.tell_end(id, why, 0, out);
        self.end_ring(id, now, out);
    }

    pub(super) fn tell_end(
        &self,
        id: RingId,
        reason: EndReason,
        drain_ms: u32,
        out: &mut Vec<StageEffect>,
    ) {
        if let Some(ring) = self.rings.get(&id) {
            let generation = ring.generation;
            let message =
                Box::new(Message::LeaseEnd(LeaseEnd { ring: id, generation, reason, drain_ms }));
            out.push(StageEffect::Send { to: ring.head(), message });
        }
    }
}
