//! GGUF files, versions 2 and 3, little-endian: header, metadata, tensor directory; then the
//! mapping to an architecture. Spec 02.
//!
//! The header is checked completely when it is parsed: lengths against the file, names and keys for
//! repetition, tensor ranges for alignment, overlap and overflow. Texts and arrays of the metadata
//! stay in the file until one is asked for.

mod directory;
mod export;
mod metadata;
mod names;
mod rope;
mod settings;
mod split;
mod vocabulary;
mod writer;

use std::collections::BTreeMap;

pub use export::{ExportRows, ExportTensor, export_metadata, export_row, export_tensors};
pub use writer::{GgufWriteError, GgufWriter, MetadataValue, TensorPlan};

use super::input::Cursor;
use super::limits;
use super::model_files::{ModelFiles, TokenizerPlace};
use super::tensors::{FileTensor, Naming, TensorTable};
use super::{GgufVocabulary, Input, SourceError};
use metadata::Metadata;

pub(super) const MAGIC: [u8; 4] = *b"GGUF";

/// Tensor offsets are multiples of this unless the file says otherwise.
const ALIGNMENT_DEFAULT: u32 = 32;
const ALIGNMENT_KEY: &str = "general.alignment";

/// A GGUF file whose header was checked. May lack weights: a vocabulary alone is a GGUF file too.
#[derive(Debug)]
pub struct GgufFile {
    input: Input,
    metadata: Metadata,
    tensors: BTreeMap<String, FileTensor>,
}

impl GgufFile {
    /// Parses and checks the header.
    ///
    /// # Errors
    /// The first rule that is broken, and where.
    pub fn parse(input: Input) -> Result<Self, SourceError> {
        let mut cursor = Cursor::new(&input, 0);
        if cursor.array()? != MAGIC {
            return Err(input.malformed(0, "a GGUF file starts with \"GGUF\""));
        }
        let version = cursor.u32()?;
        match version {
            2 | 3 => {}
            _ if (1..=3).contains(&version.swap_bytes()) => {
                return Err(input.malformed(4, "big-endian files are not supported"));
            }
            _ => return Err(input.malformed(4, "the version is 2 or 3")),
        }
        let tensor_count = count(&mut cursor, "tensors", limits::TENSOR_COUNT_MAX)?;
        let metadata_count = count(&mut cursor, "metadata entries", limits::METADATA_COUNT_MAX)?;
        let metadata = Metadata::parse(&mut cursor, metadata_count)?;
        let alignment = alignment(&input, &metadata)?;
        let tensors = directory::parse(&mut cursor, tensor_count, alignment)?;
        Ok(Self { input, metadata, tensors })
    }

    /// The tokenizer fields.
    ///
    /// # Errors
    /// A missing or wrong field.
    pub fn vocabulary(&self) -> Result<GgufVocabulary, SourceError> {
        vocabulary::read(&self.input, &self.metadata)
    }

    /// The default chat template, if there is one.
    ///
    /// # Errors
    /// One that is too long or not UTF-8.
    pub fn chat_template(&self) -> Result<Option<String>, SourceError> {
        let key = "tokenizer.chat_template";
        let limit = limits::TEMPLATE_BYTES_MAX;
        self.metadata.text(&self.input, key, limit)
    }
}

fn count(cursor: &mut Cursor<'_>, what: &'static str, limit: u64) -> Result<u64, SourceError> {
    let offset = cursor.offset();
    let got = cursor.u64()?;
    if got > limit {
        return Err(cursor.input().oversize(offset, what, got, limit));
    }
    Ok(got)
}

fn alignment(input: &Input, metadata: &Metadata) -> Result<u64, SourceError> {
    let alignment = metadata.u32(input, ALIGNMENT_KEY)?;
    let alignment = alignment.unwrap_or(ALIGNMENT_DEFAULT);
    if !alignment.is_power_of_two() {
        return Err(SourceError::Key {
            file: input.file().to_path_buf(),
            key: ALIGNMENT_KEY.to_owned(),
            rule: "a power of two",
        });
    }
    Ok(u64::from(alignment))
}

/// Opens a model from one GGUF file, or from the first of a split one whose parts are beside it.
///
/// # Errors
/// What is wrong with the file.
pub(super) fn open(input: Input) -> Result<ModelFiles, SourceError> {
    let mut first = GgufFile::parse(input)?;
    let (inputs, tensors) = split::collect(&mut first)?;
    let input = &first.input;
    let (architecture, name) = settings::read(input, &first.metadata, &inputs, &tensors)?;
    let naming = Naming { name: &names::of_role, harmless: &names::is_harmless };
    let stem = input.file().file_stem().unwrap_or_default();
    Ok(ModelFiles {
        name: name.unwrap_or_else(|| stem.to_string_lossy().into_owned()),
        chat_template: first.chat_template()?,
        tensors: TensorTable::place(&architecture, &naming, inputs, tensors)?,
        architecture,
        tokenizer: TokenizerPlace::Gguf(first),
    })
}
