//! Answers kept for requests with an `Idempotency-Key`: the store's, as the endpoint asks for them.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use shoal_base::Digest;
use shoal_store::{KeptAnswers, StoreError};

use crate::failure::Failure;
use crate::session::Session;

/// Answers of the data folder.
#[derive(Debug)]
pub(crate) struct Kept(KeptAnswers);

impl Kept {
    pub(crate) fn open(session: &Session) -> Result<Arc<Self>, Failure> {
        // The folder is made by the store, which says whether it is one.
        session.store()?;
        Ok(Arc::new(Self(KeptAnswers::open(&session.home)?)))
    }

    /// Removes what is too old.
    pub(crate) fn sweep(&self) {
        // What cannot be removed now is tried again, and is not given out meanwhile.
        let _ = self.0.sweep(SystemTime::now());
    }
}

impl shoal_gateway::KeptAnswers for Kept {
    fn find(&self, key: &[u8; 32]) -> io::Result<Option<Vec<u8>>> {
        self.0.find(Digest(*key), SystemTime::now()).map_err(|error| match error {
            StoreError::Answer { .. } => io::Error::new(io::ErrorKind::InvalidData, error),
            error => io::Error::other(error),
        })
    }

    fn keep(&self, key: &[u8; 32], answer: &[u8]) -> io::Result<()> {
        self.0.keep(Digest(*key), answer, SystemTime::now()).map_err(io::Error::other)
    }
}
