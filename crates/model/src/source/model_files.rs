//! A model on its files: what every format's reader makes.

use std::path::PathBuf;

use super::gguf::GgufFile;
use super::hugging_face::Folder;
use super::tensors::TensorTable;
use super::tokenizer_files::TOKENIZER_NAMES;
use super::{CodeBlock, Input, SourceError, TensorInfo, TokenizerFiles, WeightSource};
use crate::architecture::{Architecture, TensorRole};

/// The one implementation of [`WeightSource`] over files.
#[derive(Debug)]
pub(super) struct ModelFiles {
    pub(super) name: String,
    pub(super) architecture: Architecture,
    pub(super) chat_template: Option<String>,
    pub(super) tensors: TensorTable,
    pub(super) tokenizer: TokenizerPlace,
}

/// Where the tokenizer is, to be read when it is asked for.
#[derive(Debug)]
pub(super) enum TokenizerPlace {
    /// In the metadata of a GGUF file.
    Gguf(GgufFile),
    /// Beside the weights.
    Folder(Folder),
    /// In a file of its own.
    File(Input),
    /// In one of these files of a folder, if any.
    Missing { folder: PathBuf, names: Vec<String> },
}

impl TokenizerPlace {
    fn read(&self) -> Result<TokenizerFiles, SourceError> {
        match self {
            Self::Gguf(file) => Ok(TokenizerFiles::Gguf(Box::new(file.vocabulary()?))),
            Self::Folder(folder) => TokenizerFiles::from_folder(folder, &TOKENIZER_NAMES),
            Self::File(input) => TokenizerFiles::from_file(input),
            Self::Missing { folder, names } => {
                Err(SourceError::MissingFile { folder: folder.clone(), name: names.join(" or ") })
            }
        }
    }
}

impl WeightSource for ModelFiles {
    fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn tokenizer_files(&self) -> Result<TokenizerFiles, SourceError> {
        self.tokenizer.read()
    }

    fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    fn ignored_tensors(&self) -> &[String] {
        self.tensors.ignored()
    }

    fn tensor(&self, role: TensorRole) -> Option<&TensorInfo> {
        self.tensors.info(role)
    }

    fn read_rows(
        &self,
        role: TensorRole,
        first_row: usize,
        out: &mut [f32],
    ) -> Result<(), SourceError> {
        self.tensors.read_rows(role, first_row, out)
    }

    fn read_codes(
        &self,
        role: TensorRole,
        first_row: usize,
        out: &mut [CodeBlock],
    ) -> Result<(), SourceError> {
        self.tensors.read_codes(role, first_row, out)
    }
}
