//! Leaves of blobs for peers that ask. Spec 03, 8.
//!
//! Owns: whose turn it is. Does not own: reading leaves, who may ask, and how many bytes leave in a
//! second, which whoever sends them knows. Peers take turns leaf by leaf, however much each asked
//! for, and what one may ask for has a limit.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use shoal_base::Digest;
use shoal_wire::{BlobAbsent, BlobLeaves, BlobRequest, FaultCode, Message, NodeId};

use crate::limits::{
    UPLOAD_ALL_BUSY_MAX, UPLOAD_BUSY_MAX, UPLOAD_PEERS_MAX, UPLOAD_QUERIES_MAX,
    UPLOAD_REFUSALS_MAX, UPLOAD_WANTED_MAX,
};

/// What happened.
#[derive(Debug)]
pub enum UploadEvent {
    /// A peer asks about a blob.
    Query {
        /// Who.
        from: NodeId,
        /// Which.
        blob: Digest,
    },
    /// A [`UploadEffect::Look`] was carried out.
    Looked {
        /// Which blob.
        blob: Digest,
        /// Its leaves; `None` when it is not here.
        found: Option<Box<BlobLeaves>>,
    },
    /// A peer asks for leaves.
    Request {
        /// Who.
        from: NodeId,
        /// Which.
        request: BlobRequest,
    },
    /// A [`UploadEffect::Serve`] was carried out.
    Served {
        /// For whom.
        to: NodeId,
        /// Of which blob.
        blob: Digest,
        /// Whether the leaf is here.
        is_here: bool,
    },
    /// A peer is gone.
    PeerLost(NodeId),
}

impl UploadEvent {
    /// The blob that a peer asks about or for.
    #[must_use]
    pub fn blob(&self) -> Option<Digest> {
        match self {
            Self::Query { blob, .. } => Some(*blob),
            Self::Request { request, .. } => Some(request.blob),
            _ => None,
        }
    }
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum UploadEffect {
    /// Find out which leaves of a blob are here.
    Look(Digest),
    /// Send a message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Box<Message>,
    },
    /// Read a leaf and send it. Reported when the network has taken it.
    Serve {
        /// To whom.
        to: NodeId,
        /// The blob.
        blob: Digest,
        /// Which leaf.
        leaf: u32,
    },
    /// A peer asked for too much, and that was not taken.
    Refuse {
        /// Who.
        peer: NodeId,
    },
    /// End the connection to a peer.
    Drop {
        /// Who.
        peer: NodeId,
        /// Why.
        code: FaultCode,
    },
}

/// A peer that asked.
#[derive(Debug, Default)]
struct Asker {
    wanted: VecDeque<(Digest, u32)>,
    queries: usize,
    /// Leaves under way.
    busy: usize,
    refusals: u32,
}

impl Asker {
    fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.queries == 0 && self.busy == 0 && self.refusals == 0
    }
}

/// Everybody who asks this node for leaves.
#[derive(Debug, Default)]
pub struct Uploads {
    askers: BTreeMap<NodeId, Asker>,
    looks: BTreeMap<Digest, BTreeSet<NodeId>>,
    /// Who had the last turn.
    last: Option<NodeId>,
}

impl Uploads {
    /// Takes an event.
    pub fn handle(&mut self, event: UploadEvent, out: &mut Vec<UploadEffect>) {
        match event {
            UploadEvent::Query { from, blob } => self.query(from, blob, out),
            UploadEvent::Looked { blob, found } => self.looked(blob, found, out),
            UploadEvent::Request { from, request } => self.want(from, &request, out),
            UploadEvent::Served { to, blob, is_here } => self.served(to, blob, is_here, out),
            UploadEvent::PeerLost(peer) => {
                self.askers.remove(&peer);
            }
        }
        self.serve(out);
        self.askers.retain(|_, asker| !asker.is_idle());
    }

    /// The state of a peer; `None` when there are too many.
    fn asker(&mut self, node: NodeId) -> Option<&mut Asker> {
        let is_room = self.askers.len() < UPLOAD_PEERS_MAX || self.askers.contains_key(&node);
        is_room.then(|| self.askers.entry(node).or_default())
    }

