//! What is believed of descriptors, for how long, and what gossip may cost.

use std::time::Duration;

use crate::support::{Seeded, descriptor, key};
use shoal_swarm::{KeyError, MemberChange, MemberError, Members, Moment};
use shoal_wire::{Descriptor, Field as _, MemberState, Signed};

fn signed(seed: u16, sequence: u64, change: impl FnOnce(&mut Descriptor)) -> Signed<Descriptor> {
    let key = key(seed);
    let mut body = descriptor(key.id(), 4, 1, Vec::new());
    body.sequence = sequence;
    change(&mut body);
    key.sign(body)
}

#[test]
fn the_highest_sequence_counts_until_it_expires_and_old_words_bring_nobody_back() {
    let mut members = Members::default();
    let start = Moment(0);
    assert_eq!(members.learn(signed(1, 5, |_| {}), start), Ok(MemberChange::New));
    assert_eq!(members.learn(signed(1, 4, |_| {}), start), Ok(MemberChange::Nothing));
    assert_eq!(members.learn(signed(1, 5, |_| {}), start), Ok(MemberChange::Nothing));
    let later = start + Duration::from_secs(300);
    assert_eq!(members.learn(signed(1, 6, |_| {}), later), Ok(MemberChange::Newer));
    assert!(members.expire(start + Duration::from_secs(601)).is_empty(), "renewed");
    assert_eq!(members.expire(later + Duration::from_secs(600)), [key(1).id()]);
    let end = later + Duration::from_secs(601);
    assert_eq!(members.learn(signed(1, 6, |_| {}), end), Ok(MemberChange::Nothing), "a ghost");
    assert_eq!(members.learn(signed(1, 7, |_| {}), end), Ok(MemberChange::New));
    let left = signed(1, 8, |body| body.state = MemberState::Left);
    assert_eq!(members.learn(left, end), Ok(MemberChange::Left));
    assert!(members.is_empty());
}

#[test]
fn forged_foreign_and_contradicting_descriptors_are_refused() {
    let mut members = Members::default();
    let mut forged = signed(1, 1, |_| {});
    forged.body.memory_free_bytes += 1;
    let refused = members.learn(forged, Moment(0));
    assert_eq!(refused, Err(MemberError::Key(KeyError::Forged)));
    let mut foreign = signed(1, 1, |_| {});
    foreign.signer = key(2).id();
    assert_eq!(members.learn(foreign, Moment(0)), Err(MemberError::OtherSigner));
    members.learn(signed(1, 1, |_| {}), Moment(0)).unwrap();
    let other = signed(1, 1, |body| body.disk_free_bytes = 9);
    let refused = members.learn(other, Moment(0));
    assert_eq!(refused, Err(MemberError::Equivocation { sequence: 1 }), "two nodes, one key");
}

#[test]
fn gossip_costs_the_same_however_many_there_are() {
    let mut members = Members::default();
    let mut cost = Vec::new();
    for seed in 0..2000 {
        members.learn(signed(seed, 1, |_| {}), Moment(0)).unwrap();
        if [99, 499, 999, 1999].contains(&seed) {
            let bytes = signed(seed, 1, |_| {}).to_bytes().len() as f64;
            let per_min = 60.0 / members.announce_every().as_secs_f64();
            cost.push(bytes * (f64::from(seed) + 1.0) * per_min);
        }
    }
    assert!(cost.iter().all(|bytes| *bytes <= 50_000.0), "{cost:?}");
    assert!(members.lifetime_s() >= 3 * members.announce_every().as_secs() as u32);
}

#[test]
fn answers_are_bounded_and_of_the_package_asked_for() {
    let mut members = Members::default();
    for seed in 0..20 {
        members.learn(signed(seed, 1, |_| {}), Moment(0)).unwrap();
    }
    let mut random = Seeded(1);
    assert_eq!(members.answer(None, 7, &mut random).descriptors.len(), 7);
    let ours = crate::support::model().package;
    assert_eq!(members.answer(Some(ours), 99, &mut random).descriptors.len(), 20);
    let other = shoal_base::PackageId(shoal_base::Digest([0; 32]));
    assert!(members.answer(Some(other), 99, &mut random).descriptors.is_empty());
}
