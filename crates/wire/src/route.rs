//! The stages of a ring, in order. Spec 03, 5.

use crate::codec::record;
use crate::limits::STAGES_MAX;
use crate::{LayerRange, List, NodeId, WireError};

record! {
    /// One stage of a route.
    #[derive(Copy, Hash)]
    pub struct RouteStage {
        /// Who computes.
        pub node: NodeId,
        /// What.
        pub layers: LayerRange,
        /// Who gets a copy of each frame, to take over with a warm cache.
        pub shadow: Option<NodeId>,
    }
}

record! {
    /// The way of a frame: from the head through the stages and back.
    pub struct Route {
        /// Who asks, samples and pays.
        pub head: NodeId,
        /// How many layers the package has.
        pub layer_count: u16,
        /// In the order of their layers, without gaps.
        pub stages: List<RouteStage, STAGES_MAX>,
    }
    check Route::check;
}

impl Route {
    /// Whether the stages hold all layers in order, and no node is its own shadow.
    ///
    /// # Errors
    /// Names the rule that is broken.
    pub fn check(&self) -> Result<(), WireError> {
        let broken = |rule| Err(WireError::Rule { field: "stages", rule });
        let mut next = 0;
        for stage in &self.stages {
            if stage.layers.first != next {
                return broken("ranges follow each other from layer 0");
            }
            if stage.shadow == Some(stage.node) {
                return broken("a stage and its shadow are two nodes");
            }
            next = stage.layers.end;
        }
        if next != self.layer_count || self.layer_count == 0 {
            return broken("ranges end with the last layer");
        }
        Ok(())
    }
}
