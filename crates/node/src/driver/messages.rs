//! What arrives from peers: which state machine gets it, and what is not taken at all.

use std::collections::BTreeSet;

use shoal_base::Blame;
use shoal_net::Incoming;
use shoal_swarm::{HeadEvent, StageEvent};
use shoal_wire::{
    Descriptor, Fault, FaultCode, FrameKind, GenerationId, LeaseRefusal, LeaseRequest, Message,
    NodeId, Pong, RefusalReason, RingId, Signed,
};

use super::{Driver, Todo};
use crate::chance::{SystemRandom, wall_s};

impl Driver {
    pub(super) fn arrived(&mut self, from: NodeId, incoming: Incoming) {
        if self.refuses(from, &incoming) {
            return self.expel(from, "sent what only members may send");
        }
        match incoming {
            Incoming::Frame(frame) if frame.header.kind == FrameKind::Reply => {
                self.head(frame.header.ring, HeadEvent::Frame { from, frame });
            }
            Incoming::Frame(frame) => self.stage(StageEvent::Frame { from, frame }),
            Incoming::Message(message) => self.message(from, message),
        }
    }

    /// What somebody without a valid certificate may not send, where there is a swarm.
    fn refuses(&mut self, from: NodeId, incoming: &Incoming) -> bool {
        match (&mut self.member, incoming) {
            (Some(_), _) if from == self.me => false,
            (Some(member), Incoming::Message(message)) => member.refuses(from, message),
            (Some(member), Incoming::Frame(_)) => member.pass(from).is_none(),
            (None, _) => false,
        }
    }

    fn message(&mut self, from: NodeId, message: Box<Message>) {
        let Some(message) = self.blob_message(from, *message).map(Box::new) else {
            return;
        };
        match *message {
            Message::Ping(ping) => {
                let pong = Pong { nonce: ping.nonce, queue_us: 0 };
                self.send_message(from, Message::Pong(pong));
            }
            Message::Pong(pong) => {
                let now = self.now();
                let place = self.book.members().get(from).map(|member| member.coordinate);
                if let Some(ping) = self.links.answered(from, pong.nonce, place.as_ref(), now) {
                    self.send_message(from, Message::Ping(ping));
                }
            }
            Message::JoinRequest(request) => self.join_request(from, &request),
            Message::JoinReply(reply) => self.join_reply(from, &reply),
            Message::RenewRequest(request) => self.renew_request(from, &request),
            Message::Revocation(signed) => self.revocation(from, &signed),
            Message::Descriptor(signed) => self.learn(from, vec![signed]),
            Message::MembersReply(reply) => self.learn(from, reply.descriptors.into_vec()),
            Message::MembersQuery(query) => {
                let reply = self.book.answer(query, &mut SystemRandom);
                self.send_message(from, Message::MembersReply(reply));
            }
            Message::LeaseGrant(ref grant) => {
                let ring = grant.ring;
                if let Some(slot) = self.slots.get_mut(&ring) {
                    slot.granted(from);
                }
                self.tell_head(ring, from, message);
            }
            Message::PrepareStatus(_) if !self.slots.is_empty() => self.tell_heads(from, &message),
            Message::LeaseRenewed(ref renewed) => self.tell_head(renewed.ring, from, message),
            Message::LeaseRefusal(ref refusal) => {
                self.note(refusal.ring, from, &format!("refused: {:?}", refusal.reason));
                self.tell_head(refusal.ring, from, message);
            }
            Message::LeaseEnd(ref end) => {
                self.note(end.ring, from, &format!("ended its lease: {:?}", end.reason));
                self.tell_head(end.ring, from, message);
            }
            Message::Fault(ref fault) => {
                if let Some(ring) = fault.ring {
                    self.note_fault(ring, from, fault.code);
                    self.tell_head(ring, from, message);
                }
            }
            Message::Credit(ref credit) => {
                // A node can be head and stage of the same ring.
                self.tell_head(credit.ring, from, message.clone());
                self.stage(StageEvent::Message { from, message });
            }
            Message::LeaseRequest(ref request) => match self.check_lease(from, request) {
                Ok(()) => {
                    let nodes = request.route.stages.iter().map(|stage| stage.node);
                    self.book.admit_route(request.ring, nodes.collect());
                    self.stage(StageEvent::Message { from, message });
                }
                Err(reason) => {
                    let refusal = refusal(request, reason);
                    self.send_message(from, Message::LeaseRefusal(refusal));
                }
            },
            Message::LeaseRenew(_) | Message::LeaseRelease(_) | Message::Replay(_) => {
                self.stage(StageEvent::Message { from, message });
            }
            _ => self.out_of_place(from),
        }
    }

