//! What the commands that run nodes share.

use shoal_model::package::Package;
use shoal_node::{LayerRange, NodeError};

use crate::failure::{Code, Failure};

/// A key for this run only.
pub(crate) fn secret() -> Result<[u8; 32], Failure> {
    let mut secret = [0; 32];
    let filled = getrandom::fill(&mut secret);
    filled.map_err(|error| Failure::new(Code::Failed, format!("no random numbers: {error}")))?;
    Ok(secret)
}

/// How many layers a package has.
pub(crate) fn layer_count(package: &Package) -> Result<u16, Failure> {
    let count = package.manifest().architecture.layer_count;
    u16::try_from(count).map_err(|_| Failure::bad_input(format!("a package of {count} layers")))
}

/// Layers `first` to `end - 1`.
pub(crate) fn range(first: u16, end: u16) -> Result<LayerRange, Failure> {
    let range = LayerRange::try_new(first, end);
    range.map_err(|error| Failure::usage(format!("layers {first} to {end}: {error}")))
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let code = match &error {
            NodeError::Net(_) => Code::Network,
            NodeError::Load(_) => Code::BadInput,
            NodeError::Plan(_) | NodeError::Wire(_) => Code::Usage,
            _ => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}
