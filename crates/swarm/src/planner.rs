//! From members to plans: which nodes hold which layers of a ring.
//!
//! A search over partial plans from layer 0 upwards. At each step a few nodes with the least time
//! per layer, counting the way to them, take the layers they can; the best partial plans go on.
//! Fewer stages win where the law says so, since a plan is compared whole.

use std::collections::BTreeSet;

use shoal_wire::{Descriptor, LayerRange, NodeId, Offer, RouteStage};

use crate::brief::Brief;
use crate::links::{is_relayed, rough_us};
use crate::{
    Members, ModelShape, Plan, PlanError, PlanStage, Random, Speculation, Want, distance_us, limits,
};

/// A member as a planner sees it for one package.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    member: &'a Descriptor,
    offer: Option<&'a Offer>,
    layer_s: f64,
    /// Layers it can hold with the cache that is wanted, loaded ones included.
    capacity: u16,
    from_head_s: f64,
}

/// How fast a member is, and how many layers it can hold.
#[derive(Clone, Copy, Debug)]
struct Ability {
    layer_s: f64,
    capacity: u16,
}

/// A plan that has not reached the last layer.
#[derive(Clone, Debug)]
struct Partial {
    stages: Vec<PlanStage>,
    next: u16,
    time_s: f64,
    move_s: f64,
}

/// Plans over what a node knows.
#[derive(Debug)]
pub struct Planner<'a> {
    members: &'a Members,
    head: &'a Descriptor,
    model: ModelShape,
    want: Want,
    excluded: BTreeSet<NodeId>,
}

impl<'a> Planner<'a> {
    /// For a head.
    ///
    /// # Errors
    /// When the head is not a member.
    pub fn new(
        members: &'a Members,
        head: NodeId,
        model: ModelShape,
        want: Want,
    ) -> Result<Self, PlanError> {
        let head = members.get(head).ok_or(PlanError::NoHead)?;
        Ok(Self { members, head, model, want, excluded: BTreeSet::new() })
    }

    /// Leaves nodes out.
    pub fn exclude(&mut self, nodes: impl IntoIterator<Item = NodeId>) {
        self.excluded.extend(nodes);
    }

    /// The best plan of each number of stages, best first.
    ///
    /// # Errors
    /// When no plan reaches the last layer.
    pub fn plans(&self, random: &mut dyn Random) -> Result<Vec<Plan>, PlanError> {
        let candidates = self.candidates(random);
        if candidates.is_empty() {
            return Err(PlanError::NoCandidate);
        }
        let mut plans: Vec<Plan> = Vec::new();
        let empty = Partial { stages: Vec::new(), next: 0, time_s: 0.0, move_s: 0.0 };
        let (mut partials, mut reached) = (vec![empty], 0);
        for _ in 0..limits::PLAN_STAGES_MAX {
            let mut longer = Vec::new();
            for partial in &partials {
                self.extend(partial, &candidates, &mut longer);
            }
            let (whole, unfinished): (Vec<_>, Vec<_>) =
                longer.into_iter().partition(|partial| partial.next == self.model.layer_count);
            let whole = whole.into_iter().map(|partial| self.finish(partial));
            plans.extend(whole.min_by(|a, b| a.cost_s().total_cmp(&b.cost_s())));
            partials = unfinished;
            reached = partials.iter().map(|partial| partial.next).fold(reached, u16::max);
            let best = plans.iter().map(Plan::cost_s).fold(f64::INFINITY, f64::min);
            if self.want.speculation == Speculation::Off {
                // Without guesses a longer plan only gets slower.
                partials.retain(|partial| partial.cost_s() < best);
            }
            self.keep_best(&mut partials);
            if partials.is_empty() {
                break;
            }
        }
        plans.sort_by(|a, b| a.cost_s().total_cmp(&b.cost_s()));
        if plans.is_empty() {
            let layer_count = self.model.layer_count;
            return Err(PlanError::TooSmall { layers: reached, layer_count });
        }
        Ok(plans)
    }

    /// Nodes that could hold some layers, the quickest to serve this head first. Those with the
    /// layers in memory come before those that have to load or fetch them.
    #[must_use]
    pub fn spares(&self, layers: LayerRange) -> Vec<NodeId> {
        let mut spares: Vec<(u8, f64, NodeId)> = Vec::new();
        let may_have = |brief: &Brief| brief.span.is_some_and(|span| span.covers(layers));
        let loaded = self.members.offering(self.model.package);
        let loaded = loaded.filter(|(_, brief)| may_have(brief)).map(|(node, _)| node);
        let nodes: Vec<NodeId> = match self.want.may_fetch {
            true => self.members.iter().map(|member| member.node).collect(),
            false => loaded.collect(),
        };
        for member in nodes.into_iter().filter_map(|node| self.members.get(node)) {
            let Some(candidate) = self.candidate(member) else {
                continue;
            };
            let is_loaded = candidate.loaded(layers);
            if candidate.capacity < layers.count() || !(is_loaded || self.want.may_fetch) {
                continue;
            }
            let effort = match candidate.missing(layers) {
                0 if is_loaded => 0,
                0 => 1,
                _ => 2,
            };
            let layers = f64::from(layers.count());
            let time_s = candidate.layer_s * layers + 2.0 * candidate.from_head_s;
            spares.push((effort, time_s, member.node));
        }
        let order = |a: &(u8, f64, NodeId), b: &(u8, f64, NodeId)| {
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
        };
        if spares.len() > limits::CANDIDATES_MAX {
            spares.select_nth_unstable_by(limits::CANDIDATES_MAX, order);
            spares.truncate(limits::CANDIDATES_MAX);
        }
        spares.sort_by(order);
        spares.into_iter().map(|(.., node)| node).collect()
    }

