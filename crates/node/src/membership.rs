//! What a node knows about its swarm: its door, who showed what at it, and what is to be kept.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};

use shoal_base::PackageId;
use shoal_net::PeerAddress;
use shoal_store::{NodeFolder, StoreError};
use shoal_swarm::{Door, JoinError, Moment, Pass};
use shoal_wire::{CertificateChain, Descriptor, Message, NodeId, SwarmRole, duties};

use crate::limits::{KNOWN_MAX, STRANGER_FOR, STRANGER_MESSAGES_MAX, STRANGERS_MAX};
use crate::state::State;

/// A state to be written, and what may be sent when it is on the disk.
pub(crate) struct Keep {
    pub(crate) bytes: Vec<u8>,
    pub(crate) then: Option<(NodeId, Box<Message>)>,
}

/// Writes states, one after the other, so that the loop never waits for a disk. Holds the folder.
pub(crate) fn keep(
    folder: &NodeFolder,
    todo: &Receiver<Keep>,
    done: impl Fn(Option<(NodeId, Box<Message>)>, Result<(), StoreError>),
) {
    while let Ok(Keep { bytes, then }) = todo.recv() {
        let kept = folder.keep(&bytes);
        done(then, kept);
    }
}

/// The state of a member.
pub(crate) struct Membership {
    pub(crate) door: Door,
    pub(crate) name: String,
    passes: BTreeMap<NodeId, Pass>,
    strangers: BTreeMap<NodeId, Stranger>,
    known: BTreeMap<NodeId, PeerAddress>,
    keeper: Sender<Keep>,
    pub(crate) redial_at: Moment,
}

/// Somebody without a certificate.
struct Stranger {
    until: Moment,
    messages: u32,
}

impl Membership {
    pub(crate) fn new(door: Door, state: &State, keeper: Sender<Keep>) -> Self {
        let known = state.known.iter().map(|address| (address.node, address.clone()));
        Self {
            door,
            name: state.name.clone(),
            passes: BTreeMap::new(),
            strangers: BTreeMap::new(),
            known: known.collect(),
            keeper,
            redial_at: Moment(0),
        }
    }

    /// Lets somebody in: as a member, or as a stranger while there is room. Says whether.
    pub(crate) fn enter(
        &mut self,
        peer: NodeId,
        chain: Option<&CertificateChain>,
        (now, now_s): (Moment, u64),
    ) -> bool {
        let pass = chain.map(|chain| self.door.admit(chain, peer, now_s));
        if let Some(Ok(pass)) = pass {
            self.strangers.remove(&peer);
            self.passes.insert(peer, pass);
            return true;
        }
        self.passes.remove(&peer);
        if matches!(pass, Some(Err(JoinError::Revoked))) {
            return false;
        }
        if self.strangers.len() >= STRANGERS_MAX && !self.strangers.contains_key(&peer) {
            return false;
        }
        let until = now + STRANGER_FOR;
        self.strangers.entry(peer).or_insert(Stranger { until, messages: 0 });
        true
    }

    /// Somebody is gone.
    pub(crate) fn part(&mut self, peer: NodeId) {
        self.passes.remove(&peer);
        self.strangers.remove(&peer);
    }

    /// The pass of somebody who is here.
    pub(crate) fn pass(&self, peer: NodeId) -> Option<&Pass> {
        self.passes.get(&peer)
    }

    /// Whether a head may have layers of a package computed.
    pub(crate) fn may_lead(&self, head: NodeId, package: PackageId) -> bool {
        self.pass(head).is_some_and(|pass| pass.allows(package))
    }

    /// Members that are here and may sign certificates.
    pub(crate) fn inviters(&self) -> Vec<NodeId> {
        let inviters = self.passes.iter().filter(|(_, pass)| pass.role == SwarmRole::Invite);
        inviters.map(|(node, _)| *node).collect()
    }

    /// Counts a message of a stranger. Says whether it is one too many, or none a stranger may
    /// send.
    pub(crate) fn refuses(&mut self, peer: NodeId, message: &Message) -> bool {
        if self.passes.contains_key(&peer) {
            return false;
        }
        let is_allowed = matches!(
            message,
            Message::JoinRequest(_)
                | Message::JoinReply(_)
                | Message::RenewRequest(_)
                | Message::Pairing(_)
                | Message::Fault(_)
        );
        let Some(stranger) = self.strangers.get_mut(&peer) else {
            return true;
        };
        stranger.messages += 1;
        !is_allowed || stranger.messages > STRANGER_MESSAGES_MAX
    }

    /// Whether a descriptor is that of a member who may do what it offers. A newer certificate in
    /// it takes the place of the one its node showed.
    pub(crate) fn vouches(&mut self, descriptor: &Descriptor, now_s: u64) -> bool {
        let node = descriptor.node;
        let chain = descriptor.certificate.as_ref();
        let pass = chain.and_then(|chain| self.door.admit(chain, node, now_s).ok());
        let Some(pass) = pass else {
            return false;
        };
        let serves = descriptor.duties & (duties::STAGE | duties::SEED) != 0;
        if (serves || !descriptor.offers.is_empty()) && pass.role < SwarmRole::Serve {
            return false;
        }
        let present = self.passes.get_mut(&node);
        if let Some(present) = present.filter(|p| p.expires_at_s < pass.expires_at_s) {
            *present = pass;
        }
        true
    }

    /// Everybody whose time is over: strangers who did not join, members who did not renew, and
    /// those whom the owner no longer wants.
    pub(crate) fn overdue(&self, now: Moment, now_s: u64) -> Vec<NodeId> {
        let strangers = self.strangers.iter().filter(|(_, stranger)| stranger.until <= now);
        let members = self.passes.iter().filter(|(_, pass)| pass.expires_at_s <= now_s);
        let strangers = strangers.map(|(node, _)| *node);
        strangers.chain(members.map(|(node, _)| *node)).collect()
    }

    /// Members who do not come in any more after a revocation.
    pub(crate) fn unwanted(&self, now_s: u64) -> Vec<NodeId> {
        let is_out =
            |(node, pass): &(&NodeId, &Pass)| self.door.admit(&pass.chain, **node, now_s).is_err();
        self.passes.iter().filter(is_out).map(|(node, _)| *node).collect()
    }

    /// Writes down where a member is, for the next start. Says whether it is news.
    pub(crate) fn note(&mut self, address: PeerAddress) -> bool {
        if self.known.get(&address.node) == Some(&address) {
            return false;
        }
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&address.node) {
            return false;
        }
        self.known.insert(address.node, address);
        true
    }

    /// Where members were, those who are no longer wanted left out.
    pub(crate) fn known(&self) -> impl Iterator<Item = &PeerAddress> {
        self.known.values()
    }

    /// No longer looks for a node.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.known.remove(&node);
    }

    /// Writes the state, and sends a message when it is on the disk.
    pub(crate) fn keep(&self, then: Option<(NodeId, Box<Message>)>) {
        let state = State {
            name: self.name.clone(),
            chain: self.door.own().clone(),
            revocation: self.door.gate().revocation().cloned(),
            used: self.door.issuer().into_iter().flat_map(|issuer| issuer.used()).collect(),
            known: self.known.values().cloned().collect(),
        };
        // The thread ends after the loop.
        let _ = self.keeper.send(Keep { bytes: state.to_bytes(), then });
    }
}
