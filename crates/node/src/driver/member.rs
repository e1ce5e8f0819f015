//! The loop of a node in a swarm: who comes in, tickets, certificates, revocation, neighbours.

use shoal_base::{Blame, PackageId};
use shoal_net::{Connection, PeerAddress};
use shoal_swarm::limits::{NEIGHBOURS_MAX, SMALL_SWARM};
use shoal_swarm::{JoinError, Random as _, Renewal, StageEvent, to_meet};
use shoal_wire::{
    Fault, FaultCode, GenerationId, JoinReply, JoinRequest, MembersQuery, Message, NodeId,
    RenewRequest, Revocation, Signed, SwarmRole,
};

use super::{Driver, Todo};
use crate::chance::{SystemRandom, wall_s};
use crate::limits::{CANDIDATES_ASKED, CANDIDATES_EVERY, MEMBERS_ASKED, REDIAL_EVERY};
use crate::peers::Outgoing;

impl Driver {
    /// Whether somebody who proved a key comes in.
    pub(super) fn enters(&mut self, connection: &Connection, is_ours: bool) -> bool {
        let (peer, now) = (connection.peer(), self.now());
        let Some(member) = &mut self.member else {
            return is_ours || self.book.may_enter(peer);
        };
        let hello = connection.hello();
        let enters = member.enter(peer, hello.certificate.as_ref(), (now, wall_s()));
        if member.pass(peer).is_some() {
            return true;
        }
        if is_ours {
            member.part(peer);
            return false;
        }
        // What waited for a member is not for a stranger.
        self.peers.give_up(peer, None);
        enters
    }

    /// The first words to somebody who came in.
    pub(super) fn welcome(&mut self, peer: NodeId, revocation_seen: u64) {
        let now = self.now();
        if let Some(member) = &self.member {
            if member.pass(peer).is_none() {
                return;
            }
            if member.door.own().certificate.body.expires_at_s <= wall_s() {
                // Nobody takes anything else from this node until it has a new certificate.
                return;
            }
            let news = member.door.gate().revocation().filter(|r| r.body.counter > revocation_seen);
            if let Some(revocation) = news.cloned() {
                self.send_message(peer, Message::Revocation(revocation));
            }
        }
        let descriptor = self.describe();
        self.send_message(peer, Message::Descriptor(descriptor));
        let query = MembersQuery { package: None, limit: MEMBERS_ASKED };
        self.send_message(peer, Message::MembersQuery(query));
        if self.member.is_some() {
            let ping = self.links.begin(peer, now);
            self.send_message(peer, Message::Ping(ping));
        }
    }

    /// Somebody is gone.
    pub(super) fn part(&mut self, peer: NodeId) {
        self.links.forget(peer);
        if let Some(member) = &mut self.member {
            member.part(peer);
        }
    }

    /// Shows somebody the door.
    pub(super) fn expel(&mut self, peer: NodeId, why: &str) {
        self.stage(StageEvent::Forbid(peer));
        self.peers.give_up(peer, Some(FaultCode::Forbidden));
        self.todo.push_back(Todo::Lost(peer, why.to_owned()));
    }

    /// Whether a head may use this node for a package.
    pub(super) fn may_lead(&self, head: NodeId, package: PackageId) -> bool {
        match &self.member {
            Some(member) => member.may_lead(head, package),
            None => self.book.may_lead(head),
        }
    }

    pub(super) fn join_request(&mut self, from: NodeId, request: &JoinRequest) {
        let Some(member) = &mut self.member else {
            return self.refuse_join(from, JoinError::OtherIssuer);
        };
        match member.door.join(request, from, wall_s()) {
            // A ticket is used before anybody hears so.
            Ok(reply) => member.keep(Some((from, Box::new(Message::JoinReply(reply))))),
            Err(error) => self.refuse_join(from, error),
        }
    }

