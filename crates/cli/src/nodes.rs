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

/// Where `width` layers of `count` begin that others hold the least; the first of several.
pub(crate) fn least_held(count: u16, width: u16, held: &[LayerRange]) -> u16 {
    let times = |layer: u16| held.iter().filter(|r| r.first <= layer && layer < r.end).count();
    let window = |first: &u16| (*first..*first + width).map(times).sum::<usize>();
    (0..=count.saturating_sub(width)).min_by_key(window).unwrap_or(0)
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let error = match error {
            NodeError::Store(error) => return error.into(),
            error => error,
        };
        let code = match &error {
            NodeError::Net(_) => Code::Network,
            NodeError::Load(_) => Code::BadInput,
            NodeError::Inviter(_) | NodeError::Silent { .. } | NodeError::Refused { .. } => {
                Code::Network
            }
            NodeError::Plan(_) | NodeError::Wire(_) | NodeError::Member { .. } => Code::Usage,
            NodeError::Join(_) => Code::Refused,
            NodeError::Ticket(_) | NodeError::State => Code::BadInput,
            NodeError::NoMember => Code::NotFound,
            _ => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_that_others_lack_come_first() {
        let range = |first, end| LayerRange::try_new(first, end).unwrap();
        assert_eq!(least_held(8, 8, &[range(0, 4)]), 0);
        assert_eq!(least_held(8, 4, &[]), 0);
        assert_eq!(least_held(8, 4, &[range(0, 4)]), 4);
        assert_eq!(least_held(8, 4, &[range(0, 4), range(4, 8), range(6, 8)]), 0);
        assert_eq!(least_held(8, 3, &[range(0, 2), range(5, 8)]), 2);
    }
}
