//! What a node shows its owner of a swarm.

use std::net::SocketAddr;
use std::time::Duration;

use shoal_base::PackageId;
use shoal_net::RelayState;
use shoal_wire::{LayerRange, MemberState, NodeId, SwarmRole};

use crate::RestReason;

/// A swarm as one of its members sees it.
#[derive(Clone, Debug)]
pub struct SwarmView {
    /// What people on this machine call it.
    pub name: String,
    /// The owner's key.
    pub swarm: NodeId,
    /// This node.
    pub node: NodeId,
    /// Whether the swarm was made here.
    pub is_owner: bool,
    /// What this node may do.
    pub role: SwarmRole,
    /// When its certificate runs out, in seconds since 1970.
    pub expires_at_s: u64,
    /// The highest revocation it has seen.
    pub revocation: u64,
    /// Where it listens.
    pub sockets: Vec<SocketAddr>,
    /// Whether another process uses its key, or did so lately.
    pub has_twin: bool,
    /// Whether its key leads to its addresses, for everybody.
    pub is_published: bool,
    /// Relays it named.
    pub relays: Vec<RelayState>,
    /// Everybody it knows, itself included.
    pub members: Vec<MemberView>,
    /// Rings that use this node.
    pub leases: usize,
    /// Why it computes nothing for others now.
    pub rests: Vec<RestReason>,
}

/// A member.
#[derive(Clone, Debug)]
pub struct MemberView {
    /// Who.
    pub node: NodeId,
    /// Whether it is this node.
    pub is_me: bool,
    /// Whether there is a connection.
    pub is_connected: bool,
    /// Whether to count on it.
    pub state: MemberState,
    /// What it may do.
    pub role: Option<SwarmRole>,
    /// When its certificate runs out, in seconds since 1970.
    pub expires_at_s: Option<u64>,
    /// Where it says it is.
    pub addresses: Vec<String>,
    /// Memory it says is free.
    pub memory_free_bytes: u64,
    /// Measured from here.
    pub round_trip: Option<Duration>,
    /// Whether its packets go over a relay now, if there is a connection.
    pub is_relayed: Option<bool>,
    /// Layers it computes.
    pub offers: Vec<OfferView>,
}

/// Layers of one package on one member.
#[derive(Clone, Debug)]
pub struct OfferView {
    /// The model.
    pub package: PackageId,
    /// In memory.
    pub loaded: Vec<LayerRange>,
    /// One row through one layer, as measured there; 0: not measured.
    pub decode_ns: u32,
    /// Tokens of cache still free.
    pub cache_tokens_free: u32,
}
