//! A plan made by hand: which node holds which layers, and who stands by.

use shoal_net::PeerAddress;
use shoal_swarm::Scout;
use shoal_wire::limits::STAGES_MAX;
use shoal_wire::{LayerRange, NodeId, RouteStage};

/// A node and the layers it has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStage {
    /// Who, and where.
    pub peer: PeerAddress,
    /// What it holds, exactly.
    pub layers: LayerRange,
}

/// Stages in order, and spares. The planner of a swarm does the same by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticPlan {
    stages: Vec<PlannedStage>,
    spares: Vec<PlannedStage>,
}

/// A plan that cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Layers are left out or named twice.
    #[error("stage {index} begins with layer {got}, {expected} is due")]
    Gap {
        /// The stage, from 0.
        index: usize,
        /// Where it begins.
        got: u16,
        /// Where the one before it ends.
        expected: u16,
    },
    /// The last layers are left out, or there are more than the package has.
    #[error("the stages end with layer {got}, the package has {layer_count}")]
    End {
        /// Where they end.
        got: u16,
        /// Layers of the package.
        layer_count: u16,
    },
    /// Too many stages.
    #[error("{got} stages, limit {limit}")]
    Count {
        /// How many.
        got: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// One node twice: a node is one stage of a ring, or a spare.
    #[error("node {node} is in the plan twice")]
    Twice {
        /// Who.
        node: NodeId,
    },
    /// A spare that fits no stage.
    #[error("spare {index} holds layers {first}..{end}, which are not those of a stage")]
    Spare {
        /// Which, from 0.
        index: usize,
        /// Its first layer.
        first: u16,
        /// One past its last layer.
        end: u16,
    },
}

impl StaticPlan {
    /// Checks that the stages hold all layers of a package of `layer_count` in order.
    ///
    /// # Errors
    /// Names what does not fit.
    pub fn try_new(
        layer_count: u16,
        stages: Vec<PlannedStage>,
        spares: Vec<PlannedStage>,
    ) -> Result<Self, PlanError> {
        if stages.len() > STAGES_MAX {
            return Err(PlanError::Count { got: stages.len(), limit: STAGES_MAX });
        }
        let mut expected = 0;
        for (index, stage) in stages.iter().enumerate() {
            if stage.layers.first != expected {
                return Err(PlanError::Gap { index, got: stage.layers.first, expected });
            }
            expected = stage.layers.end;
        }
        if expected != layer_count {
            return Err(PlanError::End { got: expected, layer_count });
        }
        for (index, spare) in spares.iter().enumerate() {
            let LayerRange { first, end } = spare.layers;
            if !stages.iter().any(|stage| stage.layers == spare.layers) {
                return Err(PlanError::Spare { index, first, end });
            }
        }
        let nodes: Vec<NodeId> = stages.iter().chain(&spares).map(|s| s.peer.node).collect();
        for (index, &node) in nodes.iter().enumerate() {
            if nodes[..index].contains(&node) {
                return Err(PlanError::Twice { node });
            }
        }
        Ok(Self { stages, spares })
    }

    /// Everybody in it.
    pub fn peers(&self) -> impl Iterator<Item = &PeerAddress> {
        self.stages.iter().chain(&self.spares).map(|stage| &stage.peer)
    }

    fn holders(&self, layers: LayerRange) -> impl Iterator<Item = NodeId> {
        let all = self.stages.iter().chain(&self.spares);
        all.filter(move |stage| stage.layers == layers).map(|stage| stage.peer.node)
    }

    /// Somebody with these layers who is not left out.
    fn holder(&self, layers: LayerRange, excluded: &[NodeId]) -> Option<NodeId> {
        self.holders(layers).find(|node| !excluded.contains(node))
    }
}

impl Scout for StaticPlan {
    fn route(&mut self, excluded: &[NodeId]) -> Option<Vec<RouteStage>> {
        let failed = |node: &NodeId| excluded.iter().position(|excluded| excluded == node);
        let stage = |planned: &PlannedStage| {
            let layers = planned.layers;
            // Where all were left out, they are tried in turns: one of them may live.
            let other = || self.holders(layers).min_by_key(failed);
            let node = self.holder(layers, excluded).or_else(other);
            RouteStage { node: node.unwrap_or(planned.peer.node), layers, shadow: None }
        };
        Some(self.stages.iter().map(stage).collect())
    }

    fn spare(&mut self, layers: LayerRange, excluded: &[NodeId]) -> Option<NodeId> {
        self.holder(layers, excluded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(node: u8, first: u16, end: u16) -> PlannedStage {
        let peer = PeerAddress::nowhere(NodeId([node; 32]));
        PlannedStage { peer, layers: LayerRange { first, end } }
    }

    #[test]
    fn a_plan_holds_every_layer_once() {
        let plan = |stages, spares| StaticPlan::try_new(4, stages, spares);
        assert!(plan(vec![stage(1, 0, 1), stage(2, 1, 4)], vec![stage(3, 1, 4)]).is_ok());
        let gap = PlanError::Gap { index: 1, got: 2, expected: 1 };
        assert_eq!(plan(vec![stage(1, 0, 1), stage(2, 2, 4)], vec![]), Err(gap));
        let end = PlanError::End { got: 3, layer_count: 4 };
        assert_eq!(plan(vec![stage(1, 0, 3)], vec![]), Err(end));
        let twice = PlanError::Twice { node: NodeId([1; 32]) };
        assert_eq!(plan(vec![stage(1, 0, 4)], vec![stage(1, 0, 4)]), Err(twice));
        let spare = PlanError::Spare { index: 0, first: 0, end: 2 };
        assert_eq!(plan(vec![stage(1, 0, 4)], vec![stage(2, 0, 2)]), Err(spare));
        let many = (0..65).map(|i| stage(i, i.into(), u16::from(i) + 1)).collect();
        let count = PlanError::Count { got: 65, limit: 64 };
        assert_eq!(StaticPlan::try_new(65, many, vec![]), Err(count));
    }

    #[test]
    fn a_spare_takes_the_place_of_a_stage_that_is_left_out() {
        let stages = vec![stage(1, 0, 2), stage(2, 2, 4)];
        let mut plan = StaticPlan::try_new(4, stages, vec![stage(3, 2, 4)]).expect("it fits");
        let nodes = |plan: &mut StaticPlan, excluded: &[NodeId]| {
            let route = plan.route(excluded).expect("there always is one");
            route.iter().map(|stage| stage.node.0[0]).collect::<Vec<_>>()
        };
        let [first, second, third] = [1, 2, 3].map(|node| NodeId([node; 32]));
        assert_eq!(nodes(&mut plan, &[]), [1, 2]);
        assert_eq!(nodes(&mut plan, &[second]), [1, 3]);
        assert_eq!(nodes(&mut plan, &[first, second, third]), [1, 2], "better than nobody");
        assert_eq!(nodes(&mut plan, &[third, second]), [1, 3], "it failed longer ago");
        let layers = LayerRange { first: 2, end: 4 };
        assert_eq!(plan.spare(layers, &[second]), Some(third));
        assert_eq!(plan.spare(layers, &[second, third]), None, "a spare is somebody else");
    }
}
