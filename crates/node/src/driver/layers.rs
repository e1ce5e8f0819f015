//! Layers that travel: what the loop does with their messages and effects.

use shoal_base::{Blame, PackageId};
use shoal_net::{Incoming, PeerAddress};
use shoal_swarm::{FetchEffect, FetchEvent, UploadEffect, UploadEvent};
use shoal_wire::{
    BlobAbsent, BlobData, Bytes, Descriptor, Fault, FaultCode, GenerationId, Message, NodeId,
    Prepare, PrepareState,
};

use super::{Command, Driver, Todo};
use crate::layers::{DiskDone, DiskJob, LayersEvent, prepare_status as status};
use crate::limits::PREPARE_SOURCES_MAX;

impl Driver {
    /// A message about blobs. What is not one is given back.
    pub(super) fn blob_message(&mut self, from: NodeId, message: Message) -> Option<Message> {
        let now = self.now();
        let effects = match message {
            Message::BlobQuery(query) => {
                self.upload(from, UploadEvent::Query { from, blob: query.blob });
                return None;
            }
            Message::BlobRequest(request) => {
                self.upload(from, UploadEvent::Request { from, request });
                return None;
            }
            Message::Prepare(wish) => {
                self.prepare(from, wish);
                return None;
            }
            Message::BlobLeaves(leaves) => {
                self.layers.handle(FetchEvent::Leaves { from, leaves }, now)
            }
            Message::BlobAbsent(absent) => {
                self.layers.handle(FetchEvent::Absent { from, blob: absent.blob }, now)
            }
            Message::BlobData(data) => {
                let is_awaited = self.layers.awaits(from, &data);
                if !is_awaited && self.layers.was_owed(from) {
                    return None;
                }
                if !is_awaited && !self.layers.asks(from) {
                    return Some(Message::BlobData(data));
                }
                self.layers.handle(FetchEvent::Data { from, data }, now)
            }
            other => return Some(other),
        };
        self.fetch_effects(effects);
        None
    }

    /// A head wants layers to be ready here.
    fn prepare(&mut self, from: NodeId, wish: Prepare) {
        let Prepare { package, layers } = wish;
        let holding = self.holdings.get(&package);
        let is_loaded = holding.is_some_and(|holding| holding.loaded.contains(&layers));
        let answer = if from != self.me && !self.may_lead(from, package) {
            status(package, layers, PrepareState::Refused)
        } else if is_loaded {
            status(package, layers, PrepareState::Ready)
        } else {
            let sources = self.sources(from, package);
            let (answer, order) = self.layers.prepares.ask(from, wish, sources, &self.commands);
            if let Some(order) = order {
                self.layers.order(order);
            }
            answer
        };
        self.send_message(from, Message::PrepareStatus(answer));
    }

    /// Where to fetch from what a head asks for: that head, and members that have some of it.
    fn sources(&self, head: NodeId, package: PackageId) -> Vec<PeerAddress> {
        let has = |member: &&Descriptor| {
            let mut offers = member.offers.iter();
            offers.any(|offer| offer.package == package && !offer.held.is_empty())
        };
        let members = self.book.members().iter().filter(has).map(|member| member.node);
        let others = members.filter(|node| ![head, self.me].contains(node));
        let places = others.filter_map(|node| self.book.address(node));
        let head = self.book.address(head).unwrap_or(PeerAddress::nowhere(head));
        std::iter::once(head).chain(places).take(PREPARE_SOURCES_MAX).collect()
    }

    /// Something for those who fetch from this node, if this one may.
    fn upload(&mut self, from: NodeId, event: UploadEvent) {
        // Of a swarm, only members get as far as this.
        let Some(member) = &self.member else {
            return match self.book.may_enter(from) {
                true => self.uploads(event),
                false => self.send_message(from, Message::Fault(refusal(FaultCode::Forbidden))),
            };
        };
        let models = member.pass(from).map(shoal_swarm::Pass::models).unwrap_or_default();
        if models.is_empty() || !self.layers.has_disk() {
            self.uploads(event);
        } else if !self.layers.admit(from, event, models) {
            self.send_message(from, Message::Fault(refusal(FaultCode::Quota)));
        }
    }

    /// Whether somebody may ask for a blob. If not, there is none for it.
    fn admitted(&mut self, event: UploadEvent, is_allowed: bool) {
        let (UploadEvent::Query { from, .. } | UploadEvent::Request { from, .. }) = event else {
            return;
        };
        self.layers.admitted(from);
        match event.blob() {
            Some(blob) if !is_allowed => {
                self.send_message(from, Message::BlobAbsent(BlobAbsent { blob }));
            }
            _ => self.uploads(event),
        }
    }

