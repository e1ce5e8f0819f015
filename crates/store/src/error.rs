//! Why the store refused.

use std::io;
use std::path::{Path, PathBuf};

use shoal_base::PackageId;
use shoal_model::package::PackageError;

use crate::name::NameError;

/// What went wrong with the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was touched.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
    /// There is less room than will be needed.
    #[error("{}: {needed} bytes needed, {free} are free", path.display())]
    NoSpace {
        /// Where.
        path: PathBuf,
        /// What is needed.
        needed: u64,
        /// What is there.
        free: u64,
    },
    /// Nothing says where the store is.
    #[error("no data folder is known")]
    NoHome,
    /// The folder holds something else, or the store of another version of this program.
    #[error("{}: {found:?} where a store of this program says {ours:?}", path.display())]
    Version {
        /// The file that says it.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What it should say.
        ours: &'static str,
    },
    /// The index of names cannot be trusted.
    #[error("{}: {rule}", path.display())]
    Index {
        /// The index, or its key.
        path: PathBuf,
        /// What does not hold.
        rule: &'static str,
    },
    /// A kept answer is not what was written.
    #[error("{}: the kept answer is damaged", path.display())]
    Answer {
        /// The file.
        path: PathBuf,
    },
    /// A key of a node cannot be used.
    #[error("{}: {rule}", path.display())]
    NodeKey {
        /// The file.
        path: PathBuf,
        /// What does not hold.
        rule: &'static str,
    },
    /// Not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Neither a name nor the beginning of an id.
    #[error("no package {what:?}")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The beginning of several ids.
    #[error("{count} packages begin with {prefix:?}")]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// How many there are.
        count: usize,
    },
    /// The manifest under an id is not the one with this id.
    #[error("package {id}: its manifest is damaged")]
    Manifest {
        /// The id.
        id: PackageId,
    },
    /// A package breaks a rule.
    #[error("package {id}: {source}")]
    Package {
        /// The id.
        id: PackageId,
        /// The rule.
        source: PackageError,
    },
    /// Another process holds the store for longer than any change takes.
    #[error("{}: another process holds it", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
}

impl StoreError {
    /// Whether the disk, or this user's share of it, is full.
    #[must_use]
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::NoSpace { .. } => true,
            Self::Io { source, .. } => is_out_of_space(source),
            _ => false,
        }
    }
}

/// Whether an answer of the system means that the disk is full.
#[must_use]
pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Names the file an error is about.
pub(crate) trait AtPath<T> {
    fn at(self, path: &Path) -> Result<T, StoreError>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|source| StoreError::Io { path: path.to_owned(), source })
    }
}
