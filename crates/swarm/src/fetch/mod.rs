//! Fetching blobs from several peers at once. Spec 03, 8.
//!
//! Owns: whom to ask for which leaf, how much of it at a time, what to do about peers that are
//! slow, gone or lie. Does not own: hashing and writing leaves, which the driver does for a
//! [`FetchEffect::Store`] and reports as [`FetchEvent::Stored`].
//!
//! Invariants: nothing is taken for a leaf before its digest was checked against a list that
//! hashes to the name of the blob; whoever sends a wrong one is asked no more; a blob whose length
//! nobody vouches for is fetched from one peer at a time, because a list for a wrong length can
//! hash to the name too, and would turn honest leaves into wrong ones; what is asked for and not
//! written has a limit.

mod ask;
mod blob;
mod event;
mod peer;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use shoal_base::Digest;
use shoal_wire::{BlobData, BlobLeaves, LeafSet, NodeId, leaf_bytes, leaf_count};

use crate::Moment;
use crate::limits::{FETCH_PEERS_MAX, FETCH_WANTS_MAX, QUERY_PATIENCE, SPONSOR_PATIENCE};
use blob::Blob;
pub use event::{
    FetchEffect, FetchEvent, FetchFailure, FetchStatus, LeafData, StoreOutcome, WantedBlob,
};
pub use peer::{Misdeed, PeerFetch, PeerState};
use peer::{Peer, Place};

/// A fetch under way.
#[derive(Debug)]
pub struct Fetch {
    blobs: Vec<Blob>,
    places: BTreeMap<Digest, usize>,
    peers: BTreeMap<NodeId, Peer>,
    /// Blobs before this one are kept.
    first_open: usize,
    is_over: bool,
}

impl Fetch {
    /// A fetch of blobs, in this order, from peers. Begins with the first [`FetchEvent::Tick`].
    /// Peers and blobs beyond the limits are left out: no package has more blobs.
    #[must_use]
    pub fn new(wants: Vec<WantedBlob>, peers: &[NodeId], now: Moment) -> Self {
        let mut places = BTreeMap::new();
        let mut blobs = Vec::new();
        for want in wants.into_iter().take(FETCH_WANTS_MAX) {
            if let Entry::Vacant(place) = places.entry(want.blob) {
                place.insert(blobs.len());
                blobs.push(Blob::new(want));
            }
        }
        let peers = peers.iter().take(FETCH_PEERS_MAX).map(|peer| (*peer, Peer::new(now)));
        Self { blobs, places, peers: peers.collect(), first_open: 0, is_over: false }
    }

    /// How far it is.
    #[must_use]
    pub fn status(&self) -> FetchStatus {
        FetchStatus {
            bytes: self.blobs.iter().map(Blob::bytes_held).sum(),
            bytes_total: self.blobs.iter().filter_map(|blob| blob.bytes).sum(),
            peers: self.peers.iter().map(|(node, peer)| peer.status(*node)).collect(),
        }
    }

    /// How many leaves a peer was asked for that may still come.
    #[must_use]
    pub fn owed(&self, peer: NodeId) -> usize {
        self.peers.get(&peer).map_or(0, Peer::owed)
    }

    /// Whether a peer was asked for a leaf that has not come.
    #[must_use]
    pub fn owes(&self, peer: NodeId, blob: Digest, leaf: u32) -> bool {
        let place = self.places.get(&blob);
        let peer = self.peers.get(&peer);
        place.is_some_and(|place| peer.is_some_and(|peer| peer.owes((*place, leaf))))
    }

    /// Whether this fetch asks a peer for anything.
    #[must_use]
    pub fn asks(&self, peer: NodeId) -> bool {
        self.peers.contains_key(&peer)
    }

    /// Takes an event.
    pub fn handle(&mut self, event: FetchEvent, now: Moment, out: &mut Vec<FetchEffect>) {
        if self.is_over {
            return;
        }
        match event {
            FetchEvent::Tick => self.tick(now),
            FetchEvent::Leaves { from, leaves } => self.learn(from, leaves, now, out),
            FetchEvent::Absent { from, blob } => self.absent(from, blob),
            FetchEvent::Data { from, data } => self.data(from, data, now, out),
            FetchEvent::Stored { from, blob, leaf, outcome } => {
                self.stored(from, blob, leaf, outcome, out);
            }
            FetchEvent::Kept(blob) => self.kept(blob),
            FetchEvent::PeerLost(peer) => self.lost(peer, now),
        }
        self.keep(out);
        self.query(now, out);
        self.request(now, out);
        self.judge(out);
    }

