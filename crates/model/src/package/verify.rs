//! Checking every byte of a blob against the manifest.

use shoal_base::Digest;

use super::manifest::BlobEntry;
use super::merkle::{LeafHasher, merkle_root};
use super::plan::BlobPlan;
use super::{Manifest, PackageError};

/// What was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Bytes hashed.
    pub bytes: u64,
    /// Leaves compared.
    pub leaves: u64,
}

/// Compares a blob with its entry, leaf by leaf.
///
/// `leaves` are the digests noted when the blob was made; they only serve to name the damaged leaf.
///
/// # Errors
/// The first leaf that differs.
pub fn verify_blob(
    manifest: &Manifest,
    entry: &BlobEntry,
    bytes: &[u8],
    leaves: &[Digest],
) -> Result<VerifyReport, PackageError> {
    let kind = entry.kind;
    if bytes.len() as u64 != entry.bytes {
        let got = bytes.len() as u64;
        return Err(PackageError::BlobSize { kind, got, expected: entry.bytes });
    }
    let plan = BlobPlan::new(&manifest.architecture, entry)?;
    let hasher = LeafHasher::default();
    let computed: Vec<Digest> =
        plan.leaves().map(|(_, range)| hasher.leaf(&bytes[range])).collect();
    if merkle_root(&computed) == entry.tiles && Digest::of(bytes) == entry.blake3 {
        return match computed == leaves {
            true => Ok(VerifyReport { bytes: entry.bytes, leaves: computed.len() as u64 }),
            false => Err(PackageError::Leaves { kind }),
        };
    }
    // A damaged list must not accuse a sound leaf.
    let noted = if merkle_root(leaves) == entry.tiles { leaves } else { &[] };
    let damaged = plan
        .leaves()
        .zip(computed.iter().zip(noted))
        .enumerate()
        .find(|(_, (_, (computed, noted)))| computed != noted);
    match damaged {
        Some((leaf_index, ((section, range), _))) => Err(PackageError::Leaf {
            kind,
            leaf_index,
            section: section.name(),
            start: range.start,
            end: range.end,
        }),
        None => Err(PackageError::Blob { kind }),
    }
}
