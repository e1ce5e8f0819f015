//! Tickets, certificates, revocations: who gets in, and every way in which nobody does.

use crate::support::{Seeded, key};
use shoal_base::{Digest, PackageId};
use shoal_swarm::{Gate, Issuer, JoinError, KeyError};
use shoal_wire::SwarmRole;

const NOW: u64 = 1_800_000_000;

fn owner() -> Issuer {
    Issuer::owner(key(0))
}

#[test]
fn a_ticket_becomes_a_certificate_for_one_key() {
    let mut owner = owner();
    let gate = Gate::new(key(0).id());
    let ticket = owner.invite(SwarmRole::Serve, &[], &[], (NOW, 600), &mut Seeded(1)).unwrap();
    let joiner = key(1).id();
    let chain = owner.exchange(&ticket, joiner, NOW + 1).unwrap();
    assert_eq!(gate.check(&chain, joiner, NOW + 2), Ok(SwarmRole::Serve));
    assert_eq!(gate.check(&chain, key(2).id(), NOW + 2), Err(JoinError::OtherNode), "stolen");
    let late = NOW + 1 + 86_400;
    assert_eq!(gate.check(&chain, joiner, late), Err(JoinError::Expired { ago_s: 0 }));
    let again = owner.exchange(&ticket, joiner, NOW + 3).unwrap();
    assert_eq!(again.certificate.body.node, joiner, "an answer that was lost");
    let reused = owner.exchange(&ticket, key(2).id(), NOW + 3);
    assert_eq!(reused, Err(JoinError::Used));
    let mut restarted = Issuer::owner(key(0));
    owner.used().for_each(|(ticket, node, s)| restarted.restore_used(ticket, node, s));
    assert_eq!(restarted.exchange(&ticket, key(2).id(), NOW + 3), Err(JoinError::Used));
    let renewed = owner.renew(&chain, joiner, NOW + 50_000).unwrap();
    assert_eq!(gate.check(&renewed, joiner, late), Ok(SwarmRole::Serve));
}

#[test]
fn stale_forged_and_foreign_tickets_are_refused() {
    let mut owner = owner();
    let mut random = Seeded(2);
    let ticket = owner.invite(SwarmRole::Use, &[], &[], (NOW, 60), &mut random).unwrap();
    let joiner = key(1).id();
    let late = owner.exchange(&ticket, joiner, NOW + 61);
    assert_eq!(late, Err(JoinError::Expired { ago_s: 1 }));
    let mut escalated = ticket.clone();
    escalated.body.role = SwarmRole::Invite;
    let forged = owner.exchange(&escalated, joiner, NOW);
    assert_eq!(forged, Err(JoinError::Key(KeyError::Forged)));
    let mut other = Issuer::owner(key(9));
    assert_eq!(other.exchange(&ticket, joiner, NOW), Err(JoinError::OtherSwarm));
    let long = owner.invite(SwarmRole::Use, &[], &[], (NOW, 1 << 40), &mut random);
    assert!(matches!(long, Err(JoinError::Lifetime { .. })));
}

#[test]
fn an_inviter_gives_less_than_it_has() {
    let mut owner = owner();
    let mut random = Seeded(3);
    let model = PackageId(Digest::of(b"m"));
    let other = PackageId(Digest::of(b"n"));
    let invite = |issuer: &Issuer, role, models: &[PackageId]| {
        issuer.invite(role, models, &[], (NOW, 600), &mut Seeded(5))
    };
    let ticket = owner.invite(SwarmRole::Invite, &[model], &[], (NOW, 600), &mut random).unwrap();
    let chain = owner.exchange(&ticket, key(1).id(), NOW).unwrap();
    let gate = Gate::new(key(0).id());
    let mut inviter = Issuer::member(key(1), gate.clone(), chain.certificate.clone()).unwrap();
    let too_much = Err(JoinError::Role { role: SwarmRole::Invite });
    assert_eq!(invite(&inviter, SwarmRole::Invite, &[model]), too_much);
    assert_eq!(invite(&inviter, SwarmRole::Use, &[other]), too_much);
    assert_eq!(invite(&inviter, SwarmRole::Use, &[]), too_much, "all models are more than one");
    let below = invite(&inviter, SwarmRole::Serve, &[model]).unwrap();
    assert_eq!(owner.exchange(&below, key(2).id(), NOW), Err(JoinError::OtherIssuer));
    let chain2 = inviter.exchange(&below, key(2).id(), NOW + 5).unwrap();
    assert_eq!(gate.check(&chain2, key(2).id(), NOW + 6), Ok(SwarmRole::Serve));
    let ends = chain2.certificate.body.expires_at_s;
    assert_eq!(ends, chain.certificate.body.expires_at_s, "not after the inviter's own");
    let mut cut = chain2.clone();
    cut.issuer = None;
    assert_eq!(gate.check(&cut, key(2).id(), NOW + 6), Err(JoinError::Signer));
    let served = Issuer::member(key(2), gate, chain2.certificate);
    assert!(served.is_err(), "only the owner makes inviters");
}

#[test]
fn what_the_owner_revokes_stays_outside() {
    let mut owner = owner();
    let mut gate = Gate::new(key(0).id());
    let mut random = Seeded(4);
    let ticket = owner.invite(SwarmRole::Use, &[], &[], (NOW, 600), &mut random).unwrap();
    let chain = owner.exchange(&ticket, key(1).id(), NOW).unwrap();
    let first = owner.revoke(&[key(1).id()], &[]).unwrap();
    let second = owner.revoke(&[key(2).id()], &[ticket.body.ticket]).unwrap();
    assert_eq!(second.body.nodes.len(), 2, "a list holds those before it");
    assert_eq!(gate.learn(second.clone()), Ok(true));
    assert_eq!((gate.learn(first), gate.counter()), (Ok(false), 2));
    assert_eq!(gate.check(&chain, key(1).id(), NOW), Err(JoinError::Revoked));
    assert_eq!(owner.renew(&chain, key(1).id(), NOW), Err(JoinError::Revoked));
    assert_eq!(owner.exchange(&ticket, key(3).id(), NOW), Err(JoinError::Revoked));
    let mut forged = second;
    forged.body.counter = 9;
    assert_eq!(gate.learn(forged), Err(JoinError::Key(KeyError::Forged)));
}