    /// The time a route would take per token, by what is known now; `None` when a node is gone.
    #[must_use]
    pub fn predict(&self, route: &[RouteStage]) -> Option<Plan> {
        let mut partial = Partial { stages: Vec::new(), next: 0, time_s: 0.0, move_s: 0.0 };
        for stage in route {
            let candidate = self.candidate(self.members.get(stage.node)?)?;
            let stage = self.stage(&partial, &candidate, stage.layers);
            partial.push(stage, 0.0);
        }
        Some(self.finish(partial))
    }

    /// A plan that is so much better than a route that its layers should move, if there is one.
    pub fn better(&self, route: &[RouteStage], random: &mut dyn Random) -> Option<Plan> {
        let present = self.predict(route)?;
        let best = self.plans(random).ok()?.into_iter().next()?;
        let gain = present.cost_s() * (1.0 - limits::GAIN_MIN);
        (best.cost_s() < gain && best.stages.len() <= route.len().max(1)).then_some(best)
    }

    fn candidates(&self, random: &mut dyn Random) -> Vec<Candidate<'a>> {
        let mut scored: Vec<(f64, NodeId)> = Vec::new();
        let mut weigh = |node: NodeId, brief: &Brief| {
            if let Some(ability) = self.ability(node, brief) {
                // A little chance, or all heads would choose the same nodes at the same time.
                let chance = 1.0 + random.below(1000) as f64 / 4000.0;
                scored.push((self.score(node, brief, ability) * chance, node));
            }
        };
        match self.want.may_fetch {
            true => self.members.iter().for_each(|member| {
                weigh(member.node, &Brief::new(member, self.offer(member)));
            }),
            // Others have none of the layers in memory.
            false => self.members.offering(self.model.package).for_each(|(n, b)| weigh(n, b)),
        }
        let order = |a: &(f64, NodeId), b: &(f64, NodeId)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        if scored.len() > limits::CANDIDATES_MAX {
            let last = limits::CANDIDATES_MAX;
            scored.select_nth_unstable_by(last, order);
            scored.truncate(last);
        }
        scored.sort_by(order);
        let members = scored.into_iter().filter_map(|(_, node)| self.members.get(node));
        members.filter_map(|member| self.candidate(member)).collect()
    }

    fn offer(&self, member: &'a Descriptor) -> Option<&'a Offer> {
        let index = member.offers.binary_search_by_key(&self.model.package, |o| o.package);
        index.ok().map(|index| &member.offers[index])
    }

    /// Seconds per layer when it takes as many as it can, the way from and to the head included.
    fn score(&self, node: NodeId, brief: &Brief, ability: Ability) -> f64 {
        let layer_count = self.model.layer_count;
        let layers = f64::from(ability.capacity.min(layer_count).max(1));
        let held = f64::from(brief.held_count.min(layer_count));
        let absent = 1.0 - held / f64::from(layer_count.max(1));
        let from_head_s = f64::from(rough_us(self.head, node, &brief.place)) / 1e6;
        ability.layer_s * (1.0 + absent) + 2.0 * from_head_s / layers
    }

    /// What a member can do, if it can do anything.
    fn ability(&self, node: NodeId, brief: &Brief) -> Option<Ability> {
        if !brief.is_open || self.excluded.contains(&node) {
            return None;
        }
        if brief.arithmetic.is_some_and(|arithmetic| arithmetic != self.model.arithmetic) {
            return None;
        }
        let cache = u64::from(self.want.cache_tokens) * self.model.cache_bytes;
        let memory = brief.memory_free_bytes + brief.loaded_count * self.model.layer_bytes;
        let capacity = memory / (self.model.layer_bytes + cache).max(1);
        let capacity = u16::try_from(capacity).unwrap_or(u16::MAX).min(self.model.layer_count);
        // What is in memory has its caches already: it needs no more.
        let capacity = capacity.max(brief.widest);
        let cache_free =
            brief.loaded_count == 0 || brief.cache_tokens_free >= self.want.cache_tokens;
        if capacity == 0 || !cache_free {
            return None;
        }
        let decode_ns = if brief.decode_ns == 0 { limits::UNMEASURED_NS } else { brief.decode_ns };
        Some(Ability { layer_s: f64::from(decode_ns) / 1e9, capacity })
    }

    fn candidate(&self, member: &'a Descriptor) -> Option<Candidate<'a>> {
        let offer = self.offer(member);
        let Ability { layer_s, capacity } =
            self.ability(member.node, &Brief::new(member, offer))?;
        let from_head_s = f64::from(distance_us(self.head, member)) / 1e6;
        Some(Candidate { member, offer, layer_s, capacity, from_head_s })
    }

    fn extend(&self, partial: &Partial, candidates: &[Candidate<'a>], out: &mut Vec<Partial>) {
        for candidate in candidates {
            let node = candidate.member.node;
            if partial.stages.iter().any(|stage| stage.node == node) {
                continue;
            }
            for end in candidate.ends(partial.next, self.model.layer_count, self.want.may_fetch) {
                let layers = LayerRange { first: partial.next, end };
                let stage = self.stage(partial, candidate, layers);
                let down = match candidate.member.downlink_bytes_per_s {
                    0 => limits::UNMEASURED_BYTES_PER_S,
                    measured => measured,
                };
                let mut longer = partial.clone();
                longer.push(stage, stage.bytes_to_move as f64 / down as f64);
                out.push(longer);
            }
        }
    }

    fn stage(&self, partial: &Partial, candidate: &Candidate<'_>, layers: LayerRange) -> PlanStage {
        let before = partial.stages.last().and_then(|stage| self.members.get(stage.node));
        let link_us = distance_us(before.unwrap_or(self.head), candidate.member);
        PlanStage {
            node: candidate.member.node,
            layers,
            compute_s: candidate.layer_s * f64::from(layers.count()),
            link_s: f64::from(link_us) / 1e6,
            is_relayed: None,
            bytes_to_move: u64::from(candidate.missing(layers)) * self.model.layer_bytes,
        }
    }

    fn finish(&self, partial: Partial) -> Plan {
        let last = partial.stages.last().and_then(|stage| self.members.get(stage.node));
        let back_us = last.map_or(0, |last| distance_us(last, self.head));
        let back_s = f64::from(back_us) / 1e6;
        let mut plan = Plan::new(partial.stages, back_s, partial.move_s, self.want.speculation);
        let mut before = self.head;
        for stage in &mut plan.stages {
            if let Some(member) = self.members.get(stage.node) {
                stage.is_relayed = is_relayed(before, member);
                before = member;
            }
        }
        plan.return_is_relayed = is_relayed(before, self.head);
        plan
    }

    /// Compares partial plans by their time per layer, as they reach different layers.
    fn keep_best(&self, partials: &mut Vec<Partial>) {
        let score = |partial: &Partial| partial.cost_s() / f64::from(partial.next.max(1));
        partials.sort_by(|a, b| score(a).total_cmp(&score(b)).then(b.next.cmp(&a.next)));
        partials.truncate(limits::BEAM);
    }
}

impl Partial {
    /// As [`Plan::cost_s`], without the way back.
    fn cost_s(&self) -> f64 {
        self.time_s * limits::HORIZON_TOKENS + self.move_s
    }

    fn push(&mut self, stage: PlanStage, move_s: f64) {
        self.time_s += stage.link_s + stage.compute_s;
        self.move_s = self.move_s.max(move_s);
        self.next = stage.layers.end;
        self.stages.push(stage);
    }
}

impl Candidate<'_> {
    fn loaded(&self, layers: LayerRange) -> bool {
        self.offer.is_some_and(|offer| offer.loaded.iter().any(|range| range.covers(layers)))
    }

    /// Layers of a range that it would have to fetch.
    fn missing(&self, layers: LayerRange) -> u16 {
        let held = self.offer.map_or(&[][..], |offer| &offer.held);
        let common = |range: &LayerRange| {
            range.end.min(layers.end).saturating_sub(range.first.max(layers.first))
        };
        layers.count().saturating_sub(held.iter().map(common).sum())
    }

    /// Where its range may end when it starts at a layer: as far as it can, and at the ends of
    /// what it has, as going further means fetching.
    fn ends(&self, first: u16, layer_count: u16, may_fetch: bool) -> Vec<u16> {
        let farthest = first.saturating_add(self.capacity).min(layer_count);
        let mut ends = Vec::new();
        if may_fetch {
            ends.push(farthest);
        }
        if let Some(offer) = self.offer {
            let held = offer.held.iter().filter(|_| may_fetch);
            let ranges = held.chain(&offer.loaded);
            ends.extend(ranges.filter(|r| r.first <= first && r.end > first).map(|r| r.end));
        }
        ends.retain(|end| *end > first && *end <= farthest);
        ends.sort_unstable();
        ends.dedup();
        ends
    }
}

/// The stages of a plan as a route, without shadows.
#[must_use]
pub fn route_stages(plan: &Plan) -> Vec<RouteStage> {
    let stage =
        |stage: &PlanStage| RouteStage { node: stage.node, layers: stage.layers, shadow: None };
    plan.stages.iter().map(stage).collect()
}
