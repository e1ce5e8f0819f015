//! Checking every byte of a package.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use shoal_base::{Digest, PackageId};
use shoal_model::package::{BlobEntry, BlobKind, BlobPlan, Package, PackageError, verify_blob};

use crate::home::leaves_path;
use crate::partial::holding;
use crate::{Store, StoreError, files};

/// A blob that is not what the manifest says.
#[derive(Debug)]
pub struct Damage {
    /// Which.
    pub kind: BlobKind,
    /// What is wrong; names the first damaged tile where it can.
    pub error: PackageError,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Bytes of sound blobs.
    pub bytes: u64,
    /// Their leaves.
    pub leaves: u64,
    /// Damaged blobs, in the order of the manifest.
    pub damage: Vec<Damage>,
    /// Blobs that were not fetched. They are not damaged.
    pub absent: Vec<BlobKind>,
    /// The caller ended it before all blobs were checked.
    pub stopped: bool,
}

impl Store {
    /// Compares every byte of a package with its manifest, on `threads` threads.
    ///
    /// `progress` is told how many bytes are done; `false` ends the check.
    ///
    /// # Errors
    /// The manifest is damaged or not there. Damaged blobs are no error but a finding.
    pub fn verify(
        &self,
        id: PackageId,
        threads: usize,
        progress: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<Verified, StoreError> {
        let package = self.package(id)?;
        let holding = holding(self.layout(), id, package.manifest());
        let absent = if holding.is_partial { holding.absent } else { Vec::new() };
        let blobs = package.manifest().blobs.iter();
        let blobs: Vec<&BlobEntry> = blobs.filter(|blob| !absent.contains(&blob.kind)).collect();
        let next = AtomicUsize::new(0);
        let done = AtomicU64::new(0);
        let stopped = AtomicBool::new(false);
        let results = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..threads.clamp(1, blobs.len().max(1)) {
                scope.spawn(|| {
                    while let Some(&blob) = blobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if stopped.load(Ordering::Relaxed) {
                            return;
                        }
                        let result = self.verify_blob(&package, blob);
                        results.lock().unwrap_or_else(PoisonError::into_inner).push((blob, result));
                        let bytes = done.fetch_add(blob.bytes, Ordering::Relaxed) + blob.bytes;
                        if !progress(bytes) {
                            stopped.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
        results.sort_by_key(|(blob, _)| blob.kind);
        let stopped = results.len() < blobs.len();
        let mut verified = Verified { stopped, absent, ..Verified::default() };
        for (blob, result) in results {
            match result {
                Ok(leaves) => {
                    verified.bytes += blob.bytes;
                    verified.leaves += leaves;
                }
                Err(error) => verified.damage.push(Damage { kind: blob.kind, error }),
            }
        }
        Ok(verified)
    }

    /// Checks one blob and counts its leaves.
    fn verify_blob(&self, package: &Package, blob: &BlobEntry) -> Result<u64, PackageError> {
        let bytes = package.bytes(blob.kind)?;
        let leaves = self.leaves(package, blob)?;
        Ok(verify_blob(package.manifest(), blob, &bytes, &leaves)?.leaves)
    }

    /// The digests noted when the blob was made; none when the list is missing or too long.
    fn leaves(&self, package: &Package, blob: &BlobEntry) -> Result<Vec<Digest>, PackageError> {
        let plan = BlobPlan::new(&package.manifest().architecture, blob)?;
        let path = leaves_path(&self.layout().blobs(), blob.blake3);
        let limit = plan.leaves().count() as u64 * 32;
        let bytes = files::read_at_most(&path, limit).ok().flatten().unwrap_or_default();
        let digest = |bytes: &[u8]| Digest(bytes.try_into().expect("chunks of 32 bytes"));
        Ok(bytes.chunks_exact(32).map(digest).collect())
    }
}
