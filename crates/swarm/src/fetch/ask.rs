//! Whom to ask for what.

use std::collections::BTreeMap;

use shoal_wire::{BlobQuery, BlobRequest, LeafSet, Message, NodeId};

use super::blob::Blob;
use super::peer::{PeerState, Place};
use super::{Fetch, FetchEffect};
use crate::Moment;
use crate::limits::{DUPLICATE_AFTER, FETCH_LEAVES_MAX, QUERIES_AHEAD, QUERIES_MAX};

impl Fetch {
    /// Asks peers which leaves they have, a few blobs ahead.
    pub(super) fn query(&mut self, now: Moment, out: &mut Vec<FetchEffect>) {
        let open = self.first_open..self.blobs.len();
        for place in open {
            if self.blobs[place].is_whole() {
                continue;
            }
            let is_vouched = self.blobs[place].bytes.is_some();
            for (node, peer) in &mut self.peers {
                if !peer.may_be_asked_about(place) || peer.queried.len() >= QUERIES_MAX {
                    continue;
                }
                let answers = peer.answered.range(self.first_open..place);
                let ahead = answers
                    .filter(|(place, held)| !held.is_empty() && !self.blobs[**place].is_whole());
                if ahead.count() >= QUERIES_AHEAD {
                    continue;
                }
                if !is_vouched && !self.blobs[place].ask_sponsor(*node) {
                    continue;
                }
                peer.queried.insert(place, now);
                let query = BlobQuery { blob: self.blobs[place].name };
                out.push(FetchEffect::Send {
                    to: *node,
                    message: Box::new(Message::BlobQuery(query)),
                });
            }
        }
    }

    /// Asks for leaves: one after the other from each peer in turn, as far as windows go.
    pub(super) fn request(&mut self, now: Moment, out: &mut Vec<FetchEffect>) {
        let mut asked: BTreeMap<(NodeId, usize), LeafSet> = BTreeMap::new();
        let mut room = FETCH_LEAVES_MAX.saturating_sub(self.in_flight());
        let nodes: Vec<NodeId> = self.peers.keys().copied().collect();
        let mut is_moving = true;
        while is_moving && room > 0 {
            is_moving = false;
            for node in &nodes {
                let Some(place) = self.next_leaf(*node, now).filter(|_| room > 0) else {
                    continue;
                };
                let (blob, leaf) = place;
                let peer = self.peers.get_mut(node).expect("nobody leaves");
                peer.asked.insert(place, now);
                self.blobs[blob].begin_asking(leaf);
                let count = self.blobs[blob].count();
                let set = asked.entry((*node, blob)).or_insert_with(|| LeafSet::new(count));
                set.insert(leaf);
                room -= 1;
                is_moving = true;
            }
        }
        for ((to, place), set) in asked {
            let request = BlobRequest { blob: self.blobs[place].name, ranges: set.ranges() };
            out.push(FetchEffect::Send { to, message: Box::new(Message::BlobRequest(request)) });
        }
    }

    /// Leaves that were asked for or are being written.
    fn in_flight(&self) -> usize {
        let asked: usize = self.peers.values().map(|peer| peer.asked.len()).sum();
        asked + self.blobs[self.first_open..].iter().map(Blob::storing).sum::<usize>()
    }

    /// What to ask a peer for next: a leaf nobody was asked for, or one that another peer owes for
    /// so long that it is worth asking twice.
    fn next_leaf(&self, node: NodeId, now: Moment) -> Option<Place> {
        let peer = self.peers.get(&node)?;
        if peer.state != PeerState::Ready || peer.asked.len() >= peer.window() {
            return None;
        }
        let answers = peer.answered.range(self.first_open..);
        let free = answers.clone().find_map(|(place, held)| {
            let leaf = self.blobs[*place].free_for(node, held)?;
            Some((*place, leaf))
        });
        free.or_else(|| {
            let others = self.peers.iter().filter(|(other, _)| **other != node);
            let owed = others.flat_map(|(_, other)| &other.asked);
            let slow = owed.filter(|(place, since)| {
                let held = peer.answered.get(&place.0);
                now - **since >= DUPLICATE_AFTER
                    && held.is_some_and(|held| held.contains(place.1))
                    && !peer.owes(**place)
                    && self.blobs[place.0].may_ask(node)
                    && self.askers(**place) == 1
            });
            slow.min_by_key(|(_, since)| **since).map(|(place, _)| *place)
        })
    }

    fn askers(&self, place: Place) -> usize {
        self.peers.values().filter(|peer| peer.asked.contains_key(&place)).count()
    }
}
