//! Where nodes are: what the owner said, and what nodes said about themselves.

use std::collections::{BTreeMap, VecDeque};

use shoal_net::PeerAddress;
use shoal_swarm::{MemberChange, MemberError, Members, Moment, NodeKey, Random, verify};
use shoal_wire::limits::LINKS_MAX;
use shoal_wire::{
    CertificateChain, Coordinate, Descriptor, Link, List, MemberState, MembersQuery, MembersReply,
    NodeId, Offer, RingId, Signed, Text,
};

use crate::chance::wall;
use crate::limits::{ANNOUNCE_AHEAD, ANNOUNCE_SOON, ROUTES_MAX};

/// The addresses of peers, and who may come in.
#[derive(Debug)]
pub(crate) struct Book {
    key: NodeKey,
    members: Members,
    known: BTreeMap<NodeId, PeerAddress>,
    /// May lead rings here.
    heads: Vec<NodeId>,
    /// Named in the route of a lease: may send frames.
    routes: VecDeque<(RingId, Vec<NodeId>)>,
    sequence: u64,
    /// Whether something was heard that this node's key signed and this node did not say.
    has_twin: bool,
    announce_at: Moment,
    /// Until when what was said out of turn is paid for.
    spoke_until: Moment,
}

/// What a node says about itself besides who and where it is.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) state: MemberState,
    pub(crate) duties: u8,
    pub(crate) certificate: Option<CertificateChain>,
    pub(crate) memory_free_bytes: u64,
    pub(crate) coordinate: Coordinate,
    pub(crate) offers: Vec<Offer>,
    pub(crate) links: List<Link, LINKS_MAX>,
}

impl Book {
    pub(crate) fn new(key: NodeKey, heads: Vec<NodeId>) -> Self {
        Self {
            key,
            members: Members::default(),
            known: BTreeMap::new(),
            heads,
            routes: VecDeque::new(),
            // Numbers have to rise over restarts; only the wall clock does.
            sequence: u64::try_from(wall().as_millis()).unwrap_or(u64::MAX),
            has_twin: false,
            announce_at: Moment(0),
            spoke_until: Moment(0),
        }
    }

    /// This node.
    pub(crate) fn me(&self) -> NodeId {
        self.key.id()
    }

    /// Writes down where a peer is.
    pub(crate) fn note(&mut self, address: &PeerAddress) {
        self.known.insert(address.node, address.clone());
    }

    /// Every place where a peer may be, what it said last first.
    pub(crate) fn address(&self, node: NodeId) -> Option<PeerAddress> {
        let said = self.members.get(node).into_iter().flat_map(|d| d.addresses.iter());
        let mut address = PeerAddress::nowhere(node);
        // Nodes of later versions may have places of kinds that this one does not know.
        for text in said {
            address.add(text);
        }
        if let Some(known) = self.known.get(&node) {
            address.extend(known);
        }
        (address.count() > 0).then_some(address)
    }

    /// Whether a peer may ask for leases.
    pub(crate) fn may_lead(&self, node: NodeId) -> bool {
        self.heads.contains(&node)
    }

    /// Whether a peer may connect.
    pub(crate) fn may_enter(&self, node: NodeId) -> bool {
        let mut named = self.routes.iter().flat_map(|(_, nodes)| nodes);
        self.may_lead(node) || self.known.contains_key(&node) || named.any(|named| *named == node)
    }

    /// The nodes of a lease that was asked for by somebody who may.
    pub(crate) fn admit_route(&mut self, ring: RingId, nodes: Vec<NodeId>) {
        self.forget_route(ring);
        if self.routes.len() >= ROUTES_MAX {
            self.routes.pop_front();
        }
        self.routes.push_back((ring, nodes));
    }

    pub(crate) fn forget_route(&mut self, ring: RingId) {
        self.routes.retain(|(id, _)| *id != ring);
    }

