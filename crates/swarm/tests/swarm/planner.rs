//! Plans: the law, memory, bytes that have to move, and staying where one is.

use crate::support::{Seeded, descriptor, key, model};
use shoal_swarm::{Members, Moment, PlanError, Planner, Speculation, Want, route_stages};
use shoal_wire::{Descriptor, LayerRange, Link, List, MemberState, NodeId};

const HEAD: u16 = 0;

/// A head in the middle of stages: capacity in layers, milliseconds per layer, round trip in ms.
fn members(stages: &[(u16, u32, u32)], change: impl Fn(usize, &mut Descriptor)) -> Members {
    let mut members = Members::default();
    let mut links: Vec<Link> = stages
        .iter()
        .enumerate()
        .map(|(index, (_, _, rtt_ms))| Link {
            peer: node(index),
            rtt_us: rtt_ms * 1000,
            loss_ppm: 0,
            is_relayed: false,
        })
        .collect();
    links.sort_by_key(|link| link.peer);
    let mut head = descriptor(key(HEAD).id(), 0, 1, links);
    head.duties = shoal_wire::duties::HEAD;
    members.learn(key(HEAD).sign(head), Moment(0)).expect("genuine");
    for (index, (capacity, layer_ms, _)) in stages.iter().enumerate() {
        let mut body = descriptor(node(index), *capacity, *layer_ms, Vec::new());
        body.coordinate.height_us = 20_000;
        change(index, &mut body);
        members.learn(key(index as u16 + 1).sign(body), Moment(0)).expect("genuine");
    }
    members
}

fn node(index: usize) -> NodeId {
    key(index as u16 + 1).id()
}

fn planner(members: &Members) -> Planner<'_> {
    let want = Want { cache_tokens: 16_384, may_fetch: true, speculation: Speculation::Off };
    Planner::new(members, key(HEAD).id(), model(), want).expect("it is a member")
}

#[test]
fn one_node_that_holds_everything_beats_two_that_are_apart() {
    let members = members(&[(24, 2, 10), (12, 2, 10), (12, 2, 10)], |_, _| {});
    let plans = planner(&members).plans(&mut Seeded(1)).unwrap();
    assert_eq!(plans[0].stages.len(), 1);
    assert!((plans[0].law.ring_s - (0.010 + 24.0 * 0.002)).abs() < 1e-9);
    let two = plans.iter().find(|plan| plan.stages.len() == 2).unwrap();
    assert!(two.tokens_per_s < plans[0].tokens_per_s, "the law says why");
}

#[test]
fn layers_are_split_when_no_node_has_the_memory() {
    let members = members(&[(12, 2, 10), (12, 2, 10), (12, 9, 10)], |_, _| {});
    let plan = planner(&members).plans(&mut Seeded(1)).unwrap().remove(0);
    let nodes: Vec<_> = plan.stages.iter().map(|stage| stage.node).collect();
    assert_eq!(nodes.len(), 2);
    assert!(!nodes.contains(&node(2)), "the slow one");
    let ranges: Vec<_> = plan.stages.iter().map(|stage| stage.layers).collect();
    assert_eq!(ranges, [LayerRange { first: 0, end: 12 }, LayerRange { first: 12, end: 24 }]);
    let exact = plan.stages.iter().map(|s| s.link_s + s.compute_s).sum::<f64>() + plan.return_s;
    assert!((plan.law.ring_s - exact).abs() < 1e-12);
}

#[test]
fn what_has_to_be_fetched_counts() {
    let held = |index: usize, body: &mut Descriptor| {
        if index == 0 {
            let mut offers = body.offers.to_vec();
            offers[0].held = List::default();
            body.offers = List::try_new(offers).unwrap();
        }
    };
    let members = members(&[(24, 10, 10), (24, 10, 10)], held);
    let plans = planner(&members).plans(&mut Seeded(1)).unwrap();
    assert_eq!((plans[0].stages[0].node, plans[0].bytes_to_move), (node(1), 0));
    let mut only = planner(&members);
    only.exclude([node(1)]);
    let plan = only.plans(&mut Seeded(1)).unwrap().remove(0);
    assert_eq!(plan.bytes_to_move, 24 * (50 << 20));
    assert!((plan.move_s - plan.bytes_to_move as f64 / 1e7).abs() < 1e-9);
}

