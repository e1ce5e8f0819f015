//! What a node sees of its swarm, in the words of the console's map.

use shoal_base::Generate as _;
use shoal_gateway::{MapLayers, MapMember, MapRing, MapStage};
use shoal_node::{LayerRange, MemberState, MemberView, PlanStage, RingHead};

/// Digits of a package's id that name it where no name is known.
const SHORT: usize = 12;

fn ms(seconds: f64) -> f64 {
    seconds * 1000.0
}

/// The first and the last layer.
fn ends(layers: LayerRange) -> (u32, u32) {
    (layers.first.into(), u32::from(layers.end) - 1)
}

/// The ring of a model.
pub(crate) fn ring(model: &str, head: &RingHead) -> MapRing {
    let status = head.status();
    let planned = status.plan.as_ref().map_or(&[][..], |plan| &plan.stages[..]);
    let stages = status.stages.iter().map(|stage| {
        let is_this = |p: &&PlanStage| p.node == stage.node && p.layers == stage.layers;
        let expected = planned.iter().find(is_this);
        let (first, last) = ends(stage.layers);
        MapStage {
            node: stage.node.to_string(),
            first,
            last,
            shadow: stage.shadow.map(|node| node.to_string()),
            compute_ms: expected.map(|stage| ms(stage.compute_s)),
            link_ms: expected.map(|stage| ms(stage.link_s)),
        }
    });
    MapRing {
        model: model.to_owned(),
        is_ready: status.is_ready,
        requests: head.open_requests() as u64,
        replaced: status.replaced,
        replayed_tokens: status.replayed_tokens,
        expected_tokens_per_s: status.plan.as_ref().map(|plan| plan.tokens_per_s),
        stages: stages.collect(),
        trouble: if status.trouble.is_empty() { status.why } else { status.trouble },
    }
}

/// A member, and its layers of the models that `rings` serve under these names.
pub(crate) fn member(view: &MemberView, rings: &[(String, std::sync::Arc<RingHead>)]) -> MapMember {
    let name = |package| {
        let known = rings.iter().find(|(_, ring)| ring.card().package == package);
        let short = || package.to_string().chars().take(SHORT).collect();
        known.map_or_else(short, |(name, _)| name.clone())
    };
    let layers = view.offers.iter().flat_map(|offer| {
        let model = name(offer.package);
        offer.loaded.iter().map(move |range| {
            let (first, last) = ends(*range);
            MapLayers { model: model.clone(), first, last }
        })
    });
    MapMember {
        node: view.node.to_string(),
        is_connected: view.is_me || view.is_connected,
        is_relayed: view.is_relayed,
        round_trip_ms: view.round_trip.map(|trip| ms(trip.as_secs_f64())),
        offers: layers.collect(),
    }
}

/// Members that may still be counted on.
pub(crate) fn is_shown(view: &MemberView) -> bool {
    view.is_me || view.state != MemberState::Left
}

/// A stage that is in no swarm, and how packets go to it if there is a connection.
pub(crate) fn stage_only(stage: &MapStage, model: &str, is_relayed: Option<bool>) -> MapMember {
    MapMember {
        node: stage.node.clone(),
        is_connected: is_relayed.is_some(),
        is_relayed,
        round_trip_ms: None,
        offers: vec![MapLayers { model: model.to_owned(), first: stage.first, last: stage.last }],
    }
}
