//! A stage whose owner wants it to rest.

use shoal_base::Lane;
use shoal_swarm::{Holding, Moment, Stage, StageConfig, StageEffect, StageEvent};
use shoal_wire::{
    Admission, Duty, EndReason, GenerationId, LayerRange, LeaseRequest, List, Message, NodeId,
    PayloadFormat, RefusalReason, RingId, Route, RouteStage,
};

use crate::support::model;

const STAGE: NodeId = NodeId([1; 32]);
const HEAD: NodeId = NodeId([2; 32]);

fn stage() -> Stage {
    let layers = LayerRange { first: 0, end: model().layer_count };
    let holding = Holding {
        arithmetic: 1,
        width: model().width,
        loaded: vec![layers],
        held: vec![layers],
        cache_token_layers: 1 << 20,
    };
    let mut stage = Stage::new(STAGE, StageConfig::default());
    let event = StageEvent::Holding { package: model().package, holding: Some(holding) };
    stage.handle(event, Moment(0), &mut Vec::new());
    stage
}

/// A lease of all layers.
fn request(ring: u8) -> LeaseRequest {
    let model = model();
    let layers = LayerRange { first: 0, end: model.layer_count };
    let stages = List::try_new(vec![RouteStage { node: STAGE, layers, shadow: None }]);
    LeaseRequest {
        ring: RingId([ring; 16]),
        generation: GenerationId(1),
        ttl_ms: 10_000,
        admission: Admission {
            package: model.package,
            layers,
            arithmetic: 1,
            width: model.width,
            payload: PayloadFormat::Bf16,
            context_tokens: 64,
            cache_tokens: 64,
            frame_rows: 16,
            requests: 1,
            credit_frames: 8,
            credit_bytes: 1 << 16,
        },
        route: Route { head: HEAD, layer_count: model.layer_count, stages: stages.expect("one") },
        stage: 0,
        duty: Duty::Primary,
        lane: Lane::Interactive,
    }
}

/// What the head hears.
fn said(stage: &mut Stage, event: StageEvent, at_ms: u64) -> Vec<Message> {
    let mut out = Vec::new();
    stage.handle(event, Moment(at_ms * 1000), &mut out);
    let messages = out.into_iter().filter_map(|effect| match effect {
        StageEffect::Send { to, message } if to == HEAD => Some(*message),
        _ => None,
    });
    messages.collect()
}

fn ask(ring: u8) -> StageEvent {
    let message = Box::new(Message::LeaseRequest(request(ring)));
    StageEvent::Message { from: HEAD, message }
}

#[test]
fn a_stage_that_is_to_rest_gives_its_rings_time_and_takes_no_new_ones() {
    let mut stage = stage();
    assert!(matches!(said(&mut stage, ask(1), 0)[..], [Message::LeaseGrant(_)]));
    let ends = said(&mut stage, StageEvent::Drain { drain_ms: 5000 }, 1000);
    let [Message::LeaseEnd(end)] = &ends[..] else { panic!("{ends:?}") };
    assert_eq!((end.reason, end.drain_ms), (EndReason::Leaving, 5000));
    let refused = said(&mut stage, ask(2), 2000);
    let [Message::LeaseRefusal(refusal)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!(refusal.reason, RefusalReason::Leaving);
    assert_eq!(stage.wake_at(), Some(Moment(6_000_000)), "before the lease would expire");
    assert_eq!(said(&mut stage, StageEvent::Tick, 5999), []);
    let ended = said(&mut stage, StageEvent::Tick, 6000);
    let [Message::LeaseEnd(end)] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!((end.reason, end.drain_ms), (EndReason::Leaving, 0));
    assert_eq!((stage.ring_count(), stage.wake_at()), (0, None));
    assert!(matches!(said(&mut stage, ask(2), 7000)[..], [Message::LeaseRefusal(_)]));
    assert_eq!(said(&mut stage, StageEvent::Resume, 8000), []);
    assert!(matches!(said(&mut stage, ask(2), 9000)[..], [Message::LeaseGrant(_)]));
}