    fn out_of_place(&mut self, from: NodeId) {
        let code = FaultCode::Unexpected;
        self.send_message(from, Message::Fault(fault(code)));
        self.peers.give_up(from, Some(code));
    }

    /// What the state machine cannot know: who may lead.
    fn check_lease(&self, from: NodeId, request: &LeaseRequest) -> Result<(), RefusalReason> {
        match from == self.me || self.may_lead(from, request.admission.package) {
            true => Ok(()),
            false => Err(RefusalReason::Forbidden),
        }
    }

    fn learn(&mut self, from: NodeId, all: Vec<Signed<Descriptor>>) {
        let mut is_news = false;
        for signed in all {
            let node = signed.body.node;
            let now_s = wall_s();
            // Somebody may know less, or hear of a revocation later: that is nobody's fault.
            if self.member.as_mut().is_some_and(|member| !member.vouches(&signed.body, now_s)) {
                continue;
            }
            match self.book.learn(signed.clone(), self.now()) {
                Ok(true) => {
                    is_news = true;
                    if let Some(address) = self.book.address(node) {
                        self.peers.learned(address);
                    }
                    self.note_member(node);
                    let others = self.peers.present().into_iter().filter(|peer| *peer != from);
                    let (members, now) = (self.book.members(), self.now());
                    let random = &mut SystemRandom;
                    let others = self.gossip.pass_on(members, &signed, others, now, random);
                    // Gossip has a bound; those who are to send rows there have to know.
                    let mates = self.slots.values().flat_map(|slot| slot.mates(node));
                    let mates = mates.filter(|mate| ![from, self.me].contains(mate));
                    let others: BTreeSet<NodeId> = others.into_iter().chain(mates).collect();
                    for peer in others {
                        self.send_message(peer, Message::Descriptor(signed.clone()));
                    }
                }
                Ok(false) => {}
                Err(error) => {
                    self.peers.give_up(from, Some(FaultCode::Malformed));
                    let why = format!("passed on a wrong descriptor: {error}");
                    self.todo.push_back(Todo::Lost(from, why));
                    return;
                }
            }
        }
        let rings: Vec<RingId> = self.slots.keys().copied().collect();
        for ring in rings.into_iter().filter(|_| is_news) {
            self.head(ring, HeadEvent::News);
        }
    }

    fn note(&mut self, ring: RingId, peer: NodeId, what: &str) {
        if let Some(slot) = self.slots.get_mut(&ring) {
            slot.note(peer, what);
        }
    }

    fn note_fault(&mut self, ring: RingId, from: NodeId, code: FaultCode) {
        if code != FaultCode::Unreachable {
            return self.note(ring, from, &format!("reported {code:?}"));
        }
        // The trouble is with the one after it. When that has left the route, the head knows.
        if let Some(lost) = self.slots.get(&ring).and_then(|slot| slot.after(from)) {
            self.note(ring, from, &format!("does not reach {lost}"));
        }
    }

    /// All rings of this node: the message names none.
    fn tell_heads(&mut self, from: NodeId, message: &Message) {
        let rings: Vec<RingId> = self.slots.keys().copied().collect();
        for ring in rings {
            self.tell_head(ring, from, Box::new(message.clone()));
        }
    }

    fn tell_head(&mut self, ring: RingId, from: NodeId, message: Box<Message>) {
        self.head(ring, HeadEvent::Message { from, message });
    }
}

fn refusal(request: &LeaseRequest, reason: RefusalReason) -> LeaseRefusal {
    LeaseRefusal {
        ring: request.ring,
        generation: request.generation,
        reason,
        generation_seen: GenerationId(0),
        retry_after_ms: 0,
    }
}

pub(crate) fn fault(code: FaultCode) -> Fault {
    let generation = GenerationId(0);
    Fault { code, blame: Blame::Peer, ring: None, generation, request: None, got: 0, limit: 0 }
}