#[test]
fn boundaries_move_for_a_large_gain_only() {
    let members = members(&[(24, 10, 10), (24, 9, 10), (24, 2, 10)], |_, _| {});
    let stage = |index| shoal_wire::RouteStage {
        node: node(index),
        layers: LayerRange { first: 0, end: 24 },
        shadow: None,
    };
    let mut planner = planner(&members);
    let better = planner.better(&[stage(0)], &mut Seeded(1)).unwrap();
    assert_eq!(route_stages(&better), [stage(2)]);
    planner.exclude([node(2)]);
    assert_eq!(planner.better(&[stage(0)], &mut Seeded(1)), None, "10 % is not worth it");
    assert_eq!(planner.better(&[stage(1)], &mut Seeded(1)), None);
}

#[test]
fn spares_have_room_and_those_with_weights_in_memory_come_first() {
    let layers = LayerRange { first: 0, end: 12 };
    let change = |index: usize, body: &mut Descriptor| match index {
        1 => {
            let mut offers = body.offers.to_vec();
            offers[0].loaded = List::try_new(vec![layers]).unwrap();
            body.offers = List::try_new(offers).unwrap();
        }
        2 => body.state = MemberState::Draining,
        _ => {}
    };
    let members = members(&[(12, 1, 10), (12, 5, 10), (12, 1, 10), (11, 1, 10)], change);
    assert_eq!(planner(&members).spares(layers), [node(1), node(0)]);
}

#[test]
fn there_is_no_plan_without_members_or_memory() {
    let alone = members(&[], |_, _| {});
    assert_eq!(planner(&alone).plans(&mut Seeded(1)), Err(PlanError::NoCandidate));
    let mut want = Want { cache_tokens: 16_384, may_fetch: false, speculation: Speculation::Off };
    let held = members(&[(24, 1, 1)], |_, _| {});
    let now = Planner::new(&held, key(HEAD).id(), model(), want).unwrap();
    assert!(now.plans(&mut Seeded(1)).is_err(), "nothing is in memory yet");
    assert!(now.spares(LayerRange { first: 0, end: 4 }).is_empty());
    want.may_fetch = true;
    assert!(
        Planner::new(&held, key(HEAD).id(), model(), want).unwrap().plans(&mut Seeded(1)).is_ok()
    );
    let small = members(&[(5, 1, 1), (6, 1, 1)], |_, _| {});
    let expected = Err(PlanError::TooSmall { layers: 11, layer_count: 24 });
    assert_eq!(planner(&small).plans(&mut Seeded(1)), expected);
}

/// Ten thousand members of one package: a plan takes 10 ms at most.
#[test]
fn ten_thousand_members_are_planned_with_at_once() {
    let mut all = members(&[(12, 3, 20), (12, 4, 20), (24, 9, 40)], |_, _| {});
    let base = descriptor(key(1).id(), 12, 5, Vec::new());
    for seed in 10..10_010_u16 {
        let mut body = base.clone();
        let key = key(seed);
        body.node = key.id();
        body.coordinate.height_us = 5000 + u32::from(seed) * 3;
        body.coordinate.x_us = i32::from(seed) * 10;
        all.learn(key.sign(body), Moment(0)).unwrap();
    }
    let planner = planner(&all);
    let mut random = Seeded(1);
    let times = (0..5).map(|_| {
        let started = std::time::Instant::now();
        let plans = planner.plans(&mut random).unwrap();
        assert_eq!(plans[0].stages.last().unwrap().layers.end, 24);
        started.elapsed()
    });
    let best = times.min().unwrap();
    println!("plan over {} members: {best:?}", all.len());
    assert!(best.as_millis() <= 50, "{best:?}; 10 ms when optimised");
}
