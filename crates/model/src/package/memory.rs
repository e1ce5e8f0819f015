//! Blobs in memory: for packages inside the binary, for tests, for measuring.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_base::{Digest, SharedBytes};

use super::BlobSource;
use crate::import::{BlobSink, BlobWriter};

/// A blob and the digests of its leaves.
type Kept = (SharedBytes, Vec<Digest>);

/// A place for blobs that ends with the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryBlobs {
    blobs: Arc<Mutex<BTreeMap<Digest, Kept>>>,
}

impl MemoryBlobs {
    /// Keeps a copy of `bytes`.
    pub fn insert(&self, bytes: &[u8], leaves: &[Digest]) -> Digest {
        let digest = Digest::of(bytes);
        let entry = (SharedBytes::aligned(bytes), leaves.to_vec());
        self.blobs.lock().unwrap_or_else(PoisonError::into_inner).insert(digest, entry);
        digest
    }

    /// The digests of a blob's leaves.
    #[must_use]
    pub fn leaves(&self, digest: Digest) -> Option<Vec<Digest>> {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        blobs.get(&digest).map(|(_, leaves)| leaves.clone())
    }
}

impl BlobSource for MemoryBlobs {
    fn blob(&self, digest: Digest) -> io::Result<SharedBytes> {
        let blobs = self.blobs.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = blobs.get(&digest).ok_or(io::ErrorKind::NotFound)?;
        Ok(entry.0.clone())
    }
}

impl BlobSink for MemoryBlobs {
    fn create(&self, bytes: u64) -> io::Result<Box<dyn BlobWriter>> {
        let bytes = usize::try_from(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(Box::new(Writer { blobs: self.clone(), bytes: Mutex::new(vec![0; bytes]) }))
    }
}

struct Writer {
    blobs: MemoryBlobs,
    bytes: Mutex<Vec<u8>>,
}

impl BlobWriter for Writer {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut to = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let at = usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let end = at.checked_add(bytes.len()).filter(|&end| end <= to.len());
        let end = end.ok_or(io::ErrorKind::InvalidInput)?;
        to[at..end].copy_from_slice(bytes);
        Ok(())
    }

    fn view(&self) -> io::Result<SharedBytes> {
        Ok(SharedBytes::aligned(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn keep(self: Box<Self>, digest: Digest, leaves: &[Digest]) -> io::Result<()> {
        let bytes = self.bytes.into_inner().unwrap_or_else(PoisonError::into_inner);
        match self.blobs.insert(&bytes, leaves) == digest {
            true => Ok(()),
            false => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
