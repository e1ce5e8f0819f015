//! How a ring finds its nodes: a plan made by hand, or the members of a swarm.

use shoal_base::PackageId;
use shoal_swarm::{
    Members, ModelShape, Moment, Plan, PlanError, Planner, Random, Scout, Want, route_stages,
};
use shoal_wire::{LayerRange, NodeId, RouteStage};

use crate::StaticPlan;
use crate::chance::SystemRandom;
use crate::limits::MOVE_EVERY;

/// Where nodes come from.
#[derive(Debug)]
pub(crate) enum Way {
    /// The owner named them.
    Fixed(StaticPlan),
    /// The planner chooses among the members.
    Planned(Planned),
}

/// Plans over the members of a swarm. A route is kept until a plan is better by so much that the
/// move is worth it.
#[derive(Debug)]
pub(crate) struct Planned {
    model: ModelShape,
    want: Want,
    /// The last route that was chosen.
    route: Vec<RouteStage>,
    /// The best plan when last looked, or why there is none.
    best: Result<Plan, PlanError>,
    move_at: Moment,
}

impl Planned {
    pub(crate) fn new(model: ModelShape, want: Want) -> Self {
        let best = Err(PlanError::NoHead);
        Self { model, want, route: Vec::new(), best, move_at: Moment(0) }
    }

    fn planner<'a>(
        &self,
        members: &'a Members,
        me: NodeId,
        excluded: &[NodeId],
    ) -> Result<Planner<'a>, PlanError> {
        let mut planner = Planner::new(members, me, self.model, self.want)?;
        planner.exclude(excluded.iter().copied());
        Ok(planner)
    }

    /// A node for some layers: of those that have them in memory, else of those that can load or
    /// fetch them.
    fn spare(
        &self,
        (members, me): (&Members, NodeId),
        layers: LayerRange,
        excluded: &[NodeId],
    ) -> Option<NodeId> {
        let first = |want: Want| {
            let mut planner = Planner::new(members, me, self.model, want).ok()?;
            planner.exclude(excluded.iter().copied());
            planner.spares(layers).into_iter().next()
        };
        first(self.want).or_else(|| first(Want { may_fetch: true, ..self.want }))
    }

    fn is_loaded(&self, members: &Members, node: NodeId, layers: LayerRange) -> bool {
        let offers = members.get(node).into_iter().flat_map(|member| member.offers.iter());
        let mut ours = offers.filter(|offer| offer.package == self.model.package);
        ours.any(|offer| offer.loaded.iter().any(|range| range.covers(layers)))
    }

    fn route(
        &mut self,
        (members, me): (&Members, NodeId),
        excluded: &[NodeId],
        random: &mut dyn Random,
    ) -> Option<Vec<RouteStage>> {
        let planner = self.planner(members, me, excluded).ok()?;
        let stays = |stage: &RouteStage| !excluded.contains(&stage.node);
        let is_usable = !self.route.is_empty()
            && self.route.iter().all(stays)
            && planner.predict(&self.route).is_some();
        if is_usable && planner.better(&self.route, random).is_none() {
            return Some(self.route.clone());
        }
        let (mut plans, mut excluded) = (planner.plans(random), excluded);
        while plans.is_err() && !excluded.is_empty() {
            // Whoever failed is better than nobody, and who did so long ago better than the last.
            excluded = &excluded[excluded.len().div_ceil(2)..];
            let planner = self.planner(members, me, excluded);
            plans = planner.and_then(|planner| planner.plans(random));
        }
        match plans.map(|mut plans| plans.swap_remove(0)) {
            Ok(plan) => {
                self.route = route_stages(&plan);
                self.best = Ok(plan);
                Some(self.route.clone())
            }
            Err(error) => {
                self.best = Err(error);
                None
            }
        }
    }
}

impl Way {
    /// Looks again. A route to move to from the one in use, when there is one that is so much
    /// better.
    pub(crate) fn look(
        &mut self,
        (members, me): (&Members, NodeId),
        in_use: Option<&[RouteStage]>,
        now: Moment,
    ) -> Option<Vec<RouteStage>> {
        let Self::Planned(planned) = self else {
            return None;
        };
        let planner = match planned.planner(members, me, &[]) {
            Ok(planner) => planner,
            Err(error) => {
                planned.best = Err(error);
                return None;
            }
        };
        planned.best = planner.plans(&mut SystemRandom).map(|mut plans| plans.swap_remove(0));
        let in_use = in_use?;
        planned.route = in_use.iter().map(|stage| RouteStage { shadow: None, ..*stage }).collect();
        if planned.move_at > now {
            return None;
        }
        let better = planner.better(&planned.route, &mut SystemRandom)?;
        planned.move_at = now + MOVE_EVERY;
        planned.route = route_stages(&better);
        Some(planned.route.clone())
    }