    /// What this node says about itself, with a number of its own. It is a member too.
    pub(crate) fn describe(
        &mut self,
        about: About,
        address: &PeerAddress,
        now: Moment,
    ) -> Signed<Descriptor> {
        self.sequence += 1;
        let relays = address.relays.iter().map(ToString::to_string);
        let places = address.sockets.iter().map(ToString::to_string).chain(relays);
        let addresses = places.filter_map(|place| Text::try_new(&place).ok());
        let signed = self.key.sign(Descriptor {
            node: self.key.id(),
            sequence: self.sequence,
            lifetime_s: self.members.lifetime_s(),
            state: about.state,
            duties: about.duties,
            certificate: about.certificate,
            addresses: List::truncated(addresses),
            memory_free_bytes: about.memory_free_bytes,
            disk_free_bytes: 0,
            uplink_bytes_per_s: 0,
            downlink_bytes_per_s: 0,
            coordinate: about.coordinate,
            offers: List::truncated(about.offers),
            links: about.links,
        });
        let learned = self.members.learn(signed.clone(), now);
        debug_assert!(learned.is_ok(), "it is genuine and newer: {learned:?}");
        signed
    }

    /// What it says has changed: it is said again at once, or before long if that happens often.
    pub(crate) fn announce_soon(&mut self) {
        let ahead = (ANNOUNCE_SOON * ANNOUNCE_AHEAD).as_micros() as u64;
        let soon = Moment(self.spoke_until.0.saturating_sub(ahead));
        self.announce_at = self.announce_at.min(soon);
    }

    /// All members that are known, this node among them.
    pub(crate) fn members(&self) -> &Members {
        &self.members
    }

    /// A node is no longer wanted.
    pub(crate) fn forget(&mut self, node: NodeId, now: Moment) {
        self.members.forget(node, now);
        self.known.remove(&node);
    }

    /// Whether it is time to say it again to everybody.
    pub(crate) fn is_announcement_due(&mut self, now: Moment) -> bool {
        self.members.expire(now);
        let is_due = self.announce_at <= now;
        if is_due {
            self.spoke_until = self.spoke_until.max(now) + ANNOUNCE_SOON;
            self.announce_at = now + self.members.announce_every();
        }
        is_due
    }

    /// Learns a descriptor. Says whether it is news, which others may want.
    pub(crate) fn learn(
        &mut self,
        signed: Signed<Descriptor>,
        now: Moment,
    ) -> Result<bool, MemberError> {
        if signed.body.node == self.key.id() {
            self.meet_twin(&signed);
            return Ok(false);
        }
        let change = self.members.learn(signed, now)?;
        Ok(change != MemberChange::Nothing)
    }

    /// What was signed with this node's key: by itself, or by a copy of its folder, or by itself
    /// before its clock was set back. Others take the highest number, so this node goes beyond it.
    fn meet_twin(&mut self, signed: &Signed<Descriptor>) {
        let sequence = signed.body.sequence;
        if sequence > self.sequence && signed.signer == self.key.id() && verify(signed).is_ok() {
            self.has_twin = true;
            self.sequence = sequence;
        }
    }

    /// Whether another process uses this node's key, or did so lately.
    pub(crate) fn has_twin(&self) -> bool {
        self.has_twin
    }

    pub(crate) fn answer(&self, query: MembersQuery, random: &mut dyn Random) -> MembersReply {
        self.members.answer(query.package, query.limit, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(book: &mut Book) -> Signed<Descriptor> {
        let about = About {
            state: MemberState::Active,
            duties: 0,
            certificate: None,
            memory_free_bytes: 0,
            coordinate: Coordinate::default(),
            offers: Vec::new(),
            links: List::default(),
        };
        let address = PeerAddress::nowhere(book.me());
        book.describe(about, &address, Moment(0))
    }

    #[test]
    fn another_process_with_the_same_key_is_noticed_and_outbid() {
        let book = || Book::new(NodeKey::new(&[7; 32]), Vec::new());
        let (mut one, mut twin) = (book(), book());
        let own = said(&mut one);
        assert!(!one.learn(own, Moment(0)).unwrap() && !one.has_twin(), "an echo");
        twin.sequence = one.sequence + 10;
        let theirs = said(&mut twin);
        assert!(!one.learn(theirs.clone(), Moment(0)).unwrap() && one.has_twin());
        assert!(said(&mut one).body.sequence > theirs.body.sequence);
        // Nobody without the key makes a node believe so.
        let mut forged = said(&mut twin);
        forged.body.sequence += 1;
        let mut other = book();
        other.sequence = 0;
        assert!(!other.learn(forged, Moment(0)).unwrap() && !other.has_twin());
    }
}
