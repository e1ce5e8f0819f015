//! The manifest. Spec 02 §4.

use std::fmt;

use serde::{Deserialize, Serialize};
use shoal_arith::limits::ARITHMETIC_VERSION;
use shoal_arith::{ActivationFormat, WeightFormat};
use shoal_base::{Digest, PackageId};

use super::PackageError;
use super::plan::BlobPlan;
use crate::architecture::{Architecture, LinearPart};

/// Version of the package format.
pub const PACKAGE_VERSION: u32 = 1;
/// Longest manifest. One entry per layer of at most 1024 fits well.
const MANIFEST_BYTES_MAX: usize = 8 << 20;
/// Longest chat template.
const TEMPLATE_BYTES_MAX: usize = 1 << 20;

/// What a package is made of. Field order is the order of the bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always `"shoal-package"`.
    pub format: String,
    /// [`PACKAGE_VERSION`]
    pub version: u32,
    /// [`ARITHMETIC_VERSION`]
    pub arithmetic: u32,
    /// The model.
    pub architecture: Architecture,
    /// log2(e) / sqrt(head width), as the bits of an f32.
    pub score_scale_bits: u32,
    /// Chat template, if there is one.
    pub chat_template: Option<String>,
    /// Every blob: tables, embedding, layers in order, head, tokenizer.
    pub blobs: Vec<BlobEntry>,
    /// Draft models and heads. Reserved: empty in version 1.
    pub proposers: Vec<Reserved>,
    /// Roots of polynomial commitments. Reserved: empty in version 1.
    pub commitments: Vec<Reserved>,
    /// Identity of a template shared between packages. Reserved: null in version 1.
    pub template: Option<Reserved>,
}

/// A value that version 1 does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reserved {}

/// Which blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlobKind {
    /// Rotary tables.
    Tables,
    /// The embedding; also the output head when tied.
    Embedding,
    /// One layer.
    Layer(u32),
    /// Final norm, and the output head unless tied.
    Head,
    /// The tokenizer.
    Tokenizer,
}

impl fmt::Display for BlobKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables => f.write_str("tables"),
            Self::Embedding => f.write_str("embedding"),
            Self::Layer(index) => write!(f, "layer-{index}"),
            Self::Head => f.write_str("head"),
            Self::Tokenizer => f.write_str("tokenizer"),
        }
    }
}

/// A blob and what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlobEntry {
    /// Which.
    pub kind: BlobKind,
    /// Its length.
    pub bytes: u64,
    /// BLAKE3 of its bytes.
    pub blake3: Digest,
    /// Root of the Merkle tree over its leaves.
    pub tiles: Digest,
    /// Formats of its linear maps, in storage order.
    pub linears: Vec<LinearEntry>,
}

/// A linear map and its formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearEntry {
    /// Which map.
    pub map: LinearSlot,
    /// How its weights are stored.
    pub weights: StoredFormat,
    /// How its inputs are quantized.
    pub inputs: InputFormat,
}

/// Which linear map of a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinearSlot {
    /// The embedding.
    Embedding,
    /// The output head, when not tied.
    OutputHead,
    /// A map of a layer.
    #[serde(untagged)]
    Part(LinearPart),
}

impl LinearSlot {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::OutputHead => "output_head",
            Self::Part(LinearPart::Query) => "query",
            Self::Part(LinearPart::Key) => "key",
            Self::Part(LinearPart::Value) => "value",
            Self::Part(LinearPart::AttentionOutput) => "attention_output",
            Self::Part(LinearPart::Gate) => "gate",
            Self::Part(LinearPart::Up) => "up",
            Self::Part(LinearPart::Down) => "down",
        }
    }
}

/// Format of stored weights. Spec 01 §5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredFormat {
    /// 8 bits.
    I8,
    /// 4 bits.
    I4,
    /// 4 bits with offsets.
    I4Offset,
}

/// Format of the inputs of a map. Spec 01 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputFormat {
    /// 8 bits with multipliers.
    A8,
    /// 12 bits under one scale.
    A12,
}

impl From<StoredFormat> for WeightFormat {
    fn from(format: StoredFormat) -> Self {
        match format {
            StoredFormat::I8 => Self::I8,
            StoredFormat::I4 => Self::I4,
            StoredFormat::I4Offset => Self::I4Offset,
        }
    }
}

