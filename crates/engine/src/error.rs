//! Why a package cannot be loaded.

use shoal_arith::tile::TileError;
use shoal_kernels::IsaError;
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
    /// The tokenizer cannot be used with this package.
    #[error("tokenizer: {reason}")]
    Tokenizer {
        /// What is wrong.
        reason: String,
    },
    /// The chat template cannot be used.
    #[error("chat template: {reason}")]
    Template {
        /// What is wrong.
        reason: String,
    },
    /// The instruction set asked for is not there.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// The system starts no more threads.
    #[error("starting a thread: {0}")]
    Thread(std::io::Error),
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
