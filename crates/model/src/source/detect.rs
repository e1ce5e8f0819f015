//! What a path is.

use std::path::Path;

use super::gguf;
use super::hugging_face::{self, Folder};
use super::llama2c;
use super::model_files::{ModelFiles, TokenizerPlace};
use super::tokenizer_files::TOKENIZER_NAMES;
use super::{Input, SourceError, TokenizerFiles, WeightSource};

/// Opens a model: a GGUF file (of a split one the first), a Hugging Face folder, or a llama2.c
/// checkpoint.
///
/// # Errors
/// [`SourceError::Unrecognised`] for anything else, and what is wrong with the files.
pub fn open(path: &Path) -> Result<Box<dyn WeightSource>, SourceError> {
    Ok(Box::new(open_files(path)?))
}

/// As [`open`], with the tokenizer from a file of its own, whatever the model has.
///
/// # Errors
/// As [`open`].
pub fn open_with_tokenizer(
    path: &Path,
    tokenizer: &Path,
) -> Result<Box<dyn WeightSource>, SourceError> {
    let mut model = open_files(path)?;
    model.tokenizer = TokenizerPlace::File(Input::open(tokenizer)?);
    Ok(Box::new(model))
}

/// A tokenizer that belongs to no model.
#[derive(Debug)]
pub struct LoneTokenizer {
    /// Its files.
    pub files: TokenizerFiles,
    /// The chat template beside them.
    pub chat_template: Option<String>,
}

/// Reads a tokenizer that belongs to no model: a folder without `config.json`, or a file called
/// `tokenizer.json` or `tokenizer.model` with the settings beside it. `None` for any other path.
///
/// # Errors
/// What is wrong with the files.
pub fn open_tokenizer(path: &Path) -> Result<Option<LoneTokenizer>, SourceError> {
    let is_folder = path.is_dir() && !path.join("config.json").exists();
    let name = TOKENIZER_NAMES.iter().find(|name| path.is_file() && path.ends_with(name));
    let (folder, names) = match (name, path.parent()) {
        _ if is_folder => (path, &TOKENIZER_NAMES[..]),
        (Some(name), Some(parent)) if parent.as_os_str().is_empty() => {
            (Path::new("."), std::slice::from_ref(name))
        }
        (Some(name), Some(parent)) => (parent, std::slice::from_ref(name)),
        _ => return Ok(None),
    };
    let folder = Folder::on_disk(folder);
    let files = TokenizerFiles::from_folder(&folder, names)?;
    Ok(Some(LoneTokenizer { files, chat_template: hugging_face::chat_template(&folder)? }))
}

fn open_files(path: &Path) -> Result<ModelFiles, SourceError> {
    if path.is_dir() {
        return hugging_face::open(Folder::on_disk(path));
    }
    let mut model = open_file(Input::open(path)?)?;
    if let TokenizerPlace::Missing { folder, names } = &model.tokenizer {
        let mut paths = names.iter().map(|name| folder.join(name));
        if let Some(path) = paths.find(|path| path.is_file()) {
            model.tokenizer = TokenizerPlace::File(Input::open(&path)?);
        }
    }
    Ok(model)
}

/// Opens a model of one file from anywhere. A version 0 checkpoint needs a name that ends with
/// `.bin`.
///
/// # Errors
/// As [`open`].
pub fn open_input(input: Input) -> Result<Box<dyn WeightSource>, SourceError> {
    Ok(Box::new(open_file(input)?))
}

/// Opens a Hugging Face folder, on disk or in memory.
///
/// # Errors
/// What is wrong with its files.
pub fn open_folder(folder: Folder) -> Result<Box<dyn WeightSource>, SourceError> {
    Ok(Box::new(hugging_face::open(folder)?))
}

fn open_file(input: Input) -> Result<ModelFiles, SourceError> {
    let mut start = [0; 4];
    let known = input.read_into(0, &mut start).is_ok();
    if known && start == gguf::MAGIC {
        return gguf::open(input);
    }
    // Version 0 of llama2.c has no magic, so there the name decides.
    let is_bin = input.file().extension().is_some_and(|extension| extension == "bin");
    // PyTorch files have the same ending, and are archives.
    let is_archive = start == *b"PK\x03\x04";
    if (known && start == llama2c::MAGIC) || (is_bin && !is_archive) {
        return llama2c::open(input);
    }
    Err(SourceError::Unrecognised { path: input.file().to_path_buf() })
}