    fn tick(&mut self, now: Moment) {
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        for node in nodes {
            let peer = self.peers.get_mut(&node).expect("the keys were just read");
            peer.wake(now);
            let is_silent = !peer.overdue_queries(now, QUERY_PATIENCE).is_empty();
            // Others can be asked about what only one is asked about at a time.
            let late = peer.overdue_queries(now, SPONSOR_PATIENCE);
            let (late, kept): (Vec<_>, Vec<_>) =
                late.into_iter().partition(|(place, _)| self.blobs[*place].bytes.is_none());
            peer.queried.extend(kept);
            for (place, _) in late {
                self.unsponsor(node, Some(place));
            }
            let peer = self.peers.get_mut(&node).expect("nobody leaves");
            let given_up = peer.stalled(now);
            let is_stalled = !given_up.is_empty();
            for place in given_up {
                self.release(node, place);
            }
            if is_stalled {
                self.unsponsor(node, None);
            }
            if is_silent || self.peers.get(&node).is_some_and(|peer| peer.is_hopeless(now)) {
                self.end(node, PeerState::Silent);
            }
        }
    }

    /// A list of leaves. Whatever is wrong with it is a lie: the sender has the blob or does not.
    fn learn(&mut self, from: NodeId, leaves: BlobLeaves, now: Moment, out: &mut Vec<FetchEffect>) {
        let place = self.places.get(&leaves.blob).copied();
        let (Some(place), Some(peer)) = (place, self.peers.get_mut(&from)) else {
            return;
        };
        // An answer that is late counts as none.
        if peer.queried.remove(&place).is_none() {
            return;
        }
        peer.arrived_at = now;
        let blob = &mut self.blobs[place];
        let is_length_right = match blob.bytes {
            Some(bytes) => bytes == leaves.bytes,
            None => leaves.bytes <= blob.bytes_max,
        };
        let is_list_right = match &blob.leaves {
            // The list for a length is the only one, but for collisions of the hash.
            Some(known) => known[..] == leaves.leaves[..],
            None => leaves.is_genuine(),
        };
        if !is_length_right || !is_list_right {
            let blob = leaves.blob;
            return self.blame(from, Misdeed::Leaves { blob, bytes: leaves.bytes }, out);
        }
        let held = LeafSet::of(leaf_count(leaves.bytes) as u32, &leaves.held);
        peer.answered.insert(place, held);
        if blob.leaves.is_none() {
            let (name, bytes) = (leaves.blob, leaves.bytes);
            let digests = leaves.leaves.into_vec();
            blob.open(bytes, digests.clone(), from);
            out.push(FetchEffect::Open { blob: name, bytes, leaves: digests });
        }
    }

    fn absent(&mut self, from: NodeId, blob: Digest) {
        let place = self.places.get(&blob).copied();
        let (Some(place), Some(peer)) = (place, self.peers.get_mut(&from)) else {
            return;
        };
        peer.queried.remove(&place);
        peer.answered.insert(place, LeafSet::default());
        // It had said that it has them.
        let asked: Vec<Place> = peer.asked.keys().copied().filter(|p| p.0 == place).collect();
        for leaf in asked {
            self.release(from, leaf);
        }
        self.unsponsor(from, Some(place));
    }

    fn data(&mut self, from: NodeId, data: BlobData, now: Moment, out: &mut Vec<FetchEffect>) {
        let BlobData { blob: name, leaf, bytes } = data;
        let place = self.places.get(&name).copied();
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        let is_owed = place.is_some_and(|place| peer.arrived((place, leaf), &bytes, now));
        if peer.is_banned() {
            return;
        }
        let Some(place) = place.filter(|_| is_owed) else {
            return self.blame(from, Misdeed::Unasked { blob: name, leaf }, out);
        };
        let blob = &mut self.blobs[place];
        if !blob.needs(leaf, from) {
            return;
        }
        let expected = blob.bytes.or(blob.claimed).map(|bytes| leaf_bytes(bytes, leaf));
        if expected != Some(bytes.len() as u64) {
            self.release_everywhere(place, leaf);
            return self.blame(from, Misdeed::Leaf { blob: name, leaf }, out);
        }
        blob.begin_storing(leaf);
        out.push(FetchEffect::Store { from, blob: name, leaf, data: bytes });
    }