    fn query(&mut self, from: NodeId, blob: Digest, out: &mut Vec<UploadEffect>) {
        if self.looks.get(&blob).is_some_and(|looking| looking.contains(&from)) {
            // Once asked, once answered.
            return;
        }
        let asker = self.asker(from).filter(|asker| asker.queries < UPLOAD_QUERIES_MAX);
        let Some(asker) = asker else {
            return self.refuse(from, out);
        };
        asker.queries += 1;
        let looking = self.looks.entry(blob).or_default();
        looking.insert(from);
        if looking.len() == 1 {
            out.push(UploadEffect::Look(blob));
        }
    }

    fn looked(
        &mut self,
        blob: Digest,
        found: Option<Box<BlobLeaves>>,
        out: &mut Vec<UploadEffect>,
    ) {
        for to in self.looks.remove(&blob).unwrap_or_default() {
            let Some(asker) = self.askers.get_mut(&to) else {
                continue;
            };
            asker.queries = asker.queries.saturating_sub(1);
            let message = match &found {
                Some(leaves) => Message::BlobLeaves((**leaves).clone()),
                None => Message::BlobAbsent(BlobAbsent { blob }),
            };
            out.push(UploadEffect::Send { to, message: Box::new(message) });
        }
    }

    /// Takes a request, all of it or nothing.
    fn want(&mut self, from: NodeId, request: &BlobRequest, out: &mut Vec<UploadEffect>) {
        let count: u64 = request.ranges.iter().map(|range| u64::from(range.count)).sum();
        let is_room = |asker: &Asker| asker.wanted.len() as u64 + count <= UPLOAD_WANTED_MAX as u64;
        let Some(asker) = self.asker(from).filter(|asker| is_room(asker)) else {
            return self.refuse(from, out);
        };
        let leaves = request.ranges.iter().flat_map(|r| r.first..r.first.saturating_add(r.count));
        asker.wanted.extend(leaves.map(|leaf| (request.blob, leaf)));
    }

    fn refuse(&mut self, peer: NodeId, out: &mut Vec<UploadEffect>) {
        let Some(asker) = self.askers.get_mut(&peer) else {
            out.push(UploadEffect::Refuse { peer });
            return;
        };
        asker.refusals += 1;
        if asker.refusals > UPLOAD_REFUSALS_MAX {
            self.askers.remove(&peer);
            out.push(UploadEffect::Drop { peer, code: FaultCode::Quota });
        } else {
            out.push(UploadEffect::Refuse { peer });
        }
    }

    fn served(&mut self, to: NodeId, blob: Digest, is_here: bool, out: &mut Vec<UploadEffect>) {
        let Some(asker) = self.askers.get_mut(&to) else {
            return;
        };
        asker.busy = asker.busy.saturating_sub(1);
        // Who takes what it asked for is forgiven what it asked for too much.
        asker.refusals = asker.refusals.saturating_sub(1);
        if !is_here {
            asker.wanted.retain(|(of, _)| *of != blob);
            let message = Box::new(Message::BlobAbsent(BlobAbsent { blob }));
            out.push(UploadEffect::Send { to, message });
        }
    }

    /// One leaf for each peer in turn, as long as there is room.
    fn serve(&mut self, out: &mut Vec<UploadEffect>) {
        let mut busy: usize = self.askers.values().map(|asker| asker.busy).sum();
        while busy < UPLOAD_ALL_BUSY_MAX {
            let Some(to) = self.next_turn() else {
                return;
            };
            let asker = self.askers.get_mut(&to).expect("its turn was just found");
            let (blob, leaf) = asker.wanted.pop_front().expect("only who wants has a turn");
            asker.busy += 1;
            self.last = Some(to);
            busy += 1;
            out.push(UploadEffect::Serve { to, blob, leaf });
        }
    }

    /// Who comes after the last one, in a circle.
    fn next_turn(&self) -> Option<NodeId> {
        let wants = |(node, asker): (&NodeId, &Asker)| {
            (!asker.wanted.is_empty() && asker.busy < UPLOAD_BUSY_MAX).then_some(*node)
        };
        let last = self.last.unwrap_or(NodeId([0; 32]));
        let after =
            self.askers.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded));
        let before = self.askers.range(..=last);
        after.chain(before).find_map(wants)
    }
}
