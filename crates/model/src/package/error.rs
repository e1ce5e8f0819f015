//! Why a package is refused.

use shoal_arith::tile::TileError;
use shoal_base::{Blame, Digest};

use super::manifest::BlobKind;
use crate::architecture::ArchitectureError;

/// A package that breaks a rule, or a blob that is not what the manifest says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The manifest is longer than any real one.
    #[error("manifest of {got} bytes, limit {limit}")]
    ManifestSize {
        /// Its length.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The manifest is not the JSON it must be.
    #[error("manifest: {0}")]
    ManifestSyntax(#[from] serde_json::Error),
    /// The manifest breaks a rule.
    #[error("manifest: {rule}")]
    ManifestRule {
        /// The rule.
        rule: &'static str,
    },
    /// Made for another version of the arithmetic.
    #[error("package uses arithmetic version {got}, this program has {ours}")]
    Arithmetic {
        /// The package's.
        got: u32,
        /// Ours.
        ours: u32,
    },
    /// Made for another version of the package format.
    #[error("package has format version {got}, this program reads {ours}")]
    Version {
        /// The package's.
        got: u32,
        /// Ours.
        ours: u32,
    },
    /// The architecture breaks a rule.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
    /// A blob is not there.
    #[error("blob {kind} ({digest}) is missing")]
    Missing {
        /// Which.
        kind: BlobKind,
        /// Its digest.
        digest: Digest,
    },
    /// A blob cannot be read.
    #[error("blob {kind} ({digest}): {reason}")]
    Unreadable {
        /// Which.
        kind: BlobKind,
        /// Its digest.
        digest: Digest,
        /// The system's answer.
        reason: std::io::Error,
    },
    /// A blob has another length than the manifest says.
    #[error("blob {kind} has {got} bytes, the manifest says {expected}")]
    BlobSize {
        /// Which.
        kind: BlobKind,
        /// Its length.
        got: u64,
        /// The manifest's.
        expected: u64,
    },
    /// A linear map breaks a rule.
    #[error("blob {kind}, {slot}: {error}")]
    Linear {
        /// Which blob.
        kind: BlobKind,
        /// Which map.
        slot: &'static str,
        /// The rule.
        error: TileError,
    },
    /// A norm, bias or table holds a number that is not finite or out of range, or what fills its
    /// section up is not zeros.
    #[error("blob {kind}, {section}: element {index} is out of range")]
    Element {
        /// Which blob.
        kind: BlobKind,
        /// Which section.
        section: String,
        /// Which element.
        index: usize,
    },
    /// The bytes of a leaf are not those that were hashed.
    #[error("blob {kind}: leaf {leaf_index} ({section}, bytes {start}..{end}) is damaged")]
    Leaf {
        /// Which blob.
        kind: BlobKind,
        /// Which leaf.
        leaf_index: usize,
        /// Where it lies.
        section: String,
        /// First byte.
        start: usize,
        /// One past the last byte.
        end: usize,
    },
    /// A blob is not the one that was hashed, and no list of leaf digests says where it differs.
    #[error("blob {kind} is damaged")]
    Blob {
        /// Which blob.
        kind: BlobKind,
    },
    /// The list of leaf digests does not belong to the blob.
    #[error("blob {kind}: its list of leaf digests is damaged")]
    Leaves {
        /// Which blob.
        kind: BlobKind,
    },
}

impl PackageError {
    /// Who is to blame: whoever gave the package, unless this machine cannot read it.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Missing { .. } | Self::Unreadable { .. } => Blame::Local,
            _ => Blame::Peer,
        }
    }
}
