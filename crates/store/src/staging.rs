//! A package being made: its blobs lie in a folder of their own until all of them are there.
//!
//! Invariant: nothing in a staging folder is ever looked at by anybody but its import. A blob gets
//! its final name only when it is complete and on the disk, the manifest only after all blobs, the
//! index last. Whenever the process ends, what is missing is the end of this chain.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use shoal_base::{Digest, PackageId, SharedBytes};
use shoal_model::import::{BlobSink, BlobWriter};
use shoal_model::package::{BlobSource, Manifest, PackageError};
use tempfile::{NamedTempFile, TempDir};

use crate::error::AtPath as _;
use crate::home::{blob_path, leaves_path};
use crate::lock::Lock;
use crate::{PackageName, Store, StoreError, files, map, partial, sweep};

/// Held by the process whose folder it is in.
pub(crate) const LOCK_NAME: &str = "lock";

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The package.
    pub id: PackageId,
    /// What the name meant before, if it was another package. That package is still there.
    pub renamed_from: Option<PackageId>,
}

/// A package being made. Dropped without [`Self::commit`], it leaves nothing.
#[derive(Debug)]
pub struct Import {
    store: Store,
    staged: Arc<Staged>,
}

#[derive(Debug)]
struct Staged {
    folder: TempDir,
    _lock: Lock,
    kept: Mutex<BTreeMap<Digest, u64>>,
}

impl Import {
    /// Makes the folder. `bytes` is what the package will take; less free space is refused now.
    pub(crate) fn begin(store: &Store, bytes: u64) -> Result<Self, StoreError> {
        // A name could not be given at the end, so say so now.
        store.names()?;
        let parent = store.layout().staging();
        files::check_space(&parent, bytes)?;
        // While the store is locked, nobody takes a folder without a lock for an abandoned one.
        let _guard = store.lock()?;
        let folder = tempfile::Builder::new().prefix("import-").tempdir_in(&parent).at(&parent)?;
        let lock = Lock::wait(&folder.path().join(LOCK_NAME))?;
        let staged = Staged { folder, _lock: lock, kept: Mutex::default() };
        Ok(Self { store: store.clone(), staged: Arc::new(staged) })
    }

    /// The blobs kept so far, to open the package before it is committed.
    #[must_use]
    pub fn blobs(&self) -> Arc<dyn BlobSource> {
        Arc::clone(&self.staged) as Arc<dyn BlobSource>
    }

    /// Makes the package one of the store, under a name if one is given.
    ///
    /// Blobs that the store has already are replaced by the new ones, which repairs damaged ones.
    ///
    /// # Errors
    /// A blob of the manifest was not kept, or the system's answer. The store is then as before,
    /// or, if only the name could not be written, has the package without it.
    pub fn commit(
        self,
        manifest: &Manifest,
        name: Option<&PackageName>,
    ) -> Result<Committed, StoreError> {
        let bytes = manifest.to_bytes();
        let id = manifest.id();
        let refused = |source| StoreError::Package { id, source };
        Manifest::parse(&bytes).map_err(refused)?;
        for blob in &manifest.blobs {
            let kept = self.staged.kept().get(&blob.blake3).copied();
            if kept != Some(blob.bytes) {
                let (kind, digest) = (blob.kind, blob.blake3);
                return Err(refused(PackageError::Missing { kind, digest }));
            }
        }
        let guard = self.store.lock()?;
        let layout = self.store.layout();
        let moved = self
            .move_blobs(&layout.blobs())
            .and_then(|()| files::replace(&layout.manifest(id), &bytes, files::FIXED_MODE));
        if let Err(error) = moved {
            // The error counts; what this leaves is swept at the next start.
            let _ = sweep::orphans(layout);
            return Err(error);
        }
        // If only some of its blobs were here, all are now.
        partial::remove(layout, id)?;
        let renamed_from = match name {
            Some(name) => self.store.set_name(&guard, name, id)?,
            None => None,
        };
        Ok(Committed { id, renamed_from })
    }

    fn move_blobs(&self, to: &Path) -> Result<(), StoreError> {
        let from = self.staged.folder.path();
        for &digest in self.staged.kept().keys() {
            // Leaves first: where a blob is, its leaves are.
            for path in [leaves_path, blob_path] {
                fs::rename(path(from, digest), path(to, digest)).at(&path(to, digest))?;
            }
        }
        files::sync_folder(to).at(to)
    }
}

impl BlobSink for Import {
    fn create(&self, bytes: u64) -> io::Result<Box<dyn BlobWriter>> {
        let folder = self.staged.folder.path();
        let file = tempfile::Builder::new().prefix("blob-").tempfile_in(folder)?;
        reserve(file.as_file(), bytes)?;
        let staged = Arc::clone(&self.staged);
        Ok(Box::new(Writer { staged, file, bytes, open: RwLock::new(true) }))
    }
}

/// Takes the room for a file now, so that a full disk is noticed before work is done.
pub(crate) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
        result => Ok(result?),
    }
}

impl Staged {
    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<Digest, u64>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BlobSource for Staged {
    fn blob(&self, digest: Digest) -> io::Result<SharedBytes> {
        map::map(&File::open(blob_path(self.folder.path(), digest))?)
    }
}

#[derive(Debug)]
struct Writer {
    staged: Arc<Staged>,
    file: NamedTempFile,
    bytes: u64,
    /// False once the file is mapped: from then on it must not change.
    open: RwLock<bool>,
}

impl BlobWriter for Writer {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        let end = offset.checked_add(bytes.len() as u64);
        if !*open || end.is_none_or(|end| end > self.bytes) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.file.as_file().write_all_at(bytes, offset)
    }

    fn view(&self) -> io::Result<SharedBytes> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        *open = false;
        map::map(self.file.as_file())
    }

    fn keep(self: Box<Self>, digest: Digest, leaves: &[Digest]) -> io::Result<()> {
        let folder = self.staged.folder.path();
        let bytes: Vec<u8> = leaves.iter().flat_map(|leaf| leaf.0).collect();
        let mut list = tempfile::Builder::new().prefix("leaves-").tempfile_in(folder)?;
        list.write_all(&bytes)?;
        // Two blobs of one package may be equal; the later one takes the place of the first.
        for (file, path) in
            [(list, leaves_path(folder, digest)), (self.file, blob_path(folder, digest))]
        {
            files::set_mode(file.as_file(), files::FIXED_MODE)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
        }
        self.staged.kept().insert(digest, self.bytes);
        Ok(())
    }
}
