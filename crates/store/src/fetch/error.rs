//! Why a download ended.

use std::path::PathBuf;

use super::reference::ReferenceError;
use crate::StoreError;

/// What went wrong with a download.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// Not a reference to a model.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// This machine's disk, or another process at the same download.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Settings that cannot be used.
    #[error("{setting}: {rule}")]
    Setting {
        /// Which.
        setting: &'static str,
        /// What must hold.
        rule: &'static str,
    },
    /// The certificate authorities cannot be read.
    #[error("{}: no certificates in PEM form", path.display())]
    Authorities {
        /// Their file.
        path: PathBuf,
    },
    /// No connection, or one that broke.
    #[error("{url}: {source}")]
    Network {
        /// Where.
        url: String,
        /// What happened.
        source: Box<ureq::Error>,
    },
    /// The connection ended too early.
    #[error("{url}: {got} of {expected} bytes arrived")]
    Short {
        /// Where.
        url: String,
        /// What arrived.
        got: u64,
        /// What was announced.
        expected: u64,
    },
    /// The server refused.
    #[error("{url}: the server answers {status}")]
    Status {
        /// Where.
        url: String,
        /// Its status.
        status: u16,
        /// How long it wants us to wait.
        wait_s: Option<u64>,
    },
    /// The server breaks a rule.
    #[error("{url}: {rule}")]
    Server {
        /// Where.
        url: String,
        /// Which.
        rule: &'static str,
    },
    /// The server's lengths contradict one another.
    #[error("{url}: {got} bytes, expected {expected}")]
    Length {
        /// Where.
        url: String,
        /// What the server says now, or sends.
        got: u64,
        /// What was known.
        expected: u64,
    },
    /// Larger than allowed.
    #[error("{url}: more than {limit} bytes")]
    Oversize {
        /// Where.
        url: String,
        /// What is allowed.
        limit: u64,
    },
    /// The bytes are not those that were published.
    #[error("{url}: the file is damaged or was changed: {kind} is {got}, expected {expected}")]
    Damaged {
        /// Where.
        url: String,
        /// Which digest.
        kind: &'static str,
        /// Of what arrived.
        got: String,
        /// Of what was published.
        expected: String,
    },
    /// HTTP without encryption, and nothing to check the file with.
    #[error("{url}: plain HTTP can be changed on its way")]
    Insecure {
        /// Where.
        url: String,
    },
    /// A name that is no plain file name.
    #[error("{name:?} is no plain file name")]
    FileName {
        /// The name.
        name: String,
    },
    /// The repository has nothing that can be imported.
    #[error("{repository}: {rule}")]
    NoModel {
        /// Which.
        repository: String,
        /// What is missing.
        rule: &'static str,
    },
    /// The repository has several models.
    #[error("{repository} has several models: {}", files.join(", "))]
    Several {
        /// Which.
        repository: String,
        /// Their files.
        files: Vec<String>,
    },
    /// [`super::Watch::stop`] said so.
    #[error("stopped")]
    Stopped,
}

impl FetchError {
    /// Whether another attempt may help.
    pub(super) fn is_temporary(&self) -> bool {
        match self {
            Self::Short { .. } => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::Network { source, .. } => !matches!(
                **source,
                ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::InvalidProxyUrl
            ),
            _ => false,
        }
    }
}
