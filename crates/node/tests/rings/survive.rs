//! A stage goes in the middle of answers; nobody notices.

use std::time::Duration;

use shoal_base::TokenEvent;
use shoal_node::{NodeConfig, NodeId, StaticPlan};

use crate::support::{
    LAYERS, collect, expected, follow, lead, leader, local, package, planned, range, requests,
    ring, stage_for, start, together,
};

#[test]
fn a_stage_that_dies_is_replaced_and_no_answer_changes() {
    let package = package(1);
    let expected = expected(&package);
    for (victim, tokens) in [(0, 3), (1, 7), (2, 12)] {
        let mut ring = ring(&package, &[1, 3, 5], &[0, 1, 2]);
        let first = start(&ring.head, requests().remove(0));
        let mut seen = Vec::new();
        while seen.len() < tokens {
            match first.recv().expect("tokens come") {
                event @ TokenEvent::Token { .. } => seen.push(event),
                TokenEvent::Started { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        drop(ring.stages.remove(victim));
        let rest = collect(&first).expect("it goes on");
        seen.extend(rest.tokens);
        assert_eq!(seen, expected[0].tokens, "stage {victim} died after {tokens} tokens");
        assert_eq!(together(&ring.head), expected, "and everything after it");
        let status = ring.head.status();
        assert_eq!(status.replaced, 1, "{status:?}");
        assert_eq!(status.stages[victim].node, ring.spares[victim].address().node);
    }
}

#[test]
fn a_death_touches_no_other_ring_on_the_same_nodes() {
    let package = package(1);
    let expected = expected(&package);
    let other_key = [201; 32];
    let other = shoal_net::SecretKey::new(&other_key).id();
    let heads: Vec<NodeId> = vec![leader(), other];
    let node = |seed, layers| stage_for(heads.clone(), seed, &package, layers);
    let (low, high) = (range(0, 2), range(2, LAYERS));
    // Both rings use the first node; the second stage of each is its own.
    let (shared, ours, theirs, spare) = (node(1, low), node(2, high), node(3, high), node(4, high));
    let at = |node: &shoal_node::Node, layers| planned(node.address(), layers);
    let plan = |second, spares| {
        let stages = vec![at(&shared, low), at(second, high)];
        StaticPlan::try_new(LAYERS, stages, spares).expect("a plan")
    };
    let (leader, their_leader) =
        (lead(), shoal_node::Node::start(NodeConfig::new(other_key, local())).expect("it starts"));
    let patience = Duration::from_secs(5);
    let our_head = follow(&leader, &package, plan(&ours, vec![at(&spare, high)]), patience);
    let their_head = follow(&their_leader, &package, plan(&theirs, vec![]), patience);
    let both: Vec<_> = [&our_head, &their_head]
        .map(|head| requests().into_iter().map(|request| start(head, request)).collect::<Vec<_>>())
        .into();
    drop(ours);
    for running in &both {
        let answers: Vec<_> =
            running.iter().map(|events| collect(events).expect("it goes on")).collect();
        assert_eq!(answers, expected);
    }
    assert_eq!(together(&our_head), expected);
    assert_eq!(our_head.status().replaced, 1);
    let untouched = their_head.status();
    assert_eq!((untouched.generation, untouched.replaced, untouched.replayed_tokens), (1, 0, 0));
}

#[test]
fn without_a_spare_requests_fail_and_name_who_is_gone() {
    let package = package(1);
    let mut short = ring(&package, &[2, 5], &[]);
    assert_eq!(together(&short.head).len(), requests().len());
    let gone = short.stages.remove(1);
    let name = gone.address().node.to_string();
    drop(gone);
    let mut request = requests().remove(0);
    request.stop.tokens_max = Some(400);
    let error = collect(&start(&short.head, request)).expect_err("nobody has its layers");
    assert!(error.to_string().contains(&name), "{error}");
}

/// Deaths here are noticed at once. Those that are not keep their places among the peers that
/// gossip goes to, so that a spare may stay unknown to the stage before it: that is shown by
/// [`crate::introductions`] and the test of many kills in the netlab.
#[test]
fn every_stage_is_replaced_by_its_spare_and_by_that_alone() {
    let package = package(5);
    let expected = expected(&package);
    let mut ring = ring(&package, &[1, 2, 3, 4, 5], &[0, 1, 2, 3, 4]);
    assert_eq!(together(&ring.head), expected);
    for gone in 1..=5 {
        drop(ring.stages.pop());
        assert_eq!(together(&ring.head), expected, "{gone} are gone");
        let status = ring.head.status();
        assert_eq!(status.replaced, gone, "{status:?}");
    }
}
