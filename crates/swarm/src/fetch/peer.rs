//! One peer of a fetch: what it has, what it was asked for, how fast it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use shoal_base::Digest;
use shoal_wire::limits::LEAF_BYTES;
use shoal_wire::{LeafSet, NodeId};

use crate::Moment;
use crate::limits::{
    FETCH_FAILURES_MAX, RATE_OVER, RECONNECT_FIRST, SILENT_AFTER, STALL_AFTER, WINDOW_FIRST,
    WINDOW_MAX, WINDOW_MIN, WINDOW_OVER,
};

/// A blob by its number, and a leaf.
pub(super) type Place = (usize, u32);

/// What a peer did that no honest one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Misdeed {
    /// Its list of leaves is not that of the blob, or of another length.
    #[error("its list of leaves is not that of blob {blob}: {bytes} bytes")]
    Leaves {
        /// Which blob.
        blob: Digest,
        /// The length it says.
        bytes: u64,
    },
    /// A leaf with other bytes than those of the blob.
    #[error("wrong bytes for leaf {leaf} of blob {blob}")]
    Leaf {
        /// Which blob.
        blob: Digest,
        /// Which leaf.
        leaf: u32,
    },
    /// A leaf that nobody asked for.
    #[error("leaf {leaf} of blob {blob}, which it was not asked for")]
    Unasked {
        /// Which blob.
        blob: Digest,
        /// Which leaf.
        leaf: u32,
    },
}

/// Whether a peer is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// It is.
    Ready,
    /// Nothing came for a while. Others are asked until something does.
    Stalled,
    /// Its connection was lost; it is tried again.
    Lost {
        /// When.
        until: Moment,
    },
    /// It does not answer, or was lost too often.
    Silent,
    /// It lied.
    Banned(Misdeed),
}

/// What came from a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerFetch {
    /// Who.
    pub node: NodeId,
    /// Whether it is asked.
    pub state: PeerState,
    /// Bytes of right leaves.
    pub bytes: u64,
    /// How fast they come, in bytes per second.
    pub bytes_per_s: u64,
}

/// A peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) state: PeerState,
    /// Blobs it was asked about, and when.
    pub(super) queried: BTreeMap<usize, Moment>,
    /// The leaves it says it has; none of a blob it does not have.
    pub(super) answered: BTreeMap<usize, LeafSet>,
    /// Leaves it was asked for, and when.
    pub(super) asked: BTreeMap<Place, Moment>,
    /// Leaves it was asked for that nobody waits for. They may come.
    pub(super) late: BTreeSet<Place>,
    pub(super) arrived_at: Moment,
    pub(super) bytes: u64,
    pub(super) failures: u32,
    rate: u64,
    measured: u64,
    measured_from: Moment,
}

impl Peer {
    pub(super) fn new(now: Moment) -> Self {
        Self {
            state: PeerState::Ready,
            queried: BTreeMap::new(),
            answered: BTreeMap::new(),
            asked: BTreeMap::new(),
            late: BTreeSet::new(),
            arrived_at: now,
            bytes: 0,
            failures: 0,
            rate: 0,
            measured: 0,
            measured_from: now,
        }
    }

    pub(super) fn status(&self, node: NodeId) -> PeerFetch {
        PeerFetch { node, state: self.state, bytes: self.bytes, bytes_per_s: self.rate }
    }

    pub(super) fn is_banned(&self) -> bool {
        matches!(self.state, PeerState::Banned(_))
    }

    pub(super) fn owed(&self) -> usize {
        self.asked.len() + self.late.len()
    }

    pub(super) fn owes(&self, place: Place) -> bool {
        self.asked.contains_key(&place) || self.late.contains(&place)
    }

    /// Whether anything may come from it.
    pub(super) fn is_working(&self) -> bool {
        match self.state {
            PeerState::Ready => !self.asked.is_empty() || !self.queried.is_empty(),
            PeerState::Stalled | PeerState::Lost { .. } => true,
            PeerState::Silent | PeerState::Banned(_) => false,
        }
    }

