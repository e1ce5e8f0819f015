//! What goes wrong between this node and a peer.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use shoal_base::Blame;
use shoal_wire::{FaultCode, NodeId, WireError};

use crate::StreamKind;

/// Why a connection was not made, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The socket cannot be had.
    #[error("listening on {address}: {source}, choose another address or port")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The local network takes no multicast.
    #[error("no multicast on this network: {source}")]
    Multicast {
        /// What the system says.
        source: io::Error,
    },
    /// More relays than an address has room for.
    #[error("{got} relays, limit {limit}")]
    Relays {
        /// How many.
        got: usize,
        /// How many are allowed.
        limit: usize,
    },
    /// There is no place to connect to that this node may use.
    #[error(
        "no way to {peer} is known{}",
        if *has_relay { ": it is behind a relay that this node does not use, see --relay" }
        else { ", and keys are looked up with --public only" }
    )]
    NoWay {
        /// Who.
        peer: NodeId,
        /// Whether it named a relay.
        has_relay: bool,
    },
    /// Nobody with this key answers there.
    #[error("connecting to {peer}: {source}")]
    Connect {
        /// Who.
        peer: NodeId,
        /// What the transport says.
        source: io::Error,
    },
    /// Somebody whose key was not proved yet did not finish connecting.
    #[error("a peer did not finish connecting: {source}")]
    Accept {
        /// What the transport says.
        source: io::Error,
    },
    /// The first words took too long.
    #[error("{peer} did not finish its first words in {limit:?}")]
    Handshake {
        /// Who.
        peer: NodeId,
        /// How long it had.
        limit: Duration,
    },
    /// A message began and did not go on.
    #[error("{peer} sent {got} of {needed} bytes of a message in {limit:?} ({stream} stream)")]
    Stuck {
        /// Who.
        peer: NodeId,
        /// On which stream.
        stream: StreamKind,
        /// What has arrived.
        got: usize,
        /// What was announced.
        needed: usize,
        /// How long it had.
        limit: Duration,
    },
    /// The peer takes nothing.
    #[error("{peer} did not take a message in {limit:?} ({stream} stream)")]
    Clogged {
        /// Who.
        peer: NodeId,
        /// On which stream.
        stream: StreamKind,
        /// How long it had.
        limit: Duration,
    },
    /// More waits for this peer than may.
    #[error("{limit} messages wait for {peer} already ({stream} stream)")]
    QueueFull {
        /// Who.
        peer: NodeId,
        /// On which stream.
        stream: StreamKind,
        /// How many may wait.
        limit: usize,
    },
    /// Bytes that spec 03 does not allow.
    #[error("{peer} broke the protocol ({stream} stream): {source}")]
    Wire {
        /// Who.
        peer: NodeId,
        /// On which stream.
        stream: StreamKind,
        /// The rule.
        source: WireError,
    },
    /// A frame larger than this node takes.
    #[error("{peer} announced a frame of {got} bytes, limit {limit}")]
    Oversize {
        /// Who.
        peer: NodeId,
        /// What it announced.
        got: u32,
        /// What this node takes.
        limit: u32,
    },
    /// A message or stream out of place.
    #[error("{peer}: {rule}")]
    Unexpected {
        /// Who.
        peer: NodeId,
        /// The rule it broke.
        rule: &'static str,
    },
    /// The peer said why it does not go on.
    #[error("{peer} turned this node away: {code:?}")]
    TurnedAway {
        /// Who.
        peer: NodeId,
        /// Why.
        code: FaultCode,
    },
    /// The connection is over, in order.
    #[error("{peer} closed the connection")]
    Closed {
        /// Who.
        peer: NodeId,
    },
    /// The connection broke.
    #[error("the connection to {peer} broke: {source}")]
    Lost {
        /// Who.
        peer: NodeId,
        /// What the transport says.
        source: io::Error,
    },
}

impl NetError {
    /// Who is to blame, as far as one end can tell.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Bind { .. } | Self::Multicast { .. } => Blame::Local,
            Self::Relays { .. } | Self::NoWay { .. } => Blame::Local,
            Self::Wire { source, .. } => source.blame(),
            Self::TurnedAway { .. } => Blame::Caller,
            _ => Blame::Peer,
        }
    }

    /// What to tell the peer, when there is something to tell.
    pub(crate) fn fault(&self) -> Option<FaultCode> {
        match self {
            Self::Wire { source: WireError::NoCommonVersion { .. }, .. } => {
                Some(FaultCode::Version)
            }
            Self::Wire { source: WireError::Limit { .. }, .. } | Self::Oversize { .. } => {
                Some(FaultCode::Limit)
            }
            Self::Wire { .. } | Self::Stuck { .. } => Some(FaultCode::Malformed),
            Self::Unexpected { .. } => Some(FaultCode::Unexpected),
            Self::QueueFull { .. } | Self::Clogged { .. } => Some(FaultCode::Resources),
            _ => None,
        }
    }
}