    pub(super) fn renew_request(&mut self, from: NodeId, request: &RenewRequest) {
        let Some(member) = &self.member else {
            return self.refuse_join(from, JoinError::OtherIssuer);
        };
        match member.door.renew(request, from, wall_s()) {
            Ok(reply) => self.send_message(from, Message::JoinReply(reply)),
            Err(error) => self.refuse_join(from, error),
        }
    }

    fn refuse_join(&mut self, to: NodeId, error: JoinError) {
        let (got, limit) = error.to_numbers();
        let fault = Fault {
            code: FaultCode::Ticket,
            blame: Blame::Caller,
            ring: None,
            generation: GenerationId(0),
            request: None,
            got,
            limit,
        };
        self.send_message(to, Message::Fault(fault));
    }

    pub(super) fn join_reply(&mut self, from: NodeId, reply: &JoinReply) {
        let now_s = wall_s();
        let Some(member) = &mut self.member else {
            return;
        };
        let before = member.door.gate().counter();
        let was_over = member.door.own().certificate.body.expires_at_s <= now_s;
        let is_taken = member.door.renewed(from, reply, now_s);
        let is_revocation_new = member.door.gate().counter() > before;
        if is_taken {
            self.certificate_changed();
            if was_over {
                // Everybody has to see the new one first.
                for peer in self.peers.present() {
                    self.peers.give_up(peer, None);
                    self.part(peer);
                }
                self.redial_soon();
            }
        }
        if is_revocation_new {
            self.revocation_changed(from);
        }
    }

    /// This node has a new certificate: kept, and shown from now on.
    fn certificate_changed(&mut self) {
        self.introduce();
        if let Some(member) = &self.member {
            member.keep(None);
        }
        self.book.announce_soon();
    }

    /// Puts certificate and counter into the first words of connections.
    pub(super) fn introduce(&self) {
        if let Some(member) = &self.member {
            let door = &member.door;
            self.peers.introduce(door.own().clone(), door.gate().counter());
        }
    }

    pub(super) fn revocation(&mut self, from: NodeId, signed: &Signed<Revocation>) {
        let Some(member) = &mut self.member else {
            return;
        };
        match member.door.learn(signed) {
            Ok(true) => self.revocation_changed(from),
            Ok(false) => {}
            Err(error) => {
                self.expel(from, &format!("passed on a wrong revocation: {error}"));
            }
        }
    }

    /// A higher revocation is in force: kept, passed on, and everybody is judged again.
    fn revocation_changed(&mut self, from: NodeId) {
        let (now, now_s) = (self.now(), wall_s());
        let Some(member) = &mut self.member else {
            return;
        };
        let Some(signed) = member.door.gate().revocation().cloned() else {
            return;
        };
        for node in &signed.body.nodes {
            member.forget(*node);
            self.book.forget(*node, now);
        }
        member.keep(None);
        let unwanted = member.unwanted(now_s);
        self.introduce();
        for peer in self.peers.present() {
            if peer != from {
                self.send_message(peer, Message::Revocation(signed.clone()));
            }
        }
        for peer in unwanted {
            self.expel(peer, "its certificate was revoked");
        }
    }

    /// Revokes a node, as the owner.
    pub(crate) fn revoke(&mut self, node: NodeId) -> Result<u64, JoinError> {
        let member = self.member.as_mut().ok_or(JoinError::OtherSwarm)?;
        let signed = member.door.revoke(&[node], &[])?;
        let counter = signed.body.counter;
        self.revocation_changed(self.me);
        Ok(counter)
    }

    /// A ticket for one use.
    pub(crate) fn invite(
        &mut self,
        role: SwarmRole,
        models: &[PackageId],
        seconds: u64,
    ) -> Result<String, JoinError> {
        let address = self.peers.address().to_string();
        let member = self.member.as_mut().ok_or(JoinError::OtherSwarm)?;
        let times = (wall_s(), seconds);
        let ticket = member.door.invite((role, models), &address, times, &mut SystemRandom)?;
        Ok(shoal_wire::ticket_to_text(&ticket))
    }

