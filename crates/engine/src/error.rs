//! Why a package cannot be loaded.

use shoal_arith::tile::TileError;
use shoal_model::package::{BlobKind, PackageError};

/// A package that cannot be loaded here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The package.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A tile holds a number with which a sum could overflow.
    #[error("blob {kind}, {slot}: {error}")]
    Tile {
        /// Which blob.
        kind: BlobKind,
        /// Which map.
        slot: &'static str,
        /// The rule.
        error: TileError,
    },
    /// The layers asked for do not exist.
    #[error("layers {first}..{end} asked for, the package has {count}")]
    Layers {
        /// First layer asked for.
        first: u32,
        /// One past the last.
        end: u32,
        /// Layers of the package.
        count: u32,
    },
}
