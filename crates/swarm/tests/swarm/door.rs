//! The door of a member: certificates are renewed in time, whatever the clocks say, and revoked.

use crate::support::{Seeded, key};
use shoal_swarm::{Door, Gate, Issuer, JoinError, Renewal, own_certificate};
use shoal_wire::{JoinReply, JoinRequest, NodeId, SwarmRole};

const NOW: u64 = 1_800_000_000;
const HOUR: u64 = 3600;
const DAY: u64 = 24 * HOUR;

fn id(seed: u16) -> NodeId {
    key(seed).id()
}

/// The door of the owner's node, which has key 1; the owner has key 0.
fn owner(now_s: u64) -> Door {
    let mut issuer = Issuer::owner(key(0));
    let own = own_certificate(&mut issuer, id(1), now_s, &mut Seeded(1)).expect("it may");
    Door::new(id(1), own, Some(issuer))
}

fn joined(owner: &mut Door, seed: u16, role: SwarmRole, now_s: u64) -> Door {
    let ticket =
        owner.invite((role, &[]), "a", (now_s, HOUR), &mut Seeded(seed.into())).expect("it may");
    let reply = owner.join(&JoinRequest { ticket }, id(seed), now_s).expect("it may");
    let own = reply.certificate;
    let issuer = (role == SwarmRole::Invite).then(|| {
        Issuer::member(key(seed), Gate::new(id(0)), own.certificate.clone()).expect("it may")
    });
    Door::new(id(seed), own, issuer)
}

/// What a member does about its certificate, with the owner as the only inviter.
fn renew(member: &mut Door, owner: &Door, seed: u16, now_s: u64, owner_s: u64) -> bool {
    match member.renewal(&[id(1)], now_s, &mut Seeded(9)) {
        Renewal::Ask(node, request) => {
            assert_eq!(node, id(1));
            let Ok(reply) = owner.renew(&request, id(seed), owner_s) else {
                return false;
            };
            member.renewed(node, &reply, now_s)
        }
        _ => false,
    }
}

#[test]
fn clocks_an_hour_apart_do_no_harm() {
    for skew in [-3600_i64, 3600] {
        let theirs = |owner_s: u64| owner_s.checked_add_signed(skew).unwrap();
        let mut owner = owner(NOW);
        let mut member = joined(&mut owner, 2, SwarmRole::Serve, NOW);
        let judge = |door: &Door, of: &Door, node, now_s| door.admit(door_chain(of), node, now_s);
        assert!(judge(&owner, &member, id(2), NOW).is_ok());
        assert!(judge(&member, &owner, id(1), theirs(NOW)).is_ok());
        assert_eq!(member.renewal(&[id(1)], theirs(NOW), &mut Seeded(9)), Renewal::No);
        let mut renewals = 0;
        for hour in 0..240 {
            let now_s = NOW + hour * HOUR;
            owner.renewal(&[], now_s, &mut Seeded(hour));
            renewals += u32::from(renew(&mut member, &owner, 2, theirs(now_s), now_s));
            assert!(judge(&owner, &member, id(2), now_s).is_ok(), "hour {hour}");
            assert!(judge(&member, &owner, id(1), theirs(now_s)).is_ok(), "hour {hour}");
        }
        assert!((15..25).contains(&renewals), "at half of the life: {renewals}");
    }
}

fn door_chain(door: &Door) -> &shoal_wire::CertificateChain {
    door.own()
}

#[test]
fn a_machine_that_was_off_comes_back_and_one_that_was_revoked_does_not() {
    let mut owner = owner(NOW);
    let mut member = joined(&mut owner, 2, SwarmRole::Serve, NOW);
    let monday = NOW + 3 * DAY;
    owner.renewal(&[], monday, &mut Seeded(4));
    let over = owner.admit(member.own(), id(2), monday);
    assert_eq!(over, Err(JoinError::Expired { ago_s: 2 * DAY }), "it has no rights meanwhile");
    assert!(renew(&mut member, &owner, 2, monday, monday));
    assert!(owner.admit(member.own(), id(2), monday).is_ok());
    let late = monday + 32 * DAY;
    assert!(!renew(&mut member, &owner, 2, late, late), "too long");
    let mut other = joined(&mut owner, 3, SwarmRole::Use, late);
    let revocation = owner.revoke(&[id(3)], &[]).unwrap();
    assert_eq!(owner.admit(other.own(), id(3), late), Err(JoinError::Revoked));
    assert!(!renew(&mut other, &owner, 3, late + 13 * HOUR, late + 13 * HOUR));
    assert_eq!(member.learn(&revocation), Ok(true));
    assert_eq!(member.admit(other.own(), id(3), late), Err(JoinError::Revoked));
    assert_eq!(owner.revoke(&[id(1)], &[]).err(), Some(JoinError::Own), "the owner's node");
    let refused = member.revoke(&[id(1)], &[]);
    assert_eq!(refused.err(), Some(JoinError::Signer), "only the owner");
}

#[test]
fn a_certificate_that_nobody_asked_for_or_that_gives_less_is_not_taken() {
    let mut owner = owner(NOW);
    let mut member = joined(&mut owner, 2, SwarmRole::Serve, NOW);
    let now_s = NOW + 13 * HOUR;
    owner.renewal(&[], now_s, &mut Seeded(4));
    let reply = |role, seed: u16, owner: &mut Door| JoinReply {
        certificate: joined(owner, seed, role, now_s).own().clone(),
        revocation: None,
    };
    let good = reply(SwarmRole::Serve, 2, &mut owner);
    assert!(!member.renewed(id(1), &good, now_s), "nobody was asked");
    assert!(matches!(member.renewal(&[id(1)], now_s, &mut Seeded(9)), Renewal::Ask(..)));
    assert!(!member.renewed(id(5), &good, now_s), "somebody else was asked");
    let other = reply(SwarmRole::Serve, 3, &mut owner);
    assert!(!member.renewed(id(1), &other, now_s), "for another key");
    let less = reply(SwarmRole::Use, 2, &mut owner);
    assert!(!member.renewed(id(1), &less, now_s), "a lower role");
    assert!(member.renewed(id(1), &good, now_s));
    let next = member.renewal(&[id(1)], now_s, &mut Seeded(9));
    assert_eq!(next, Renewal::No, "it has half a day");
}

#[test]
fn those_an_inviter_let_in_go_with_it() {
    let mut owner = owner(NOW);
    let mut inviter = joined(&mut owner, 2, SwarmRole::Invite, NOW);
    let below = joined(&mut inviter, 3, SwarmRole::Serve, NOW + HOUR);
    assert_eq!(owner.admit(below.own(), id(3), NOW + HOUR).unwrap().role, SwarmRole::Serve);
    owner.revoke(&[id(2)], &[]).unwrap();
    assert_eq!(owner.admit(below.own(), id(3), NOW + HOUR), Err(JoinError::Revoked));
}

#[test]
fn reasons_have_numbers() {
    let all = [
        JoinError::OtherSwarm,
        JoinError::Signer,
        JoinError::OtherIssuer,
        JoinError::Used,
        JoinError::Expired { ago_s: 7 },
        JoinError::Revoked,
        JoinError::OtherNode,
        JoinError::Role { role: SwarmRole::Use },
        JoinError::Key(shoal_swarm::KeyError::Forged),
    ];
    for error in all {
        let (got, limit) = error.to_numbers();
        assert_eq!(JoinError::of_numbers(got, limit), Some(error));
    }
    assert_eq!(JoinError::of_numbers(0, 0), None);
    assert_eq!(JoinError::of_numbers(8, 9), None, "no such role");
}
