//! A file on its way: its beginning on the disk, and what is known about the rest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use rustix::fs::FallocateFlags;
use serde::{Deserialize, Serialize};

use super::error::FetchError;
use super::file::Wanted;
use super::folder::Folder;
use super::integrity::{Hasher, Integrity};
use super::limits;
use crate::error::AtPath as _;
use crate::{StoreError, files};

const STATE_MODE: u32 = 0o600;
/// Bytes read at a time when a beginning is hashed again.
const READ_BYTES: usize = 1 << 20;

/// What is known about a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    url: String,
    bytes: Option<u64>,
    integrity: Option<Integrity>,
    /// Strong ETag or date of change, by which the server knows this version of the file.
    validator: Option<String>,
}

impl State {
    fn of(wanted: &Wanted) -> Self {
        let (bytes, integrity) = (wanted.bytes, wanted.integrity);
        Self { url: wanted.url.to_string(), bytes, integrity, validator: None }
    }

    fn read(path: &std::path::Path) -> Option<Self> {
        let bytes = files::read_at_most(path, limits::STATE_BYTES_MAX).ok().flatten()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Whether a file with this state is a version of the wanted one.
    fn fits(&self, wanted: &Wanted) -> bool {
        let bytes = wanted.bytes.is_none() || self.bytes == wanted.bytes;
        match wanted.integrity {
            Some(integrity) => bytes && self.integrity == Some(integrity),
            None => bytes && self.url == wanted.url.to_string(),
        }
    }
}

/// The bytes of a complete file of an earlier attempt, if it is what is wanted now.
pub(super) fn complete_bytes(folder: &Folder, wanted: &Wanted) -> Option<u64> {
    let state = State::read(&folder.state(&wanted.name))?;
    let got = std::fs::metadata(folder.file(&wanted.name)).ok()?.len();
    // Without a digest or a length nothing says that the server still has this version.
    let known = wanted.integrity.is_some() && state.bytes == Some(got);
    (known && state.fits(wanted)).then_some(got)
}

/// A file on its way.
#[derive(Debug)]
pub(super) struct Part {
    path: PathBuf,
    complete: PathBuf,
    state_path: PathBuf,
    state: State,
    /// What was known before any server was asked.
    wanted: State,
    file: File,
    bytes: u64,
    hasher: Hasher,
    /// Bytes of an earlier request are part of it.
    pub(super) is_resumed: bool,
}

impl Part {
    /// Opens the beginning that an earlier attempt left, or begins.
    pub(super) fn open(folder: &Folder, wanted: &Wanted) -> Result<Self, FetchError> {
        let path = folder.part(&wanted.name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path).at(&path)?;
        let bytes = file.metadata().at(&path)?.len();
        let state_path = folder.state(&wanted.name);
        let left = State::read(&state_path).filter(|state| {
            let checked = state.integrity.is_some() || state.validator.is_some();
            let fits = checked && state.fits(wanted);
            fits && state.bytes.is_none_or(|expected| bytes <= expected)
        });
        let mut part = Self {
            path,
            complete: folder.file(&wanted.name),
            state_path,
            state: left.clone().unwrap_or_else(|| State::of(wanted)),
            wanted: State::of(wanted),
            file,
            bytes,
            hasher: Hasher::None,
            is_resumed: bytes > 0,
        };
        match left {
            Some(_) => part.hash_beginning()?,
            None => part.restart()?,
        }
        Ok(part)
    }

    /// Bytes that are there.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the whole file, if known.
    pub(super) const fn bytes_total(&self) -> Option<u64> {
        self.state.bytes
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state.bytes == Some(self.bytes)
    }

    /// What the server must still say of the file for its beginning to be of use. Where the digest
    /// is known, it decides at the end.
    pub(super) fn validator(&self) -> Option<&str> {
        let validator = self.state.validator.as_deref();
        validator.filter(|_| self.state.integrity.is_none())
    }

    /// Forgets the beginning, and what servers said of the version it belongs to.
    pub(super) fn restart(&mut self) -> Result<(), FetchError> {
        self.state = self.wanted.clone();
        self.file.set_len(0).at(&self.path)?;
        self.bytes = 0;
        self.is_resumed = false;
        self.hasher = Hasher::new(self.state.integrity, self.state.bytes);
        Ok(())
    }

    /// Notes what the server says about the file, and takes the room it will need.
    pub(super) fn learn(
        &mut self,
        bytes: Option<u64>,
        integrity: Option<Integrity>,
        validator: Option<String>,
    ) -> Result<(), FetchError> {
        self.state.bytes = self.state.bytes.or(bytes);
        self.state.validator = validator;
        if self.state.integrity.is_none() && integrity.is_some() {
            self.state.integrity = integrity;
            self.hash_beginning()?;
        }
        let state = serde_json::to_vec(&self.state).expect("a state is plain JSON");
        files::replace(&self.state_path, &state, STATE_MODE)?;
        if let Some(rest) = self.state.bytes.and_then(|total| total.checked_sub(self.bytes))
            && rest > 0
        {
            files::check_space(&self.path, rest)?;
            // Where the file system cannot reserve, a full disk is noticed later.
            let flags = FallocateFlags::KEEP_SIZE;
            let _ = rustix::fs::fallocate(&self.file, flags, self.bytes, rest);
        }
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.file.write_all_at(bytes, self.bytes).at(&self.path)?;
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The digest of the bytes, and the one that was published.
    pub(super) fn integrity(&self) -> Option<(Integrity, Integrity)> {
        Some((self.hasher.clone().finish()?, self.state.integrity?))
    }

    /// Gives the file its name. From now on it counts as complete.
    pub(super) fn keep(mut self) -> Result<u64, FetchError> {
        self.state.bytes = Some(self.bytes);
        let state = serde_json::to_vec(&self.state).expect("a state is plain JSON");
        files::replace(&self.state_path, &state, STATE_MODE)?;
        self.file.sync_all().at(&self.path)?;
        std::fs::rename(&self.path, &self.complete).at(&self.complete)?;
        Ok(self.bytes)
    }

    fn hash_beginning(&mut self) -> Result<(), StoreError> {
        self.hasher = Hasher::new(self.state.integrity, self.state.bytes);
        if matches!(self.hasher, Hasher::None) {
            return Ok(());
        }
        let mut buffer = vec![0; READ_BYTES];
        let mut reader = (&self.file).take(self.bytes);
        io::Seek::rewind(&mut reader.get_mut()).at(&self.path)?;
        loop {
            match reader.read(&mut buffer).at(&self.path)? {
                0 => return Ok(()),
                count => self.hasher.update(&buffer[..count]),
            }
        }
    }
}
