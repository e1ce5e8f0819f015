//! One blob of a fetch: which of its leaves are here, asked for, or free.

use std::collections::BTreeSet;

use shoal_base::Digest;
use shoal_wire::{LeafSet, NodeId, leaf_bytes, leaf_count};

use super::WantedBlob;

/// A blob.
#[derive(Debug)]
pub(super) struct Blob {
    pub(super) name: Digest,
    /// Its length, when it is vouched for.
    pub(super) bytes: Option<u64>,
    pub(super) bytes_max: u64,
    /// The length that the sponsor says.
    pub(super) claimed: Option<u64>,
    /// Whom to ask for a blob whose length nobody vouches for.
    sponsor: Option<NodeId>,
    pub(super) leaves: Option<Vec<Digest>>,
    held: LeafSet,
    /// Neither held, asked for, nor being written.
    free: LeafSet,
    storing: BTreeSet<u32>,
    /// It is whole and waits for its name.
    is_keeping: bool,
    pub(super) is_kept: bool,
}

impl Blob {
    pub(super) fn new(want: WantedBlob) -> Self {
        let WantedBlob { blob, bytes, bytes_max, held } = want;
        let count = bytes.map_or(0, |bytes| leaf_count(bytes) as u32);
        let (held, leaves) = match held.filter(|(held, _)| held.count() == count) {
            Some((held, leaves)) => (held, Some(leaves)),
            None => (LeafSet::new(count), None),
        };
        let mut free = LeafSet::full(count);
        held.iter().for_each(|leaf| free.remove(leaf));
        Self {
            name: blob,
            bytes,
            bytes_max,
            claimed: None,
            sponsor: None,
            leaves,
            held,
            free,
            storing: BTreeSet::new(),
            is_keeping: false,
            is_kept: false,
        }
    }

    /// The leaves are known.
    pub(super) fn open(&mut self, bytes: u64, leaves: Vec<Digest>, from: NodeId) {
        self.leaves = Some(leaves);
        if self.bytes.is_none() {
            self.claimed = Some(bytes);
            self.sponsor = Some(from);
            let count = leaf_count(bytes) as u32;
            (self.held, self.free) = (LeafSet::new(count), LeafSet::full(count));
        }
    }

    /// Whether this peer is the one to ask about a blob that nobody vouches for.
    pub(super) fn ask_sponsor(&mut self, node: NodeId) -> bool {
        *self.sponsor.get_or_insert(node) == node
    }

    /// Forgets everything that only this peer vouched for. Says whether it was anything.
    pub(super) fn unsponsor(&mut self, node: NodeId) -> bool {
        let is_void = self.bytes.is_none() && self.sponsor == Some(node) && !self.is_whole();
        if is_void {
            (self.sponsor, self.claimed, self.leaves) = (None, None, None);
            (self.held, self.free) = (LeafSet::new(0), LeafSet::new(0));
            self.storing.clear();
        }
        is_void
    }

    /// Whether a peer may be asked for leaves.
    pub(super) fn may_ask(&self, node: NodeId) -> bool {
        self.leaves.is_some() && (self.bytes.is_some() || self.sponsor == Some(node))
    }

    /// How many leaves it has.
    pub(super) fn count(&self) -> u32 {
        self.held.count()
    }

    pub(super) fn leaf_bytes(&self, leaf: u32) -> u64 {
        self.bytes.or(self.claimed).map_or(0, |bytes| leaf_bytes(bytes, leaf))
    }

    /// Bytes that are here.
    pub(super) fn bytes_held(&self) -> u64 {
        self.held.iter().map(|leaf| self.leaf_bytes(leaf)).sum()
    }

    /// The first free leaf that a peer has.
    pub(super) fn free_for(&self, node: NodeId, held: &LeafSet) -> Option<u32> {
        if !self.may_ask(node) { None } else { self.free.first_common(held) }
    }

    /// Whether a leaf from a peer is of any use.
    pub(super) fn needs(&self, leaf: u32, from: NodeId) -> bool {
        self.may_ask(from)
            && leaf < self.count()
            && !self.held.contains(leaf)
            && !self.storing.contains(&leaf)
    }

    pub(super) fn begin_asking(&mut self, leaf: u32) {
        self.free.remove(leaf);
    }

    pub(super) fn begin_storing(&mut self, leaf: u32) {
        self.free.remove(leaf);
        self.storing.insert(leaf);
    }

    /// Says whether it was being written. What a peer sent that is believed no more was not.
    pub(super) fn end_storing(&mut self, leaf: u32, from: NodeId, is_kept: bool) -> bool {
        let is_void = self.bytes.is_none() && self.sponsor != Some(from);
        if is_void || !self.storing.remove(&leaf) {
            return false;
        }
        if is_kept {
            self.held.insert(leaf);
        }
        true
    }

    /// Nobody is asked for a leaf any more.
    pub(super) fn release(&mut self, leaf: u32) {
        if !self.held.contains(leaf) && !self.storing.contains(&leaf) {
            self.free.insert(leaf);
        }
    }

    pub(super) fn storing(&self) -> usize {
        self.storing.len()
    }

    pub(super) fn is_whole(&self) -> bool {
        self.leaves.is_some() && self.held.is_full()
    }

    pub(super) fn is_keeping(&self) -> bool {
        self.is_keeping && !self.is_kept
    }

    /// Whether it is whole now and was not before.
    pub(super) fn becomes_whole(&mut self) -> bool {
        let is_new = self.is_whole() && !self.is_keeping;
        self.is_keeping |= is_new;
        is_new
    }
}
