//! What a fetch is told, and what it wants done.

use shoal_base::Digest;
use shoal_wire::limits::LEAF_BYTES;
use shoal_wire::{BlobData, BlobLeaves, Bytes, LeafSet, Message, NodeId};

use super::peer::{Misdeed, PeerFetch};

/// Bytes of a leaf.
pub type LeafData = Bytes<{ LEAF_BYTES as usize }>;

/// A blob to fetch.
#[derive(Clone, Debug)]
pub struct WantedBlob {
    /// Its name.
    pub blob: Digest,
    /// Its length, when somebody who is trusted says it.
    pub bytes: Option<u64>,
    /// Longest it may be, when nobody does.
    pub bytes_max: u64,
    /// Leaves that are here already, with the digests of all leaves. For a known length only.
    pub held: Option<(LeafSet, Vec<Digest>)>,
}

/// What happened.
#[derive(Debug)]
pub enum FetchEvent {
    /// Time passed.
    Tick,
    /// A peer says which leaves a blob has.
    Leaves {
        /// Who.
        from: NodeId,
        /// What it says.
        leaves: BlobLeaves,
    },
    /// A peer does not have a blob.
    Absent {
        /// Who.
        from: NodeId,
        /// Which.
        blob: Digest,
    },
    /// A leaf arrived.
    Data {
        /// From whom.
        from: NodeId,
        /// The leaf.
        data: BlobData,
    },
    /// A [`FetchEffect::Store`] was carried out.
    Stored {
        /// Who sent the leaf.
        from: NodeId,
        /// Its blob.
        blob: Digest,
        /// Which.
        leaf: u32,
        /// What became of it.
        outcome: StoreOutcome,
    },
    /// A [`FetchEffect::Keep`] was carried out.
    Kept(Digest),
    /// A peer cannot be reached any more.
    PeerLost(NodeId),
}

/// What became of a leaf.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    /// Its digest is right and it was written.
    Kept,
    /// Its digest is wrong.
    Wrong,
}

/// What to do.
#[derive(Debug, PartialEq)]
pub enum FetchEffect {
    /// Send a message.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Box<Message>,
    },
    /// The leaves of a blob are known. Comes before its first [`Self::Store`], and again when
    /// another peer has to be believed; what was stored before is void then.
    Open {
        /// Which.
        blob: Digest,
        /// Its length.
        bytes: u64,
        /// Their digests, which hash to its name.
        leaves: Vec<Digest>,
    },
    /// Check a leaf and write it.
    Store {
        /// Who sent it.
        from: NodeId,
        /// Its blob.
        blob: Digest,
        /// Which.
        leaf: u32,
        /// Its bytes.
        data: LeafData,
    },
    /// All leaves of a blob are there: give it its name.
    Keep(Digest),
    /// A peer lied. It is asked no more.
    Blamed {
        /// Who.
        peer: NodeId,
        /// What it did.
        misdeed: Misdeed,
    },
    /// All blobs are there.
    Finished,
    /// There is no way to go on. What arrived stays.
    Failed(FetchFailure),
}

/// Why a fetch ends without its blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFailure {
    /// Every peer was lost, silent or lied.
    #[error("no peer is left to ask")]
    NoPeers,
    /// Of the peers that are left none has this blob.
    #[error("no peer has blob {blob}")]
    NotHeld {
        /// Which.
        blob: Digest,
    },
}

/// How far a fetch is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchStatus {
    /// Bytes that are here, those of earlier attempts included.
    pub bytes: u64,
    /// Bytes of all blobs whose length is known.
    pub bytes_total: u64,
    /// The peers, in order of their ids.
    pub peers: Vec<PeerFetch>,
}