    /// Members are tried again at the next tick.
    pub(super) fn redial_soon(&mut self) {
        let now = self.now();
        if let Some(member) = &mut self.member {
            member.redial_at = now;
        }
    }

    /// Time passes: who is overdue, whose connection is missing, whether to renew.
    pub(super) fn tick_member(&mut self) {
        let (now, now_s) = (self.now(), wall_s());
        let Some(member) = &mut self.member else {
            return;
        };
        let overdue = member.overdue(now, now_s);
        let inviters = member.inviters();
        let renewal = member.door.renewal(&inviters, now_s, &mut SystemRandom);
        for peer in overdue {
            self.expel(peer, "its certificate ran out");
        }
        match renewal {
            Renewal::No => {}
            Renewal::Done => self.certificate_changed(),
            Renewal::Ask(node, request) => {
                self.send_message(node, Message::RenewRequest(*request));
            }
        }
        for (peer, ping) in self.links.due(now) {
            self.send_message(peer, Message::Ping(ping));
        }
        self.meet();
    }

    /// Connects to members there is no connection to.
    fn meet(&mut self) {
        let now = self.now();
        let Some(member) = &mut self.member else {
            return;
        };
        if member.redial_at > now {
            return;
        }
        member.redial_at = now + REDIAL_EVERY;
        let present = self.peers.present();
        let room = NEIGHBOURS_MAX.saturating_sub(present.len());
        self.ask_for_candidates(&present);
        let Some(member) = &self.member else {
            return;
        };
        let known = member.known().map(|address| address.node);
        let all = known.chain(self.book.members().iter().map(|descriptor| descriptor.node));
        let mut absent: Vec<NodeId> = all.collect();
        absent.sort_unstable();
        absent.dedup();
        absent.retain(|node| *node != self.me && !present.contains(node));
        let members = self.book.members();
        let chosen = to_meet(members, self.me, absent, room, &mut SystemRandom);
        for node in chosen {
            self.dial(node);
        }
    }

    /// In a large swarm a head asks some neighbour for members that offer what it leads.
    fn ask_for_candidates(&mut self, present: &[NodeId]) {
        let now = self.now();
        if self.candidates_at > now || self.book.members().len() <= SMALL_SWARM {
            return;
        }
        self.candidates_at = now + CANDIDATES_EVERY;
        let models = self.slots.values().filter_map(|slot| slot.way.package());
        for package in models.collect::<Vec<_>>() {
            let place = SystemRandom.below(present.len() as u64) as usize;
            if let Some(peer) = present.get(place) {
                let query = MembersQuery { package: Some(package), limit: CANDIDATES_ASKED };
                self.send_message(*peer, Message::MembersQuery(query));
            }
        }
    }

    fn dial(&mut self, node: NodeId) {
        let known = self
            .member
            .as_ref()
            .and_then(|member| member.known().find(|address| address.node == node).cloned());
        let address = match (self.book.address(node), known) {
            (Some(mut said), Some(known)) => {
                said.extend(&known);
                said
            }
            (Some(address), None) | (None, Some(address)) => address,
            (None, None) if self.peers.looks_up() => PeerAddress::nowhere(node),
            (None, None) => return,
        };
        self.peers.meet(address);
    }

    /// A member said where it is: known over restarts.
    pub(super) fn note_member(&mut self, node: NodeId) {
        let address = self.book.address(node);
        if let (Some(member), Some(address)) = (&mut self.member, address)
            && member.pass(node).is_some()
            && member.note(address)
        {
            member.keep(None);
        }
    }

    /// A state is on the disk, or not.
    pub(super) fn kept(&mut self, then: Option<(NodeId, Box<Message>)>, is_kept: bool) {
        let Some((to, message)) = then else {
            return;
        };
        if is_kept {
            self.send(to, Outgoing::Message(message));
        } else {
            let fault = super::messages::fault(FaultCode::Resources);
            self.send_message(to, Message::Fault(fault));
        }
    }
}
