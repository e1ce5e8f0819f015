//! Downloading models: from a hub of repositories or from any URL.
//!
//! Every server is taken for hostile: lengths, ranges and digests are checked, redirects are few
//! and never from HTTPS to HTTP, a token goes to the hub alone. A file gets its name only when it
//! is complete; until then its beginning is kept, so that the next attempt goes on where this one
//! ended.

mod choose;
mod client;
mod error;
mod file;
mod folder;
mod hub;
mod integrity;
mod limits;
mod part;
mod reference;
mod resolver;
mod retry;
mod url;

use std::path::PathBuf;
use std::time::Duration;

pub use error::FetchError;
pub(crate) use folder::kept_bytes;
pub use reference::{ModelReference, ReferenceError};

use crate::{PackageName, Store};
use client::Client;
use file::Wanted;
use folder::Folder;
use integrity::Integrity;

/// The hub that `hf:` means unless the options say otherwise.
pub const HUB_DEFAULT: &str = "https://huggingface.co";

/// How to download.
#[derive(Clone)]
#[non_exhaustive]
pub struct FetchOptions {
    /// Address of the hub.
    pub hub: String,
    /// Secret for repositories that are not public; sent to the hub alone.
    pub token: Option<String>,
    /// PEM file with the certificate authorities to trust instead of the usual ones.
    pub authorities: Option<PathBuf>,
    /// What the file of a URL must hash to.
    pub sha256: Option<[u8; 32]>,
    /// Largest download.
    pub bytes_max: u64,
    /// Longest silence of a server.
    pub idle_max: Duration,
    /// Attempts in a row that bring nothing.
    pub attempts_max: u32,
    /// Pause after the first failed attempt; doubles with each.
    pub pause_first: Duration,
}

impl Default for FetchOptions {
    fn default() -> Self {
        Self {
            hub: HUB_DEFAULT.to_owned(),
            token: None,
            authorities: None,
            sha256: None,
            bytes_max: limits::BYTES_MAX,
            idle_max: limits::IDLE_MAX,
            attempts_max: limits::ATTEMPTS_MAX,
            pause_first: limits::PAUSE_FIRST,
        }
    }
}

impl std::fmt::Debug for FetchOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let token = self.token.as_ref().map(|_| "secret");
        f.debug_struct("FetchOptions")
            .field("hub", &self.hub)
            .field("token", &token)
            .field("bytes_max", &self.bytes_max)
            .finish_non_exhaustive()
    }
}

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchProgress<'a> {
    /// The file being downloaded.
    pub file: &'a str,
    /// Bytes of all files so far, those of earlier attempts included.
    pub bytes: u64,
    /// Bytes of all files, once known.
    pub bytes_total: Option<u64>,
}

/// Follows a download, from several threads.
pub trait Watch: Sync {
    /// Something arrived.
    fn progress(&self, progress: FetchProgress<'_>);

    /// An attempt failed and the next one begins after a pause.
    fn retry(&self, error: &FetchError, pause: Duration);

    /// Whether to end now.
    fn stop(&self) -> bool;
}

/// A complete download. Its files stay until [`Self::remove`].
#[derive(Debug)]
pub struct Fetched {
    /// The file or folder to import.
    pub path: PathBuf,
    /// The name to suggest for the package.
    pub name: PackageName,
    /// Bytes of all files.
    pub bytes: u64,
    folder: Folder,
}

impl Fetched {
    /// Removes the files.
    ///
    /// # Errors
    /// The system's answer.
    pub fn remove(self) -> Result<(), FetchError> {
        self.folder.remove()
    }
}

impl Store {
    /// Downloads what `reference` names, or the rest of it.
    ///
    /// # Errors
    /// The server, the network or the disk; what arrived is kept for the next attempt.
    pub fn fetch(
        &self,
        reference: &ModelReference,
        options: &FetchOptions,
        watch: &dyn Watch,
    ) -> Result<Fetched, FetchError> {
        let folder = Folder::open(&self.layout().downloads(), reference)?;
        let client = Client::new(options)?;
        client
            .stoppable(watch, || {
                let (wanted, whole_folder) = wanted(&client, reference, options, watch)?;
                folder.keep_only(&wanted)?;
                let bytes = file::all(&client, &wanted, &folder, options, watch)?;
                let path = match whole_folder {
                    true => folder.files(),
                    false => folder.file(&wanted[0].name),
                };
                Ok((path, bytes))
            })
            .map(|(path, bytes)| Fetched { path, name: reference.name(), bytes, folder })
    }

    /// Removes every download that no process works on, and returns how many bytes they had.
    ///
    /// # Errors
    /// The system's answer.
    pub fn remove_downloads(&self) -> Result<u64, FetchError> {
        folder::remove_all(&self.layout().downloads())
    }
}

/// The files that a reference means, and whether they are a model together.
fn wanted(
    client: &Client,
    reference: &ModelReference,
    options: &FetchOptions,
    watch: &dyn Watch,
) -> Result<(Vec<Wanted>, bool), FetchError> {
    match reference {
        ModelReference::Url(url) => {
            let integrity = options.sha256.map(Integrity::Sha256);
            let wanted = Wanted {
                url: url.clone(),
                name: url.file_name()?,
                bytes: None,
                integrity,
                pinned: integrity.is_some(),
            };
            Ok((vec![wanted], false))
        }
        ModelReference::Hub(repository) => {
            let listing = hub::list(client, options, repository, watch)?;
            let (files, whole_folder) = choose::files(&listing, repository)?;
            let mut wanted = Vec::new();
            for file in files {
                wanted.push(hub::wanted(client, repository, &listing, file)?);
            }
            Ok((wanted, whole_folder))
        }
    }
}
