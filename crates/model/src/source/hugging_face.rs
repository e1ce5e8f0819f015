//! Hugging Face folders: `config.json`, safetensors files in one piece or in shards, tokenizer
//! files, a chat template. Spec 02.
//!
//! Owns: which files are looked for, how tensors are called. Code from the folder is never run, and
//! only plain file names are followed out of an index.

mod bounded;
mod config;
mod folder;
mod names;
mod rope;
mod safetensors;
mod template;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use config::read as read_config;
pub use folder::Folder;
pub(super) use template::read as chat_template;

use super::model_files::{ModelFiles, TokenizerPlace};
use super::tensors::{FileTensor, Naming, TensorTable};
use super::{Input, SourceError, limits};
use crate::architecture::{Architecture, TensorRole};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// Opens a model from a folder.
///
/// # Errors
/// What is wrong with its files.
pub(super) fn open(folder: Folder) -> Result<ModelFiles, SourceError> {
    let Some(config) = folder.open(CONFIG)? else {
        return Err(SourceError::MissingFile { folder: folder.path(""), name: CONFIG.to_owned() });
    };
    let architecture = config::read(&config)?;
    let (inputs, mut tensors) = weights(&folder)?;
    let harmless = prepare_tied(&architecture, &mut tensors);
    let naming = Naming { name: &names::of_role, harmless: &harmless };
    Ok(ModelFiles {
        name: folder.name(),
        chat_template: chat_template(&folder)?,
        tensors: TensorTable::place(&architecture, &naming, inputs, tensors)?,
        architecture,
        tokenizer: TokenizerPlace::Folder(folder),
    })
}

/// A tied model may be stored with either name, or with both, of which the embedding counts.
fn prepare_tied(
    architecture: &Architecture,
    tensors: &mut BTreeMap<String, FileTensor>,
) -> impl Fn(&str) -> bool + use<> {
    let tied = architecture.tied_embeddings;
    let embedding = names::of_role(TensorRole::Embedding);
    let head = names::of_role(TensorRole::OutputHead);
    if tied
        && !tensors.contains_key(&embedding)
        && let Some(tensor) = tensors.remove(&head)
    {
        tensors.insert(embedding, tensor);
    }
    move |name: &str| names::is_table(name) || (tied && name == head)
}

/// All tensors, with the files they are in.
fn weights(folder: &Folder) -> Result<(Vec<Input>, BTreeMap<String, FileTensor>), SourceError> {
    let (files, expected) = match (folder.open(WEIGHTS)?, folder.open(INDEX)?) {
        (Some(_), _) => (vec![WEIGHTS.to_owned()], BTreeMap::new()),
        (None, Some(index)) => {
            let map = safetensors::index(&index)?;
            let files: BTreeSet<String> = map.values().cloned().collect();
            (files.into_iter().collect(), map)
        }
        (None, None) => (folder.safetensors()?, BTreeMap::new()),
    };
    if files.is_empty() {
        return Err(SourceError::MissingFile {
            folder: folder.path(""),
            name: format!("{WEIGHTS} or {INDEX}"),
        });
    }
    if files.len() as u64 > limits::SHARD_COUNT_MAX {
        return Err(SourceError::Oversize {
            file: folder.path(""),
            offset: 0,
            what: "weight files",
            got: files.len() as u64,
            limit: limits::SHARD_COUNT_MAX,
        });
    }
    let mut inputs = Vec::new();
    let mut tensors = BTreeMap::new();
    for name in &files {
        let Some(input) = folder.open(name)? else {
            return Err(SourceError::MissingFile { folder: folder.path(""), name: name.clone() });
        };
        for (tensor_name, mut tensor) in safetensors::parse(&input)? {
            tensor.input = inputs.len();
            if tensors.insert(tensor_name.clone(), tensor).is_some() {
                return Err(SourceError::Duplicate {
                    file: folder.path(name),
                    offset: 0,
                    name: tensor_name,
                });
            }
        }
        inputs.push(input);
    }
    for (tensor, file) in expected {
        let found = tensors.get(&tensor).map(|found| &files[found.input]);
        if found != Some(&file) {
            return Err(SourceError::MissingTensor { file: folder.path(&file), tensor });
        }
    }
    Ok((inputs, tensors))
}