    fn uploads(&mut self, event: UploadEvent) {
        let mut out = Vec::new();
        self.layers.uploads.handle(event, &mut out);
        for effect in out {
            match effect {
                UploadEffect::Look(blob) => {
                    if !self.layers.job(DiskJob::Look(blob)) {
                        self.uploads(UploadEvent::Looked { blob, found: None });
                    }
                }
                UploadEffect::Send { to, message } => self.send_message(to, *message),
                UploadEffect::Serve { to, blob, leaf } => {
                    if !self.layers.job(DiskJob::Read { to, blob, leaf }) {
                        self.uploads(UploadEvent::Served { to, blob, is_here: false });
                    }
                }
                UploadEffect::Refuse { peer } => {
                    self.send_message(peer, Message::Fault(refusal(FaultCode::Quota)));
                }
                UploadEffect::Drop { peer, code } => {
                    self.peers.give_up(peer, Some(code));
                    let why = "it asked for too much, or took nothing".to_owned();
                    self.todo.push_back(Todo::Lost(peer, why));
                }
            }
        }
    }

    pub(super) fn fetch_effects(&mut self, effects: Vec<FetchEffect>) {
        for effect in effects {
            if let FetchEffect::Send { to, message } = effect {
                self.send_message(to, *message);
            }
        }
    }

    /// What the owner, the disk or the clock says.
    pub(super) fn layers(&mut self, event: LayersEvent) {
        let now = self.now();
        match event {
            LayersEvent::Fetch(order) => {
                order.from.iter().for_each(|peer| self.book.note(peer));
                self.layers.order(*order);
            }
            LayersEvent::Cancel(id) => self.layers.cancel(id),
            LayersEvent::Disk(DiskDone::Admitted { event, is_allowed }) => {
                self.admitted(event, is_allowed);
            }
            LayersEvent::Disk(DiskDone::Looked { blob, found }) => {
                self.uploads(UploadEvent::Looked { blob, found });
            }
            LayersEvent::Disk(DiskDone::Read { to, blob, leaf, bytes }) => {
                self.hand_over(to, blob, leaf, bytes);
            }
            LayersEvent::Disk(done) => {
                let effects = self.layers.disk(done, now);
                self.fetch_effects(effects);
            }
            LayersEvent::Served { to, blob } => {
                self.uploads(UploadEvent::Served { to, blob, is_here: true });
            }
            LayersEvent::Prepared(status) => {
                for head in self.layers.prepares.changed(status) {
                    self.send_message(head, Message::PrepareStatus(status));
                }
            }
            LayersEvent::Tick => {
                let effects = self.layers.tick(now);
                self.fetch_effects(effects);
            }
        }
    }

    /// Gives a leaf to the network. It waits until there is room; the loop does not.
    fn hand_over(
        &mut self,
        to: NodeId,
        blob: shoal_base::Digest,
        leaf: u32,
        bytes: Option<Vec<u8>>,
    ) {
        let bytes = bytes.and_then(|bytes| Bytes::try_new(bytes).ok());
        let Some(bytes) = bytes else {
            return self.uploads(UploadEvent::Served { to, blob, is_here: false });
        };
        if to == self.me {
            let data = Message::BlobData(BlobData { blob, leaf, bytes });
            self.todo.push_back(Todo::Own(Incoming::Message(Box::new(data))));
            return self.uploads(UploadEvent::Served { to, blob, is_here: true });
        }
        let sender = self.peers.sender(to);
        let commands = self.commands.clone();
        tokio::spawn(async move {
            if let Some(sender) = sender {
                // A peer that is gone is reported by whoever reads from it.
                let _ = sender.send_leaf(BlobData { blob, leaf, bytes }).await;
            }
            let served = LayersEvent::Served { to, blob };
            let _ = commands.send(Command::Layers(Box::new(served)));
        });
    }

    /// A peer is gone.
    pub(super) fn layers_lost(&mut self, peer: NodeId, why: &str) {
        self.uploads(UploadEvent::PeerLost(peer));
        let effects = self.layers.lost(peer, why, self.now());
        self.fetch_effects(effects);
    }
}

fn refusal(code: FaultCode) -> Fault {
    Fault {
        code,
        blame: Blame::Caller,
        ring: None,
        generation: GenerationId(0),
        request: None,
        got: 0,
        limit: 0,
    }
}
