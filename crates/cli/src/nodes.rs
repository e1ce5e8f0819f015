//! What the commands that run nodes share.

use std::path::Path;

use shoal_model::package::Package;
use shoal_node::{LayerRange, NodeError};

use crate::failure::{Code, Failure, at_path};

/// A key for this run only.
pub(crate) fn secret() -> Result<[u8; 32], Failure> {
    let mut secret = [0; 32];
    let filled = getrandom::fill(&mut secret);
    filled.map_err(|error| Failure::new(Code::Failed, format!("no random numbers: {error}")))?;
    Ok(secret)
}

/// The key in a file, which is made when it is not there.
pub(crate) fn secret_in(path: &Path) -> Result<[u8; 32], Failure> {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    match options.open(path) {
        Ok(mut file) => {
            let secret = secret()?;
            let written = file.write_all(&secret).and_then(|()| file.sync_all());
            written.map_err(|error| at_path(path, &error))?;
            return Ok(secret);
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(at_path(path, &error)),
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| at_path(path, &error))?;
    file.take(33).read_to_end(&mut bytes).map_err(|error| at_path(path, &error))?;
    let wrong = |_| Failure::bad_input(format!("{}: no key, which is 32 bytes", path.display()));
    bytes.try_into().map_err(wrong)
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
        let error = match error {
            NodeError::Store(error) => return error.into(),
            NodeError::Cancelled => return Self::interrupted(),
            error => error,
        };
        let code = match &error {
            NodeError::Net(_) | NodeError::Fetch { .. } => Code::Network,
            NodeError::Load(_) => Code::BadInput,
            NodeError::Plan(_) | NodeError::Wire(_) | NodeError::NoSuchLayer { .. } => Code::Usage,
            _ => Code::Failed,
        };
        Self::new(code, error.to_string())
    }
}