    /// A scout over the members as they are now.
    pub(crate) fn scout<'a>(&'a mut self, members: (&'a Members, NodeId)) -> impl Scout + 'a {
        Scouting { way: self, members }
    }

    /// Whether trouble with a peer is trouble of this ring.
    pub(crate) fn names(&self, peer: NodeId) -> bool {
        match self {
            Self::Fixed(plan) => plan.peers().any(|planned| planned.node == peer),
            Self::Planned(planned) => planned.route.iter().any(|stage| stage.node == peer),
        }
    }

    /// The model that members are looked for.
    pub(crate) fn package(&self) -> Option<PackageId> {
        match self {
            Self::Fixed(_) => None,
            Self::Planned(planned) => Some(planned.model.package),
        }
    }

    /// The best plan.
    pub(crate) fn plan(&self) -> Option<&Plan> {
        match self {
            Self::Fixed(_) => None,
            Self::Planned(planned) => planned.best.as_ref().ok(),
        }
    }

    /// Why there is none.
    pub(crate) fn why(&self) -> Option<PlanError> {
        match self {
            Self::Fixed(_) => None,
            Self::Planned(planned) => planned.best.as_ref().err().copied(),
        }
    }
}

struct Scouting<'a> {
    way: &'a mut Way,
    members: (&'a Members, NodeId),
}

impl Scout for Scouting<'_> {
    fn route(&mut self, excluded: &[NodeId]) -> Option<Vec<RouteStage>> {
        match self.way {
            Way::Fixed(plan) => plan.route(excluded),
            Way::Planned(planned) => planned.route(self.members, excluded, &mut SystemRandom),
        }
    }

    fn spare(&mut self, layers: LayerRange, excluded: &[NodeId]) -> Option<NodeId> {
        match self.way {
            Way::Fixed(plan) => plan.spare(layers, excluded),
            Way::Planned(planned) => planned.spare(self.members, layers, excluded),
        }
    }

    fn stand_by(&mut self, layers: LayerRange, excluded: &[NodeId]) -> Option<NodeId> {
        let node = self.spare(layers, excluded)?;
        match self.way {
            // Whoever has them says so.
            Way::Fixed(_) => Some(node),
            Way::Planned(planned) => {
                (!planned.is_loaded(self.members.0, node, layers)).then_some(node)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use shoal_base::Digest;
    use shoal_swarm::{NodeKey, Speculation};
    use shoal_wire::{Coordinate, Descriptor, List, MemberState, Offer, duties};

    use super::*;

    const LAYERS: LayerRange = LayerRange { first: 0, end: 4 };
    const WANT: Want = Want { cache_tokens: 64, may_fetch: false, speculation: Speculation::Off };

    fn model() -> ModelShape {
        ModelShape {
            package: PackageId(Digest::of(b"a model")),
            arithmetic: 1,
            layer_count: LAYERS.end,
            width: 64,
            layer_bytes: 1 << 20,
            cache_bytes: 1 << 10,
        }
    }

    /// Members that hold all layers, besides one that leads.
    fn members() -> (Members, [NodeId; 3]) {
        let keys = [1, 2, 3].map(|seed| NodeKey::new(&[seed; 32]));
        let mut members = Members::default();
        for (index, key) in keys.iter().enumerate() {
            let offer = Offer {
                package: model().package,
                arithmetic: 1,
                held: List::truncated([LAYERS]),
                loaded: List::truncated([LAYERS]),
                decode_ns: 1_000,
                prefill_ns: 1_000,
                cache_tokens_free: 1_000,
            };
            let said = Descriptor {
                node: key.id(),
                sequence: 1,
                lifetime_s: 600,
                state: MemberState::Active,
                duties: duties::STAGE,
                certificate: None,
                addresses: List::default(),
                memory_free_bytes: 0,
                disk_free_bytes: 0,
                uplink_bytes_per_s: 0,
                downlink_bytes_per_s: 0,
                coordinate: Coordinate::default(),
                offers: List::truncated((index > 0).then_some(offer)),
                links: List::default(),
            };
            members.learn(key.sign(said), Moment(0)).expect("nodes sign what they say");
        }
        (members, keys.map(|key| key.id()))
    }

    #[test]
    fn where_all_have_failed_they_are_tried_in_turns() {
        let (members, [me, a, b]) = members();
        let mut planned = Planned::new(model(), WANT);
        let mut tried = |excluded: &[NodeId]| {
            let route = planned.route((&members, me), excluded, &mut SystemRandom);
            route.expect("somebody is better than nobody")[0].node
        };
        assert_eq!(tried(&[a]), b);
        for _ in 0..8 {
            assert_eq!(tried(&[a, b]), a, "it failed longer ago");
            assert_eq!(tried(&[b, a]), b, "it failed longer ago");
        }
    }
}
