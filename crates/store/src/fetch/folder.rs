//! The folder of one download: files that are complete, files on their way, a lock.

use std::path::{Path, PathBuf};

use shoal_base::Digest;

use super::error::FetchError;
use super::file::Wanted;
use super::reference::ModelReference;
use crate::lock::Lock;
use crate::{StoreError, files};

const DOMAIN: &str = "shoal/download/v1";
const LOCK_NAME: &str = "lock";
/// Digits of the digest in a folder's name: enough to tell one user's downloads apart.
const DIGEST_DIGITS: usize = 16;

/// A download, held by this process.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: Lock,
}

impl Folder {
    /// Takes the folder of a reference, with what an earlier attempt left there.
    pub(super) fn open(downloads: &Path, reference: &ModelReference) -> Result<Self, FetchError> {
        let digest = Digest::tagged(DOMAIN, reference.to_string().as_bytes()).to_string();
        let path = downloads.join(format!("{}-{}", reference.name(), &digest[..DIGEST_DIGITS]));
        files::make_folder(&path)?;
        let lock = path.join(LOCK_NAME);
        let Some(held) = Lock::take(&lock)? else {
            return Err(StoreError::Busy { path: lock }.into());
        };
        let folder = Self { path, _lock: held };
        files::make_folder(&folder.files())?;
        files::make_folder(&folder.parts())?;
        Ok(folder)
    }

    /// Where complete files are.
    pub(super) fn files(&self) -> PathBuf {
        self.path.join("files")
    }

    /// A complete file.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.files().join(name)
    }

    /// A file on its way.
    pub(super) fn part(&self, name: &str) -> PathBuf {
        self.parts().join(name)
    }

    /// What is known about a file, on its way or complete.
    pub(super) fn state(&self, name: &str) -> PathBuf {
        self.parts().join(format!("{name}.json"))
    }

    fn parts(&self) -> PathBuf {
        self.path.join("parts")
    }

    /// Removes files of an earlier attempt that are no longer wanted.
    pub(super) fn keep_only(&self, wanted: &[Wanted]) -> Result<(), FetchError> {
        for folder in [self.files(), self.parts()] {
            for name in files::names(&folder)? {
                let stem = name.strip_suffix(".json").unwrap_or(&name);
                if !wanted.iter().any(|wanted| wanted.name == name || wanted.name == stem) {
                    files::remove(&folder.join(name))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn remove(self) -> Result<(), FetchError> {
        Ok(files::remove_folder(&self.path)?)
    }
}

/// Bytes of all downloads.
pub(crate) fn kept_bytes(downloads: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for name in files::names(downloads)? {
        bytes += folder_bytes(&downloads.join(name))?;
    }
    Ok(bytes)
}

/// Removes downloads that no process holds.
pub(super) fn remove_all(downloads: &Path) -> Result<u64, FetchError> {
    let mut bytes = 0;
    for name in files::names(downloads)? {
        let folder = downloads.join(name);
        if let Ok(Some(_held)) = Lock::take(&folder.join(LOCK_NAME)) {
            bytes += folder_bytes(&folder)?;
            files::remove_folder(&folder)?;
        }
    }
    Ok(bytes)
}

fn folder_bytes(folder: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0;
    for kind in ["files", "parts"] {
        let folder = folder.join(kind);
        let names = files::names(&folder)?;
        bytes += names.iter().map(|name| files::length(&folder.join(name))).sum::<u64>();
    }
    Ok(bytes)
}
