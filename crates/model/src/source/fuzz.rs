//! Entry points for fuzzing and for property tests: bytes in, every code path a file can reach, no
//! panic out. Not part of the program.

use std::collections::BTreeMap;

use super::detect::{open_folder, open_input};
use super::gguf::GgufFile;
use super::hugging_face::{self, Folder};
use super::{CodeBlock, Input, SourceError, TokenizerFiles, WeightSource};

/// Most elements converted at a time.
const ELEMENTS_MAX: usize = 1 << 14;

/// Reads the bytes as a GGUF file, its vocabulary and template included.
///
/// # Errors
/// Whatever is wrong with them.
pub fn gguf_header(bytes: &[u8]) -> Result<(), SourceError> {
    let file = GgufFile::parse(Input::from_bytes("fuzz.gguf", bytes.to_vec()))?;
    file.chat_template()?;
    file.vocabulary()?;
    Ok(())
}

/// Reads the bytes as a model of one file (GGUF or llama2.c, by their magic) with all its weights.
///
/// # Errors
/// Whatever is wrong with them.
pub fn model_file(bytes: &[u8]) -> Result<(), SourceError> {
    let input = Input::from_bytes("fuzz.bin", bytes.to_vec());
    read_everything(open_input(input)?.as_ref())
}

/// Reads `config.json`.
///
/// # Errors
/// Whatever is wrong with it.
pub fn hugging_face_config(bytes: &[u8]) -> Result<(), SourceError> {
    hugging_face::read_config(&Input::from_bytes("config.json", bytes.to_vec()))?;
    Ok(())
}

/// Reads the bytes as `model.safetensors` of a model with the given `config.json`.
///
/// # Errors
/// Whatever is wrong with them.
pub fn hugging_face_weights(config: &[u8], bytes: &[u8]) -> Result<(), SourceError> {
    let files = [("config.json", config), ("model.safetensors", bytes)];
    hugging_face_folder(files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into())
}

/// Reads a folder of files with all weights.
///
/// # Errors
/// Whatever is wrong with them.
pub fn hugging_face_folder(files: BTreeMap<String, Vec<u8>>) -> Result<(), SourceError> {
    read_everything(open_folder(Folder::in_memory(files))?.as_ref())
}

/// Reads the bytes as a tokenizer file of any kind.
///
/// # Errors
/// Whatever is wrong with them.
pub fn tokenizer_file(bytes: &[u8]) -> Result<TokenizerFiles, SourceError> {
    TokenizerFiles::from_file(&Input::from_bytes("fuzz", bytes.to_vec()))
}

/// Reads every row, every code and the tokenizer.
fn read_everything(source: &dyn WeightSource) -> Result<(), SourceError> {
    for (role, (rows, columns)) in source.architecture().tensors() {
        let rows_at_once = (ELEMENTS_MAX / columns).clamp(1, rows);
        let has_codes = source.tensor(role).is_some_and(|info| info.element.has_codes());
        let mut elements = vec![0.0; rows_at_once * columns];
        let mut codes = vec![CodeBlock::ZERO; rows_at_once * columns.div_ceil(32)];
        for row in (0..rows).step_by(rows_at_once) {
            let count = rows_at_once.min(rows - row);
            source.read_rows(role, row, &mut elements[..count * columns])?;
            if has_codes {
                source.read_codes(role, row, &mut codes[..count * (columns / 32)])?;
            }
        }
    }
    match source.tokenizer_files() {
        Ok(_) | Err(SourceError::MissingFile { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