impl From<InputFormat> for ActivationFormat {
    fn from(format: InputFormat) -> Self {
        match format {
            InputFormat::A8 => Self::A8,
            InputFormat::A12 => Self::A12,
        }
    }
}

impl Manifest {
    /// The one form of a manifest's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest is plain JSON");
        bytes.push(b'\n');
        bytes
    }

    /// The id of the package.
    #[must_use]
    pub fn id(&self) -> PackageId {
        PackageId(Digest::of(&self.to_bytes()))
    }

    /// Refuses what is too long for a manifest, before it is read.
    pub(crate) const fn check_length(got: usize) -> Result<(), PackageError> {
        let limit = MANIFEST_BYTES_MAX;
        if got > limit { Err(PackageError::ManifestSize { got, limit }) } else { Ok(()) }
    }

    /// Parses and checks a manifest. Bytes in another form than [`Self::to_bytes`] gives are
    /// refused, so that one package has one id.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn parse(bytes: &[u8]) -> Result<Self, PackageError> {
        Self::check_length(bytes.len())?;
        let header: Header = serde_json::from_slice(bytes)?;
        header.check()?;
        let manifest: Self = serde_json::from_slice(bytes)?;
        manifest.check()?;
        match manifest.to_bytes() == bytes {
            true => Ok(manifest),
            false => Err(rule("bytes are not in canonical form")),
        }
    }

    /// log2(e) / sqrt(head width) as the arithmetic uses it.
    #[must_use]
    pub const fn score_scale(&self) -> f32 {
        f32::from_bits(self.score_scale_bits)
    }

    /// The entry of a blob.
    #[must_use]
    pub fn blob(&self, kind: BlobKind) -> Option<&BlobEntry> {
        self.blobs.iter().find(|blob| blob.kind == kind)
    }

    /// Bytes of all blobs.
    #[must_use]
    pub fn blob_bytes(&self) -> u64 {
        self.blobs.iter().map(|blob| blob.bytes).sum()
    }

    /// Every kind of blob a package of `architecture` has, in order.
    pub fn kinds(architecture: &Architecture) -> impl Iterator<Item = BlobKind> + use<> {
        [BlobKind::Tables, BlobKind::Embedding]
            .into_iter()
            .chain((0..architecture.layer_count).map(BlobKind::Layer))
            .chain([BlobKind::Head, BlobKind::Tokenizer])
    }

    fn check(&self) -> Result<(), PackageError> {
        self.architecture.check()?;
        if !(1e-3..=2.0).contains(&self.score_scale()) {
            return Err(rule("score_scale_bits is a scale in 0.001..=2"));
        }
        if self.chat_template.as_ref().is_some_and(|t| t.len() > TEMPLATE_BYTES_MAX) {
            return Err(rule("chat_template has at most 1 MiB"));
        }
        if !Self::kinds(&self.architecture).eq(self.blobs.iter().map(|blob| blob.kind)) {
            return Err(rule("blobs are tables, embedding, every layer, head, tokenizer"));
        }
        for blob in &self.blobs {
            let plan = BlobPlan::new(&self.architecture, blob)?;
            if blob.kind != BlobKind::Tokenizer && plan.bytes as u64 != blob.bytes {
                return Err(rule("the length of each blob follows from its shapes and formats"));
            }
        }
        Ok(())
    }
}

/// The fields that decide whether the rest can be understood.
#[derive(Deserialize)]
struct Header {
    format: String,
    version: u32,
    arithmetic: u32,
}

impl Header {
    fn check(&self) -> Result<(), PackageError> {
        if self.format != "shoal-package" {
            return Err(rule("format is \"shoal-package\""));
        }
        if self.version != PACKAGE_VERSION {
            return Err(PackageError::Version { got: self.version, ours: PACKAGE_VERSION });
        }
        if self.arithmetic != ARITHMETIC_VERSION {
            let (got, ours) = (self.arithmetic, ARITHMETIC_VERSION);
            return Err(PackageError::Arithmetic { got, ours });
        }
        Ok(())
    }
}

pub(super) const fn rule(rule: &'static str) -> PackageError {
    PackageError::ManifestRule { rule }
}
