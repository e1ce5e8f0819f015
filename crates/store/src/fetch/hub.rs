//! What a repository of the hub holds.

use std::io::Read as _;

use serde::Deserialize;

use super::client::{Ask, Client, network};
use super::error::FetchError;
use super::file::Wanted;
use super::integrity::{Integrity, bytes};
use super::reference::{Repository, is_file_name};
use super::retry::Retries;
use super::url::Url;
use super::{FetchOptions, Watch, limits};

/// One commit of a repository.
#[derive(Debug)]
pub(super) struct Listing {
    commit: String,
    pub(super) files: Vec<HubFile>,
}

/// A file in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubFile {
    /// Its path in the repository.
    pub(super) path: String,
    pub(super) bytes: Option<u64>,
    integrity: Option<Integrity>,
}

#[derive(Deserialize)]
struct Model {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// Asks the hub for the files of a repository.
pub(super) fn list(
    client: &Client,
    options: &FetchOptions,
    repository: &Repository,
    watch: &dyn Watch,
) -> Result<Listing, FetchError> {
    let Repository { owner, name, revision, .. } = repository;
    let url = client
        .hub()
        .with(&["api", "models", owner, name, "revision", revision], "?blobs=true")
        .map_err(|rule| FetchError::Setting { setting: "hub", rule })?;
    let bytes = Retries::new(options, watch).run(|| read(client, &url))?;
    parse(&bytes).ok_or_else(|| {
        let rule = "the hub's list of files cannot be understood";
        FetchError::Server { url: url.to_string(), rule }
    })
}

/// Where to get a file of a listing, and what it must be.
pub(super) fn wanted(
    client: &Client,
    repository: &Repository,
    listing: &Listing,
    file: &HubFile,
) -> Result<Wanted, FetchError> {
    let Repository { owner, name, .. } = repository;
    let mut segments = vec![owner.as_str(), name, "resolve", &listing.commit];
    segments.extend(file.path.split('/'));
    let url = client.hub().with(&segments, "");
    Ok(Wanted {
        url: url.map_err(|rule| FetchError::Setting { setting: "hub", rule })?,
        name: file.name().to_owned(),
        bytes: file.bytes,
        integrity: file.integrity,
        pinned: false,
    })
}

impl HubFile {
    /// The last part of its path.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

fn read(client: &Client, url: &Url) -> Result<Vec<u8>, FetchError> {
    let answer = client.get(url, Ask::default())?;
    let mut bytes = Vec::new();
    let limit = limits::LISTING_BYTES_MAX;
    let mut reader = answer.body.into_reader().take(limit + 1);
    reader.read_to_end(&mut bytes).map_err(|error| network(url, error.into()))?;
    match bytes.len() as u64 > limit {
        true => Err(FetchError::Oversize { url: url.to_string(), limit }),
        false => Ok(bytes),
    }
}

/// Files whose names could not be files here are left out: nobody can ask for them.
fn parse(json: &[u8]) -> Option<Listing> {
    let model: Model = serde_json::from_slice(json).ok()?;
    bytes::<20>(&model.sha)?;
    let files = model.siblings.into_iter().filter(|s| s.rfilename.split('/').all(is_file_name));
    let files = files.map(|sibling| {
        let (bytes, integrity) = match &sibling.lfs {
            Some(lfs) => (Some(lfs.size), Integrity::sha256(&lfs.sha256)),
            None => (sibling.size, sibling.blob_id.as_deref().and_then(Integrity::git)),
        };
        HubFile { path: sibling.rfilename, bytes, integrity }
    });
    Some(Listing { commit: model.sha, files: files.collect() })
}

#[cfg(test)]
pub(super) fn listing(paths: &[&str]) -> Listing {
    let file = |path: &&str| HubFile { path: (*path).to_owned(), bytes: Some(1), integrity: None };
    Listing { commit: "0".repeat(40), files: paths.iter().map(file).collect() }
}
