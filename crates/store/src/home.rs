//! Where the store is, and where things are in it.

use std::path::{Path, PathBuf};

use etcetera::BaseStrategy as _;
use shoal_base::{Digest, PackageId};

use crate::StoreError;

/// Names the data folder.
pub const HOME_VARIABLE: &str = "SHOAL_HOME";

/// The data folder: what [`HOME_VARIABLE`] names, else `shoal` in the folder for data of programs
/// of this user.
///
/// # Errors
/// [`StoreError::NoHome`] when neither is known.
pub fn default_home() -> Result<PathBuf, StoreError> {
    if let Some(home) = std::env::var_os(HOME_VARIABLE).filter(|home| !home.is_empty()) {
        return Ok(home.into());
    }
    let folders = etcetera::choose_base_strategy().map_err(|_| StoreError::NoHome)?;
    Ok(folders.data_dir().join("shoal"))
}

/// Paths in a store.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) home: PathBuf,
}

impl Layout {
    /// Says which version of the store this is.
    pub(crate) fn version(&self) -> PathBuf {
        self.home.join("version")
    }

    /// Held while anything below is changed.
    pub(crate) fn lock(&self) -> PathBuf {
        self.home.join("lock")
    }

    /// There while a removal is not complete.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.home.join("unfinished")
    }

    /// The secret that signs the index.
    pub(crate) fn key(&self) -> PathBuf {
        self.home.join("index.key")
    }

    /// Names and the ids they mean.
    pub(crate) fn index(&self) -> PathBuf {
        self.home.join("index.json")
    }

    /// Manifests, by id.
    pub(crate) fn packages(&self) -> PathBuf {
        self.home.join("packages")
    }

    pub(crate) fn manifest(&self, id: PackageId) -> PathBuf {
        self.packages().join(format!("{id}.json"))
    }

    /// Blobs, by digest, each with the digests of its leaves.
    pub(crate) fn blobs(&self) -> PathBuf {
        self.home.join("blobs")
    }

    /// Packages being made.
    pub(crate) fn staging(&self) -> PathBuf {
        self.home.join("staging")
    }

    /// Packages of which only some blobs are here, one folder each.
    pub(crate) fn partial(&self) -> PathBuf {
        self.home.join("partial")
    }

    /// There as long as blobs of a package may be missing. Holds those on their way.
    pub(crate) fn partial_of(&self, id: PackageId) -> PathBuf {
        self.partial().join(id.to_string())
    }

    /// Files being downloaded.
    pub(crate) fn downloads(&self) -> PathBuf {
        self.home.join("downloads")
    }
}

/// A blob in a folder of blobs.
pub(crate) fn blob_path(folder: &Path, digest: Digest) -> PathBuf {
    folder.join(digest.to_string())
}

/// The digests of its leaves.
pub(crate) fn leaves_path(folder: &Path, digest: Digest) -> PathBuf {
    folder.join(format!("{digest}.leaves"))
}

/// A blob on its way, as long as it will be.
pub(crate) fn part_path(folder: &Path, digest: Digest) -> PathBuf {
    folder.join(format!("{digest}.part"))
}

/// Which of its leaves are there.
pub(crate) fn record_path(folder: &Path, digest: Digest) -> PathBuf {
    folder.join(format!("{digest}.record"))
}
