//! Blobs: files named by their BLAKE3 digest, fetched in leaves from several peers. Spec 03, 8.
//!
//! A leaf is 1 MiB: a subtree of BLAKE3's own tree. The digests of all leaves hash to the name of
//! the blob, so a list from a stranger can be checked at once, and each leaf as it arrives.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use shoal_base::Digest;

use crate::codec::record;
use crate::limits::{BLOB_RANGES_MAX, LEAF_BYTES, LEAVES_MAX};
use crate::list::Bytes;
use crate::{List, WireError};

/// Most bytes of a leaf, as a length.
const LEAF_LENGTH: usize = LEAF_BYTES as usize;

record! {
    /// Asks for the leaves of a blob, and which of them the peer has.
    #[derive(Copy)]
    pub struct BlobQuery {
        /// Its name.
        pub blob: Digest,
    }
}

record! {
    /// A run of leaves.
    #[derive(Copy)]
    pub struct BlobRange {
        /// The first.
        pub first: u32,
        /// How many, at least 1.
        pub count: u32,
    }
}

record! {
    /// The answer to a [`BlobQuery`].
    pub struct BlobLeaves {
        /// Its name.
        pub blob: Digest,
        /// Its length.
        pub bytes: u64,
        /// The digest of each leaf.
        pub leaves: List<Digest, LEAVES_MAX>,
        /// Those the peer has, ascending and apart.
        pub held: List<BlobRange, BLOB_RANGES_MAX>,
    }
    check BlobLeaves::check;
}

impl BlobLeaves {
    fn check(&self) -> Result<(), WireError> {
        let limit = LEAVES_MAX as u64 * LEAF_BYTES;
        if self.bytes > limit {
            return Err(WireError::Limit { field: "bytes", got: self.bytes, limit });
        }
        if self.leaves.len() as u64 != leaf_count(self.bytes) {
            return Err(WireError::Rule { field: "leaves", rule: "one for each MiB" });
        }
        check_ranges(&self.held, leaf_count(self.bytes))
    }

    /// Whether the leaves are those of the blob. Until this holds nothing in it means anything.
    #[must_use]
    pub fn is_genuine(&self) -> bool {
        blob_root(&self.leaves) == Some(self.blob)
    }
}

record! {
    /// Asks for leaves. Each comes as one [`BlobData`].
    pub struct BlobRequest {
        /// The blob.
        pub blob: Digest,
        /// Ascending and apart.
        pub ranges: List<BlobRange, BLOB_RANGES_MAX>,
    }
    check BlobRequest::check;
}

impl BlobRequest {
    fn check(&self) -> Result<(), WireError> {
        check_ranges(&self.ranges, LEAVES_MAX as u64)
    }
}

/// Ascending, not empty, not touching: a set of leaves has one form.
fn check_ranges(ranges: &[BlobRange], leaf_count: u64) -> Result<(), WireError> {
    let mut free_from = 0;
    for range in ranges {
        let (first, end) =
            (u64::from(range.first), u64::from(range.first) + u64::from(range.count));
        if range.count == 0 || first < free_from || end > leaf_count {
            return Err(WireError::Rule { field: "ranges", rule: "ascending, apart, inside" });
        }
        free_from = end + 1;
    }
    Ok(())
}

record! {
    /// One leaf.
    pub struct BlobData {
        /// The blob.
        pub blob: Digest,
        /// Which.
        pub leaf: u32,
        /// Its bytes.
        pub bytes: Bytes<LEAF_LENGTH>,
    }
}

record! {
    /// The answer to a [`BlobQuery`] or a [`BlobRequest`] of a peer that does not have it.
    #[derive(Copy)]
    pub struct BlobAbsent {
        /// Its name.
        pub blob: Digest,
    }
}

/// How many leaves a blob of this length has; at least one.
#[must_use]
pub fn leaf_count(bytes: u64) -> u64 {
    bytes.div_ceil(LEAF_BYTES).max(1)
}

/// How long a leaf is; 0 beyond the end.
#[must_use]
pub fn leaf_bytes(blob_bytes: u64, leaf: u32) -> u64 {
    blob_bytes.saturating_sub(u64::from(leaf) * LEAF_BYTES).min(LEAF_BYTES)
}

/// The digest of a leaf. The only leaf of a short blob has the digest of the blob.
#[must_use]
pub fn leaf_digest(blob_bytes: u64, leaf: u32, bytes: &[u8]) -> Digest {
    if leaf_count(blob_bytes) == 1 {
        return Digest::of(bytes);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(u64::from(leaf) * LEAF_BYTES);
    hasher.update(bytes);
    Digest(hasher.finalize_non_root())
}

/// The name of the blob with these leaves; `None` without any.
#[must_use]
pub fn blob_root(leaves: &[Digest]) -> Option<Digest> {
    match leaves {
        [] => None,
        [only] => Some(*only),
        _ => {
            let (left, right) = split(leaves);
            let root = merge_subtrees_root(&inner(left), &inner(right), Mode::Hash);
            Some(Digest(*root.as_bytes()))
        }
    }
}

/// The left side is the largest power of two that leaves something to the right.
fn split(leaves: &[Digest]) -> (&[Digest], &[Digest]) {
    leaves.split_at(leaves.len().next_power_of_two() / 2)
}

/// At most 14 levels deep: there are no more than `LEAVES_MAX` leaves.
fn inner(leaves: &[Digest]) -> [u8; 32] {
    if let [only] = leaves {
        return only.0;
    }
    let (left, right) = split(leaves);
    merge_subtrees_non_root(&inner(left), &inner(right), Mode::Hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_hash_to_the_digest_of_the_whole() {
        for bytes in [0_u64, 1, LEAF_BYTES, LEAF_BYTES + 1, 3 * LEAF_BYTES, 5 * LEAF_BYTES + 77] {
            let blob: Vec<u8> = (0..bytes).map(|i| (i % 251) as u8).collect();
            let count = u32::try_from(leaf_count(bytes)).unwrap();
            let leaves: Vec<_> = (0..count)
                .map(|leaf| {
                    let start = (u64::from(leaf) * LEAF_BYTES) as usize;
                    let end = start + leaf_bytes(bytes, leaf) as usize;
                    leaf_digest(bytes, leaf, &blob[start..end])
                })
                .collect();
            assert_eq!(blob_root(&leaves), Some(Digest::of(&blob)), "{bytes}");
        }
    }
}
