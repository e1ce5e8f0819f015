//! What interrupted processes left, and the state of a store.

use std::collections::BTreeSet;

use shoal_base::Digest;

use crate::home::{Layout, blob_path, leaves_path};
use crate::lock::Lock;
use crate::partial::holding;
use crate::staging::LOCK_NAME;
use crate::{Store, StoreError, files, key, list};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Packages that were never completed.
    pub imports: usize,
    /// Blobs that no package names.
    pub blobs: usize,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// The state of a store.
#[derive(Debug)]
#[non_exhaustive]
pub struct Health {
    /// Packages whose manifest is sound.
    pub packages: usize,
    /// Bytes of the blobs that are here, each counted once.
    pub package_bytes: u64,
    /// Those of which only some blobs were fetched.
    pub partial: usize,
    /// Packages whose manifest is damaged, or one of whose blobs was lost.
    pub damaged: Vec<StoreError>,
    /// Why names cannot be used, if so.
    pub index: Option<StoreError>,
    /// Others than the user can read or change the key that signs names.
    pub key_open_to_others: bool,
    /// Packages being made now.
    pub imports: usize,
    /// Bytes of downloads, complete or not.
    pub download_bytes: u64,
    /// Bytes this user can still write.
    pub free_bytes: u64,
}

impl Store {
    /// Removes what no process works on and no package names. Downloads stay.
    ///
    /// # Errors
    /// The system's answer.
    pub fn sweep(&self) -> Result<Swept, StoreError> {
        let _guard = self.lock()?;
        all(self.layout())
    }

    /// Looks at everything but the content of blobs.
    ///
    /// # Errors
    /// The system's answer.
    pub fn health(&self) -> Result<Health, StoreError> {
        let layout = self.layout();
        let mut damaged = Vec::new();
        let mut blobs = BTreeSet::new();
        let (ids, _) = list::ids(layout)?;
        let (mut packages, mut partial) = (0, 0);
        for id in ids {
            match self.package(id) {
                Ok(package) => {
                    packages += 1;
                    let holding = holding(layout, id, package.manifest());
                    let entries = package.manifest().blobs.iter();
                    let held = entries.filter(|blob| holding.held.contains(&blob.kind));
                    blobs.extend(held.map(|blob| (blob.blake3, blob.bytes)));
                    match holding.is_partial {
                        true => partial += 1,
                        false => damaged.extend(self.missing(&package)),
                    }
                }
                Err(error) => damaged.push(error),
            }
        }
        let staging = layout.staging();
        let live = |name: &String| Lock::is_held(&staging.join(name).join(LOCK_NAME));
        Ok(Health {
            packages,
            partial,
            package_bytes: blobs.iter().map(|(_, bytes)| bytes).sum(),
            damaged,
            index: self.names().err(),
            key_open_to_others: key::is_open_to_others(&layout.key()),
            imports: files::names(&staging)?.iter().filter(|name| live(name)).count(),
            download_bytes: crate::fetch::kept_bytes(&layout.downloads())?,
            free_bytes: files::free_bytes(&layout.home)?,
        })
    }
}

/// Whether anything was left that a sweep would remove.
pub(crate) fn is_needed(layout: &Layout) -> Result<bool, StoreError> {
    Ok(layout.unfinished().exists() || !files::names(&layout.staging())?.is_empty())
}

/// The caller holds the lock of the store.
pub(crate) fn all(layout: &Layout) -> Result<Swept, StoreError> {
    let mut swept = Swept::default();
    for name in files::names(&layout.staging())? {
        let folder = layout.staging().join(&name);
        // The folder has a lock unless its process ended between two calls of the system.
        let lock = folder.join(LOCK_NAME);
        if Lock::is_held(&lock) {
            continue;
        }
        let lengths = files::names(&folder)?;
        swept.bytes += lengths.iter().map(|name| files::length(&folder.join(name))).sum::<u64>();
        swept.imports += 1;
        files::remove_folder(&folder)?;
    }
    for name in files::names(&layout.partial())? {
        let folder = layout.partial().join(&name);
        let is_kept = name.parse().is_ok_and(|id| layout.manifest(id).exists());
        // Without its manifest nothing of a package can be resumed.
        if !is_kept && !Lock::is_held(&folder.join(LOCK_NAME)) {
            files::remove_folder(&folder)?;
        }
    }
    for folder in [&layout.home, &layout.packages()] {
        for name in files::names(folder)?.iter().filter(|name| name.starts_with(".new-")) {
            files::remove(&folder.join(name))?;
        }
    }
    let (blobs, bytes) = orphans(layout)?;
    files::remove(&layout.unfinished())?;
    Ok(Swept { blobs, bytes: swept.bytes + bytes, ..swept })
}

/// Removes the blobs that no package names; the caller holds the lock. None is removed while a
/// manifest cannot be read, because that package may still be rescued.
pub(crate) fn orphans(layout: &Layout) -> Result<(usize, u64), StoreError> {
    let mut named = BTreeSet::new();
    let (ids, others) = list::ids(layout)?;
    for id in ids {
        let Ok(manifest) = list::manifest(layout, id) else {
            return Ok((0, 0));
        };
        named.extend(manifest.blobs.iter().map(|blob| blob.blake3));
    }
    if others {
        return Ok((0, 0));
    }
    let folder = layout.blobs();
    let (mut count, mut bytes) = (0, 0);
    for name in files::names(&folder)? {
        let Ok(digest) = name.trim_end_matches(".leaves").parse::<Digest>() else {
            continue;
        };
        if named.contains(&digest) {
            continue;
        }
        // Of the two files of a blob, the first in order removes both.
        let (blob, leaves) = (blob_path(&folder, digest), leaves_path(&folder, digest));
        count += usize::from(blob.exists());
        bytes += files::length(&blob) + files::length(&leaves);
        files::remove(&blob)?;
        files::remove(&leaves)?;
    }
    Ok((count, bytes))
}
