//! Which files of a repository are the model.

use std::collections::BTreeSet;

use super::error::FetchError;
use super::hub::{HubFile, Listing};
use super::limits;
use super::reference::Repository;

/// Files that are read beside the weights of a Hugging Face folder.
const BESIDE_WEIGHTS: [&str; 8] = [
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
];
const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Names shown when there are too many to choose from.
const NAMES_SHOWN: usize = 40;

/// The files to download, and whether they are a folder together: otherwise the first of them is
/// the model, and further ones are its parts.
pub(super) fn files<'a>(
    listing: &'a Listing,
    repository: &Repository,
) -> Result<(Vec<&'a HubFile>, bool), FetchError> {
    if let Some(file) = listing.files.iter().find(|file| file.path == repository.path) {
        return Ok((parts(listing, file), false));
    }
    let prefix = match repository.path.as_str() {
        "" => String::new(),
        path => format!("{path}/"),
    };
    let in_folder =
        |file: &&HubFile| file.path.strip_prefix(&prefix).is_some_and(|rest| !rest.contains('/'));
    let folder: Vec<&HubFile> = listing.files.iter().filter(in_folder).collect();
    let chosen = match weights(&folder) {
        Some(weights) => Ok((weights, true)),
        None => single(listing, &prefix, repository),
    }?;
    if chosen.0.len() > limits::FILES_MAX {
        return Err(no_model(repository, "more files than any model has"));
    }
    Ok(chosen)
}

/// A Hugging Face folder: settings, tokenizer and weights.
fn weights<'a>(folder: &[&'a HubFile]) -> Option<Vec<&'a HubFile>> {
    let find = |name: &str| folder.iter().copied().find(|file| file.name() == name);
    find(CONFIG)?;
    let mut files: Vec<&HubFile> = match find(WEIGHTS) {
        Some(file) => vec![file],
        None => {
            let shard = |file: &&HubFile| shard(file.name(), ".safetensors").is_some();
            let shards = folder.iter().copied().filter(shard);
            find(INDEX).into_iter().chain(shards).collect()
        }
    };
    if files.is_empty() {
        return None;
    }
    files.extend(BESIDE_WEIGHTS.iter().filter_map(|name| find(name)));
    Some(files)
}

/// The only GGUF file, with its parts.
fn single<'a>(
    listing: &'a Listing,
    prefix: &str,
    repository: &Repository,
) -> Result<(Vec<&'a HubFile>, bool), FetchError> {
    let first_or_whole = |file: &&HubFile| {
        let first = shard(file.name(), ".gguf").is_none_or(|shard| shard.index == 1);
        file.path.starts_with(prefix) && file.name().ends_with(".gguf") && first
    };
    let files: Vec<&HubFile> = listing.files.iter().filter(first_or_whole).collect();
    match files.as_slice() {
        [] => Err(no_model(repository, "neither GGUF files nor config.json with safetensors")),
        [file] => Ok((parts(listing, file), false)),
        _ => Err(FetchError::Several {
            repository: display(repository),
            files: files.iter().take(NAMES_SHOWN).map(|file| file.path.clone()).collect(),
        }),
    }
}

/// A file and, if it is the first of several parts, the others in order.
fn parts<'a>(listing: &'a Listing, file: &'a HubFile) -> Vec<&'a HubFile> {
    let Some(first) = shard(&file.path, ".gguf") else {
        return vec![file];
    };
    let mut seen = BTreeSet::new();
    let others = listing.files.iter().filter_map(|other| {
        let shard = shard(&other.path, ".gguf")?;
        let part = shard.stem == first.stem && shard.count == first.count;
        (part && other != file && seen.insert(shard.index)).then_some((shard.index, other))
    });
    let mut others: Vec<(u32, &HubFile)> = others.collect();
    others.sort_by_key(|(index, _)| *index);
    std::iter::once(file).chain(others.into_iter().map(|(_, other)| other)).collect()
}

/// The parts of a name such as `model-00002-of-00005.gguf`.
#[derive(Debug, PartialEq, Eq)]
struct Shard<'a> {
    stem: &'a str,
    index: u32,
    count: u32,
}

fn shard<'a>(name: &'a str, ending: &str) -> Option<Shard<'a>> {
    let (rest, count) = name.strip_suffix(ending)?.rsplit_once("-of-")?;
    let (stem, index) = rest.rsplit_once('-')?;
    Some(Shard { stem, index: index.parse().ok()?, count: count.parse().ok()? })
}

fn no_model(repository: &Repository, rule: &'static str) -> FetchError {
    FetchError::NoModel { repository: display(repository), rule }
}

fn display(repository: &Repository) -> String {
    super::ModelReference::Hub(repository.clone()).to_string()
}

#[cfg(test)]
mod tests {
    use super::super::hub::listing;
    use super::*;
    use crate::fetch::ModelReference;

    fn chosen(reference: &str, paths: &[&str]) -> Result<(Vec<String>, bool), String> {
        let Ok(ModelReference::Hub(repository)) = reference.parse() else {
            panic!("{reference}");
        };
        let listing = listing(paths);
        let result = files(&listing, &repository);
        let (files, folder) = result.map_err(|error| error.to_string())?;
        Ok((files.iter().map(|file| file.path.clone()).collect(), folder))
    }

    #[test]
    fn a_folder_of_safetensors_is_preferred_to_anything_else() {
        let paths = [
            "README.md",
            "config.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "model.safetensors.index.json",
            "consolidated.safetensors",
            "model.gguf",
            "original/tokenizer.model",
            "tokenizer.json",
        ];
        let (files, folder) = chosen("hf:a/b", &paths).unwrap();
        assert!(folder);
        let expected = [
            "model.safetensors.index.json",
            "model-00001-of-00002.safetensors",
            "model-00002-of-00002.safetensors",
            "config.json",
            "tokenizer.json",
        ];
        assert_eq!(files, expected);
    }

    #[test]
    fn the_only_gguf_file_is_chosen_with_its_parts() {
        let paths = ["a.md", "q/m-00002-of-00002.gguf", "q/m-00001-of-00002.gguf"];
        let parts = ["q/m-00001-of-00002.gguf", "q/m-00002-of-00002.gguf"].map(str::to_owned);
        assert_eq!(chosen("hf:a/b", &paths).unwrap(), (parts.to_vec(), false));
        assert_eq!(chosen("hf:a/b/q", &paths).unwrap(), (parts.to_vec(), false));
        let named = "hf:a/b/q/m-00001-of-00002.gguf";
        assert_eq!(chosen(named, &paths).unwrap(), (parts.to_vec(), false));
    }

    #[test]
    fn the_user_chooses_among_several() {
        let paths = ["m-Q4_0.gguf", "m-Q8_0.gguf", "stories.bin"];
        let error = chosen("hf:a/b", &paths).unwrap_err();
        assert_eq!(error, "hf:a/b@main has several models: m-Q4_0.gguf, m-Q8_0.gguf");
        for file in ["m-Q8_0.gguf", "stories.bin"] {
            let (files, folder) = chosen(&format!("hf:a/b/{file}"), &paths).unwrap();
            assert_eq!((files, folder), (vec![file.to_owned()], false));
        }
        assert!(chosen("hf:a/b/none.gguf", &paths).is_err());
        assert!(chosen("hf:a/b", &["README.md", "config.json"]).is_err());
    }
}