    fn stored(
        &mut self,
        from: NodeId,
        name: Digest,
        leaf: u32,
        outcome: StoreOutcome,
        out: &mut Vec<FetchEffect>,
    ) {
        let Some(&place) = self.places.get(&name) else {
            return;
        };
        if !self.blobs[place].end_storing(leaf, from, outcome == StoreOutcome::Kept) {
            return;
        }
        match outcome {
            StoreOutcome::Kept => {
                let bytes = self.blobs[place].leaf_bytes(leaf);
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.bytes += bytes;
                    peer.failures = 0;
                }
            }
            StoreOutcome::Wrong => {
                self.release_everywhere(place, leaf);
                self.blame(from, Misdeed::Leaf { blob: name, leaf }, out);
            }
        }
    }

    fn kept(&mut self, name: Digest) {
        if let Some(&place) = self.places.get(&name) {
            self.blobs[place].is_kept = true;
        }
        while self.blobs.get(self.first_open).is_some_and(|blob| blob.is_kept) {
            self.first_open += 1;
        }
    }

    fn lost(&mut self, node: NodeId, now: Moment) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.lose(now);
        let asked: Vec<Place> = peer.asked.keys().copied().collect();
        for place in asked {
            self.release(node, place);
        }
        if let Some(peer) = self.peers.get_mut(&node) {
            // What was on the way is gone with the connection.
            peer.late.clear();
        }
        self.unsponsor(node, None);
    }

    /// Asks a peer no more, because it lied.
    fn blame(&mut self, peer: NodeId, misdeed: Misdeed, out: &mut Vec<FetchEffect>) {
        self.end(peer, PeerState::Banned(misdeed));
        out.push(FetchEffect::Blamed { peer, misdeed });
    }

    /// Asks a peer no more. What it was asked for is free again.
    fn end(&mut self, node: NodeId, state: PeerState) {
        let Some(peer) = self.peers.get_mut(&node) else {
            return;
        };
        peer.state = state;
        peer.queried.clear();
        let asked: Vec<Place> = peer.asked.keys().copied().collect();
        for place in asked {
            self.release(node, place);
        }
        self.unsponsor(node, None);
    }

    /// A leaf a peer was asked for may be asked of others. It may still come.
    fn release(&mut self, node: NodeId, place: Place) {
        if let Some(peer) = self.peers.get_mut(&node)
            && peer.asked.remove(&place).is_some()
        {
            peer.late.insert(place);
        }
        self.release_everywhere(place.0, place.1);
    }

    /// Makes a leaf free that nobody is asked for.
    fn release_everywhere(&mut self, place: usize, leaf: u32) {
        if !self.peers.values().any(|peer| peer.asked.contains_key(&(place, leaf))) {
            self.blobs[place].release(leaf);
        }
    }

    /// Nobody vouches any more for the length of what only this peer vouched for.
    fn unsponsor(&mut self, node: NodeId, only: Option<usize>) {
        for (place, blob) in self.blobs.iter_mut().enumerate() {
            if only.is_none_or(|only| only == place) && blob.unsponsor(node) {
                for peer in self.peers.values_mut() {
                    peer.forget(place);
                }
                if let Some(peer) = self.peers.get_mut(&node)
                    && peer.state == PeerState::Ready
                {
                    peer.answered.insert(place, LeafSet::default());
                }
            }
        }
    }

    fn keep(&mut self, out: &mut Vec<FetchEffect>) {
        for blob in &mut self.blobs[self.first_open..] {
            if blob.becomes_whole() {
                out.push(FetchEffect::Keep(blob.name));
            }
        }
    }

    /// Whether it is over.
    fn judge(&mut self, out: &mut Vec<FetchEffect>) {
        if self.first_open == self.blobs.len() {
            self.is_over = true;
            out.push(FetchEffect::Finished);
            return;
        }
        let open = &self.blobs[self.first_open..];
        let is_writing = open.iter().any(|blob| blob.storing() > 0 || blob.is_keeping());
        if is_writing || self.peers.values().any(Peer::is_working) {
            return;
        }
        self.is_over = true;
        let missing = open.iter().find(|blob| !blob.is_whole()).map(|blob| blob.name);
        let is_anybody_left = self.peers.values().any(|peer| peer.state == PeerState::Ready);
        out.push(FetchEffect::Failed(match missing.filter(|_| is_anybody_left) {
            Some(blob) => FetchFailure::NotHeld { blob },
            None => FetchFailure::NoPeers,
        }));
    }
}
