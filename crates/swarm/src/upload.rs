//! Leaves of blobs for peers that ask. Spec 03, 8.
//!
//! Owns: whose turn it is, and how many bytes leave in a second. Does not own: reading leaves, who
//! may ask. Peers take turns leaf by leaf, however much each asked for; what one may ask for has a
//! limit, and one that takes nothing is let go.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use shoal_base::Digest;
use shoal_wire::limits::LEAF_BYTES;
use shoal_wire::{BlobAbsent, BlobLeaves, BlobRequest, FaultCode, Message, NodeId};

use crate::Moment;
use crate::limits::{
    UPLOAD_ALL_BUSY_MAX, UPLOAD_BUSY_MAX, UPLOAD_PATIENCE, UPLOAD_PEERS_MAX, UPLOAD_QUERIES_MAX,
    UPLOAD_REFUSALS_MAX, UPLOAD_WANTED_MAX,
};

/// Microseconds in a second.
const SECOND: i128 = 1_000_000;

/// What happened.
#[derive(Debug)]
pub enum UploadEvent {
    /// Time passed.
    Tick,
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
        /// How many bytes went out; `None` when the leaf is not here.
        bytes: Option<u64>,
    },
    /// A peer is gone.
    PeerLost(NodeId),
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
    /// Come back at this moment, with [`UploadEvent::Tick`].
    Wake(Moment),
}

/// A peer that asked.
#[derive(Debug, Default)]
struct Asker {
    wanted: VecDeque<(Digest, u32)>,
    queries: usize,
    /// When each leaf under way was begun, the first one first.
    busy: VecDeque<Moment>,
    refusals: u32,
}

impl Asker {
    fn is_idle(&self) -> bool {
        self.wanted.is_empty() && self.queries == 0 && self.busy.is_empty() && self.refusals == 0
    }
}

/// What may leave in a second: a bucket that fills steadily and that leaves are taken from. It may
/// be in debt by one leaf, so that any limit lets leaves pass at its rate.
#[derive(Debug)]
struct Bucket {
    bytes_per_s: u64,
    /// Bytes times a million.
    level: i128,
    at: Moment,
}

impl Bucket {
    fn fill(&mut self, now: Moment) {
        let micros = i128::try_from((now - self.at).as_micros()).unwrap_or(i128::MAX);
        let most = i128::from(self.bytes_per_s.max(LEAF_BYTES)) * SECOND;
        let more = micros.saturating_mul(self.bytes_per_s.into());
        self.level = self.level.saturating_add(more).min(most);
        self.at = now;
    }

    fn change(&mut self, bytes: i128) {
        self.level += bytes * SECOND;
    }

    /// How long until there is something in it.
    fn wait(&self) -> Duration {
        let micros = (1 - self.level).max(0) / i128::from(self.bytes_per_s.max(1)) + 1;
        Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
    }
}

/// Everybody who asks this node for leaves.
#[derive(Debug)]
pub struct Uploads {
    askers: BTreeMap<NodeId, Asker>,
    looks: BTreeMap<Digest, BTreeSet<NodeId>>,
    bucket: Option<Bucket>,
    /// Who had the last turn.
    last: Option<NodeId>,
    waking_at: Option<Moment>,
}

impl Uploads {
    /// With at most so many bytes per second; `None` is no limit.
    #[must_use]
    pub fn new(bytes_per_s: Option<u64>, now: Moment) -> Self {
        let bucket = bytes_per_s.map(|bytes_per_s| Bucket { bytes_per_s, level: SECOND, at: now });
        Self {
            askers: BTreeMap::new(),
            looks: BTreeMap::new(),
            bucket,
            last: None,
            waking_at: None,
        }
    }

    /// Takes an event.
    pub fn handle(&mut self, event: UploadEvent, now: Moment, out: &mut Vec<UploadEffect>) {
        match event {
            UploadEvent::Tick => self.tick(now, out),
            UploadEvent::Query { from, blob } => self.query(from, blob, out),
            UploadEvent::Looked { blob, found } => self.looked(blob, found, out),
            UploadEvent::Request { from, request } => self.want(from, &request, out),
            UploadEvent::Served { to, blob, bytes } => self.served(to, blob, bytes, out),
            UploadEvent::PeerLost(peer) => {
                self.askers.remove(&peer);
            }
        }
        self.serve(now, out);
        self.askers.retain(|_, asker| !asker.is_idle());
    }

    fn tick(&mut self, now: Moment, out: &mut Vec<UploadEffect>) {
        self.waking_at = self.waking_at.filter(|at| *at > now);
        let is_stuck =
            |asker: &Asker| asker.busy.front().is_some_and(|since| now - *since >= UPLOAD_PATIENCE);
        let stuck: Vec<NodeId> =
            self.askers.iter().filter(|(_, asker)| is_stuck(asker)).map(|(n, _)| *n).collect();
        for peer in stuck {
            self.askers.remove(&peer);
            out.push(UploadEffect::Drop { peer, code: FaultCode::Resources });
        }
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

    fn served(
        &mut self,
        to: NodeId,
        blob: Digest,
        bytes: Option<u64>,
        out: &mut Vec<UploadEffect>,
    ) {
        if let Some(bucket) = &mut self.bucket {
            bucket.change(i128::from(LEAF_BYTES) - i128::from(bytes.unwrap_or(0)));
        }
        let Some(asker) = self.askers.get_mut(&to) else {
            return;
        };
        asker.busy.pop_front();
        // Who takes what it asked for is forgiven what it asked for too much.
        asker.refusals = asker.refusals.saturating_sub(1);
        if bytes.is_none() {
            asker.wanted.retain(|(of, _)| *of != blob);
            let message = Box::new(Message::BlobAbsent(BlobAbsent { blob }));
            out.push(UploadEffect::Send { to, message });
        }
    }

    /// One leaf for each peer in turn, as long as there is room.
    fn serve(&mut self, now: Moment, out: &mut Vec<UploadEffect>) {
        if let Some(bucket) = &mut self.bucket {
            bucket.fill(now);
        }
        let mut busy: usize = self.askers.values().map(|asker| asker.busy.len()).sum();
        while busy < UPLOAD_ALL_BUSY_MAX {
            let Some(to) = self.next_turn() else {
                return;
            };
            if let Some(bucket) = &mut self.bucket {
                if bucket.level <= 0 {
                    let at = now + bucket.wait();
                    if self.waking_at.is_none() {
                        self.waking_at = Some(at);
                        out.push(UploadEffect::Wake(at));
                    }
                    return;
                }
                bucket.change(-i128::from(LEAF_BYTES));
            }
            let asker = self.askers.get_mut(&to).expect("its turn was just found");
            let (blob, leaf) = asker.wanted.pop_front().expect("only who wants has a turn");
            asker.busy.push_back(now);
            self.last = Some(to);
            busy += 1;
            out.push(UploadEffect::Serve { to, blob, leaf });
        }
    }

    /// Who comes after the last one, in a circle.
    fn next_turn(&self) -> Option<NodeId> {
        let wants = |(node, asker): (&NodeId, &Asker)| {
            (!asker.wanted.is_empty() && asker.busy.len() < UPLOAD_BUSY_MAX).then_some(*node)
        };
        let last = self.last.unwrap_or(NodeId([0; 32]));
        let after =
            self.askers.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded));
        let before = self.askers.range(..=last);
        after.chain(before).find_map(wants)
    }
}
