//! Why a node does not start, or does not take a model.

use shoal_base::Blame;
use shoal_engine::LoadError;
use shoal_net::NetError;
use shoal_wire::WireError;

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
    /// The system gives no threads, no random numbers.
    #[error("starting the node: {0}")]
    System(#[from] std::io::Error),
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
            Self::Plan(_) | Self::Wire(_) => Blame::Caller,
            Self::Load(_) | Self::System(_) | Self::Stopped => Blame::Local,
        }
    }
}