    /// A leaf came. Says whether it was owed.
    pub(super) fn arrived(&mut self, place: Place, bytes: &[u8], now: Moment) -> bool {
        let is_owed = self.asked.remove(&place).is_some() || self.late.remove(&place);
        if !is_owed {
            return false;
        }
        if self.state == PeerState::Stalled {
            self.state = PeerState::Ready;
        }
        self.arrived_at = now;
        self.measured += bytes.len() as u64;
        let over = now - self.measured_from;
        if over >= RATE_OVER {
            let micros = u64::try_from(over.as_micros()).unwrap_or(u64::MAX);
            let rate = self.measured.saturating_mul(1_000_000) / micros.max(1);
            self.rate = if self.rate == 0 { rate } else { (self.rate + rate) / 2 };
            (self.measured, self.measured_from) = (0, now);
        }
        true
    }

    /// Leaves to ask for at once: what comes in [`WINDOW_OVER`].
    pub(super) fn window(&self) -> usize {
        if self.rate == 0 {
            return WINDOW_FIRST;
        }
        let bytes = u128::from(self.rate) * WINDOW_OVER.as_micros() / 1_000_000;
        let leaves = usize::try_from(bytes / u128::from(LEAF_BYTES)).unwrap_or(usize::MAX);
        leaves.clamp(WINDOW_MIN, WINDOW_MAX)
    }

    /// Whether to ask it which leaves of a blob it has.
    pub(super) fn may_be_asked_about(&self, place: usize) -> bool {
        self.state == PeerState::Ready
            && !self.answered.contains_key(&place)
            && !self.queried.contains_key(&place)
    }

    /// Takes the queries that were not answered in time.
    pub(super) fn overdue_queries(
        &mut self,
        now: Moment,
        patience: Duration,
    ) -> Vec<(usize, Moment)> {
        self.queried.extract_if(.., |_, since| now - *since >= patience).collect()
    }

    /// What is to be asked of others because nothing came from it for a while.
    pub(super) fn stalled(&mut self, now: Moment) -> Vec<Place> {
        let Some(first) = self.asked.values().min() else {
            return Vec::new();
        };
        let since = (*first).max(self.arrived_at);
        if self.state != PeerState::Ready || now - since < STALL_AFTER {
            return Vec::new();
        }
        self.state = PeerState::Stalled;
        self.asked.keys().copied().collect()
    }

    /// Whether nothing came for so long that nothing will.
    pub(super) fn is_hopeless(&self, now: Moment) -> bool {
        self.state == PeerState::Stalled && now - self.arrived_at >= SILENT_AFTER
    }

    /// Its connection was lost.
    pub(super) fn lose(&mut self, now: Moment) {
        self.queried.clear();
        if matches!(self.state, PeerState::Banned(_) | PeerState::Silent) {
            return;
        }
        self.failures += 1;
        self.state = match self.failures > FETCH_FAILURES_MAX {
            true => PeerState::Silent,
            false => {
                let pause = RECONNECT_FIRST * (1 << self.failures.min(FETCH_FAILURES_MAX));
                PeerState::Lost { until: now + pause }
            }
        };
    }

    /// Tries a lost peer again when it is time.
    pub(super) fn wake(&mut self, now: Moment) {
        if let PeerState::Lost { until } = self.state
            && until <= now
        {
            self.state = PeerState::Ready;
            self.arrived_at = now;
        }
    }

    /// Forgets what it said about a blob.
    pub(super) fn forget(&mut self, place: usize) {
        self.answered.remove(&place);
        self.queried.remove(&place);
        let asked: Vec<Place> = self.asked.keys().copied().filter(|p| p.0 == place).collect();
        for place in asked {
            self.asked.remove(&place);
            self.late.insert(place);
        }
    }
}
