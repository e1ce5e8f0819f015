//! Who hears of whom.

use std::time::Duration;

use shoal_base::{Digest, PackageId};
use shoal_swarm::{Gossip, Members, Moment, limits, to_meet};
use shoal_wire::{Descriptor, Field as _, Link, List, NodeId, Signed};

use crate::support::{Seeded, descriptor, key};

fn node(seed: u16) -> NodeId {
    key(seed).id()
}

/// A node that offers another package than the others do when `is_other`.
fn member(seed: u16, is_other: bool, links: &[u16]) -> Signed<Descriptor> {
    let link = |seed: &u16| Link { peer: node(*seed), rtt_us: 1, loss_ppm: 0, is_relayed: false };
    let mut links: Vec<Link> = links.iter().map(link).collect();
    links.sort_unstable_by_key(|link| link.peer);
    let mut body = descriptor(node(seed), 24, 1, links);
    if is_other {
        let mut offer = body.offers[0].clone();
        offer.package = PackageId(Digest::of(b"another model"));
        body.offers = List::try_new(vec![offer]).expect("one offer");
    }
    key(seed).sign(body)
}

/// So many members, of which every other one has another package.
fn swarm(count: u16) -> Members {
    let mut members = Members::default();
    for seed in 0..count {
        members.learn(member(seed, seed % 2 == 1, &[]), Moment(0)).expect("signed");
    }
    members
}

#[test]
fn a_few_hear_of_a_node_and_not_those_it_tells_itself() {
    let members = swarm(20);
    let peers = || (1..20).map(node);
    let random = &mut Seeded(1);
    let chosen =
        Gossip::default().pass_on(&members, &member(0, false, &[]), peers(), Moment(0), random);
    assert_eq!(chosen.len(), limits::PASS_ON);
    let told: Vec<u16> = (1..19).collect();
    let about = member(0, false, &told);
    let chosen = Gossip::default().pass_on(&members, &about, peers(), Moment(0), random);
    assert_eq!(chosen, [node(19)], "a small swarm: another package does not matter");
    let all: Vec<u16> = (1..20).collect();
    let about = member(0, false, &all);
    assert!(Gossip::default().pass_on(&members, &about, peers(), Moment(0), random).is_empty());
}

#[test]
fn in_a_large_swarm_news_goes_to_those_with_the_same_package() {
    let members = swarm(limits::SMALL_SWARM as u16 + 3);
    let about = member(0, false, &[]);
    for seed in 0..20 {
        let peers = (1..9).map(node);
        let random = &mut Seeded(seed);
        let chosen = Gossip::default().pass_on(&members, &about, peers, Moment(0), random);
        assert_eq!(chosen.len(), limits::PASS_ON);
        assert!(chosen.iter().all(|peer| [2, 4, 6, 8].map(node).contains(peer)), "{seed}");
    }
    let absent = (1..9).map(node).collect();
    let met = to_meet(&members, node(0), absent, 5, &mut Seeded(3));
    assert_eq!(met.len(), 5);
    assert!(met[..4].iter().all(|peer| [2, 4, 6, 8].map(node).contains(peer)));
}

#[test]
fn what_is_passed_on_in_a_minute_has_a_bound() {
    let members = swarm(10);
    let about = member(0, false, &[]);
    let mut gossip = Gossip::default();
    let (mut sent, mut now) = (0, Moment(0));
    for _ in 0..10_000 {
        let random = &mut Seeded(sent);
        let chosen = gossip.pass_on(&members, &about, (1..10).map(node), now, random);
        sent += chosen.len() as u64 * about.to_bytes().len() as u64;
        now = now + Duration::from_millis(6);
    }
    // A minute's worth at once, and that of the minute.
    assert!(sent <= 2 * limits::PASS_ON_BYTES_PER_MIN, "{sent}");
    assert!(sent >= limits::PASS_ON_BYTES_PER_MIN, "{sent}");
}
