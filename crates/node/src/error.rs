//! Why a node does not start, or does not take a model.

use std::time::Duration;

use shoal_base::Blame;
use shoal_engine::LoadError;
use shoal_net::NetError;
use shoal_store::StoreError;
use shoal_swarm::{FetchFailure, JoinError};
use shoal_wire::{FaultCode, NodeId, WireError};

use crate::PlanError;

/// What a node's owner hears.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// The network.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The package.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A number of the package or of the options is beyond what the wire can say.
    #[error("not within the limits of the protocol: {0}")]
    Wire(#[from] WireError),
    /// The data folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A ticket, a certificate, or what was asked of a member.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// A text that is no ticket.
    #[error("not a ticket: {0}")]
    Ticket(WireError),
    /// The member that signed a ticket cannot be reached.
    #[error("the member that signed the ticket: {0}")]
    Inviter(NetError),
    /// It did not answer.
    #[error("the member that signed the ticket did not answer in {} s", limit.as_secs())]
    Silent {
        /// How long it had.
        limit: Duration,
    },
    /// It answered something else than a certificate.
    #[error("the member that signed the ticket refused: {code:?}")]
    Refused {
        /// What it said.
        code: FaultCode,
    },
    /// The data folder belongs to a member of a swarm.
    #[error("this data folder is in swarm {swarm} already")]
    Member {
        /// Which.
        swarm: NodeId,
    },
    /// It does not.
    #[error("this data folder is in no swarm")]
    NoMember,
    /// What the member keeps cannot be read.
    #[error("what this node kept of its swarm is damaged; leave it and join again")]
    State,
    /// The system gives no threads, no random numbers.
    #[error("starting the node: {0}")]
    System(#[from] std::io::Error),
    /// Blobs were not had from any peer.
    #[error("fetching layers: {failure}{}", said(peers))]
    Fetch {
        /// Why.
        failure: FetchFailure,
        /// What went wrong with whom.
        peers: Vec<(NodeId, String)>,
    },
    /// The package has fewer layers.
    #[error("layers up to {end}, the package has {layer_count}")]
    NoSuchLayer {
        /// One past the last layer asked for.
        end: u16,
        /// How many there are.
        layer_count: u32,
    },
    /// Layers that a head asked for do not fit.
    #[error("layers and caches of {needed} bytes, {free} bytes are free for them")]
    NoMemory {
        /// What they take.
        needed: u64,
        /// What there is.
        free: u64,
    },
    /// The node was started without a store.
    #[error("this node has no store to put layers into")]
    NoStore,
    /// Too many fetches wait.
    #[error("too many fetches wait already, try again later")]
    TooManyFetches,
    /// The one who ordered it ended it. What arrived stays.
    #[error("the fetch was ended; what arrived is kept")]
    Cancelled,
    /// The node was stopped.
    #[error("the node has stopped")]
    Stopped,
}

impl NodeError {
    /// Who is to blame.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Net(error) => error.blame(),
            Self::Join(error) => error.blame(),
            Self::Plan(_) | Self::Wire(_) | Self::Ticket(_) => Blame::Caller,
            Self::Member { .. } | Self::NoMember => Blame::Caller,
            Self::NoSuchLayer { .. } | Self::Cancelled => Blame::Caller,
            Self::Inviter(_) | Self::Silent { .. } | Self::Refused { .. } => Blame::Peer,
            Self::Fetch { .. } => Blame::Peer,
            Self::Load(_)
            | Self::Store(_)
            | Self::NoMemory { .. }
            | Self::NoStore
            | Self::TooManyFetches
            | Self::System(_)
            | Self::Stopped
            | Self::State => Blame::Local,
        }
    }
}

/// Who said what, for people.
fn said(peers: &[(NodeId, String)]) -> String {
    peers.iter().map(|(peer, why)| format!("; {peer}: {why}")).collect()
}
