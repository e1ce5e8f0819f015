//! From a model file to a package: quantization, layout, hashing. Spec 02 §7.
//!
//! Streams: a few rows of one tensor are in memory at a time, whatever the model's size. Owns the
//! numbers and the layout. Does not own the place the bytes go to ([`BlobSink`]), nor the choice of
//! activation formats, which needs the engine: [`ImportedBlobs::finish`] takes that choice.

mod each;
mod level;
mod quantize;
mod tables;
mod tokenizer;
mod write;

use shoal_base::Digest;

use crate::package::{BlobEntry, BlobKind, InputFormat, LinearSlot, Manifest, StoredFormat};
use crate::source::{SourceError, WeightSource};
use crate::tokenizer::TokenizerError;

pub use quantize::{QuantizeError, ScaleOutOfRange, quantize_row};
pub use tables::rope_tables;
pub use tokenizer::{import_tokenizer, read_tokenizer};
pub use write::{import_blobs, planned_bytes};

/// Stored bits per weight up to which `auto` imports to 4 bits.
const AUTO_I4_BITS: f64 = 4.5;

/// Which weight format to import to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FormatChoice {
    /// 4 bits when the source has at most 4.5 bits per weight, else 8.
    #[default]
    Auto,
    /// 8 bits.
    I8,
    /// 4 bits.
    I4,
}

impl FormatChoice {
    /// The format for `source`.
    #[must_use]
    pub fn resolve(self, source: &dyn WeightSource) -> StoredFormat {
        match self {
            Self::I8 => StoredFormat::I8,
            Self::I4 => StoredFormat::I4,
            Self::Auto if source.source_bits_per_weight() <= AUTO_I4_BITS => StoredFormat::I4,
            Self::Auto => StoredFormat::I8,
        }
    }
}

/// Where blobs are written. Calls come from several threads.
pub trait BlobSink: Sync {
    /// Makes room for a blob of `bytes` zeros.
    ///
    /// # Errors
    /// The system's answer, a full disk above all.
    fn create(&self, bytes: u64) -> std::io::Result<Box<dyn BlobWriter>>;
}

/// A blob being written.
pub trait BlobWriter: Send + Sync {
    /// Writes at a place.
    ///
    /// # Errors
    /// The system's answer.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> std::io::Result<()>;

    /// The bytes written so far.
    ///
    /// # Errors
    /// The system's answer.
    fn view(&self) -> std::io::Result<shoal_base::SharedBytes>;

    /// Keeps the blob under its digest, with the digests of its leaves.
    ///
    /// # Errors
    /// The system's answer.
    fn keep(self: Box<Self>, digest: Digest, leaves: &[Digest]) -> std::io::Result<()>;
}

/// How far an import is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportProgress {
    /// Weights read.
    pub weights: u64,
    /// Weights there are to read, most of them twice.
    pub weights_total: u64,
}

/// Told about progress; says whether to go on.
pub type OnProgress<'a> = dyn Fn(ImportProgress) -> bool + Sync + 'a;

/// Why an import ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The tokenizer.
    #[error("tokenizer: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// The tokenizer belongs to another model.
    #[error("tokenizer of {tokens} tokens for an embedding of {rows} rows: they do not match")]
    Mismatch {
        /// Tokens it has.
        tokens: usize,
        /// Rows of the embedding.
        rows: usize,
    },
    /// The place the package is written to.
    #[error("writing {kind}: {error}")]
    Sink {
        /// Which blob.
        kind: BlobKind,
        /// The system's answer.
        error: std::io::Error,
    },
    /// A row that no scale in range fits.
    #[error("{kind}, {slot}, row {row}: weights are too large to quantize")]
    Scale {
        /// Which blob.
        kind: BlobKind,
        /// Which map.
        slot: &'static str,
        /// Which row.
        row: usize,
    },
    /// A norm or bias that is not finite or too large.
    #[error("{kind}: element {index} of a norm or bias is not finite or above 2^20")]
    Element {
        /// Which blob.
        kind: BlobKind,
        /// Which element.
        index: usize,
    },
    /// [`OnProgress`] said so.
    #[error("stopped")]
    Stopped,
}

/// What quantization cost one map.
#[derive(Clone, Debug, PartialEq)]
pub struct MapReport {
    /// Which blob.
    pub kind: BlobKind,
    /// Which map.
    pub map: LinearSlot,
    /// Its format.
    pub weights: StoredFormat,
    /// Whether the codes of a 4-bit source were kept.
    pub codes_kept: bool,
    /// The error.
    pub error: QuantizeError,
}

/// Blobs of a package whose activation formats are still open.
#[derive(Debug)]
pub struct ImportedBlobs {
    manifest: Manifest,
    /// What quantization cost, map by map.
    pub report: Vec<MapReport>,
}

impl ImportedBlobs {
    /// The manifest with every input in a8, to calibrate with.
    #[must_use]
    pub const fn provisional(&self) -> &Manifest {
        &self.manifest
    }

    /// The final manifest: `choose` says how the inputs of each map are quantized.
    #[must_use]
    pub fn finish(mut self, choose: impl Fn(BlobKind, LinearSlot) -> InputFormat) -> Manifest {
        for BlobEntry { kind, linears, .. } in &mut self.manifest.blobs {
            for linear in linears {
                linear.inputs = choose(*kind, linear.map);
            }
        }
        self.manifest
    }
}
