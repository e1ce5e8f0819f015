//! A folder of files, on disk or in memory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::{Input, SourceError};

/// Where the files of a Hugging Face model are.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    /// Files in memory; `None` for a folder on disk.
    memory: Option<BTreeMap<String, Input>>,
}

impl Folder {
    /// A folder on disk.
    #[must_use]
    pub fn on_disk(path: &Path) -> Self {
        Self { path: path.to_owned(), memory: None }
    }

    /// Files in memory, by name.
    #[must_use]
    pub fn in_memory(files: BTreeMap<String, Vec<u8>>) -> Self {
        let input = |(name, bytes): (String, Vec<u8>)| {
            let input = Input::from_bytes(&name, bytes);
            (name, input)
        };
        Self { path: PathBuf::new(), memory: Some(files.into_iter().map(input).collect()) }
    }

    /// Opens a file, `None` when it is not there.
    pub(in super::super) fn open(&self, name: &str) -> Result<Option<Input>, SourceError> {
        match &self.memory {
            Some(files) => Ok(files.get(name).cloned()),
            None => match Input::open(&self.path.join(name)) {
                Err(SourceError::Io { source, .. })
                    if source.kind() == std::io::ErrorKind::NotFound =>
                {
                    Ok(None)
                }
                other => other.map(Some),
            },
        }
    }

    /// The path of a file in it.
    pub(in super::super) fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    /// Its last component.
    pub(super) fn name(&self) -> String {
        let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
        let name = path.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Every safetensors file.
    pub(super) fn safetensors(&self) -> Result<Vec<String>, SourceError> {
        let mut names = match &self.memory {
            Some(files) => files.keys().cloned().collect(),
            None => {
                self.list().map_err(|source| SourceError::Io { file: self.path.clone(), source })?
            }
        };
        names.retain(|name| name.ends_with(".safetensors"));
        names.sort_unstable();
        Ok(names)
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is not UTF-8 is not one of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }
}
