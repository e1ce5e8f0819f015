//! Packages of which only some blobs are here, and blobs on their way to become some more.
//!
//! A package is partial as long as its folder below `partial` is there. Its manifest is among
//! those of the others, and its blobs that are whole are where all blobs are; the folder holds
//! those that are not. Invariants: a blob gets its name only when every leaf of it was hashed by
//! this process or is about to be mapped and checked as a whole; one process fetches a package at
//! a time; what arrived survives its process, and a leaf whose record survived too is hashed again
//! before it counts.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;

use shoal_base::{Digest, PackageId};
use shoal_model::package::{BlobEntry, BlobKind, BlobPlan, LeafHasher, Manifest, merkle_root};
use shoal_model::package::{Package, PackageError};
use shoal_wire::limits::LEAF_BYTES;
use shoal_wire::{LeafSet, leaf_bytes, leaf_digest};

use crate::error::AtPath as _;
use crate::home::{Layout, blob_path, leaves_path, part_path, record_path};
use crate::lock::Lock;
use crate::record::{RECORD_BYTES_MAX, Record};
use crate::staging::{LOCK_NAME, reserve};
use crate::{Store, StoreError, files, list, map};

/// Fewest leaves that arrive before the record is written again.
const RECORD_EVERY: u32 = 4;
/// So many times at most a record is written, because that of a long blob is long.
const RECORDS_MAX: u32 = 256;

/// Which blobs of a package are here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Those that are, in full length.
    pub held: Vec<BlobKind>,
    /// Those that are not.
    pub absent: Vec<BlobKind>,
    /// Bytes of those that are.
    pub bytes: u64,
    /// Whether the package was fetched in part. If not, what is absent was lost.
    pub is_partial: bool,
}

impl Store {
    /// Which blobs of a package are here. Their content is not looked at.
    ///
    /// # Errors
    /// The package is not there, or its manifest is damaged.
    pub fn holding(&self, id: PackageId) -> Result<Holding, StoreError> {
        let manifest = list::manifest(self.layout(), id)?;
        Ok(holding(self.layout(), id, &manifest))
    }

    /// Begins or resumes fetching blobs of a package.
    ///
    /// # Errors
    /// Another process does, or the system's answer.
    pub fn begin_layers(&self, id: PackageId) -> Result<LayerDownload, StoreError> {
        let _guard = self.lock()?;
        let layout = self.layout();
        let folder = layout.partial_of(id);
        // A package without a folder is whole, unless something was lost.
        let is_whole = match list::manifest(layout, id) {
            Ok(manifest) => holding(layout, id, &manifest).absent.is_empty(),
            Err(StoreError::NotFound { .. }) => false,
            Err(error) => return Err(error),
        };
        if !is_whole {
            files::make_folder(&folder)?;
        }
        let lock = match folder.exists() {
            true => {
                let path = folder.join(LOCK_NAME);
                Some(Arc::new(Lock::take(&path)?.ok_or(StoreError::Busy { path })?))
            }
            false => None,
        };
        Ok(LayerDownload { store: self.clone(), id, folder, lock })
    }
}

/// Which blobs of a package are here.
pub(crate) fn holding(layout: &Layout, id: PackageId, manifest: &Manifest) -> Holding {
    let folder = layout.blobs();
    let is_here = |blob: &&BlobEntry| files::length(&blob_path(&folder, blob.blake3)) == blob.bytes;
    let (held, absent): (Vec<_>, Vec<_>) = manifest.blobs.iter().partition(is_here);
    let is_partial = !absent.is_empty() && layout.partial_of(id).exists();
    Holding {
        bytes: held.iter().map(|blob| blob.bytes).sum(),
        held: held.iter().map(|blob| blob.kind).collect(),
        absent: absent.iter().map(|blob| blob.kind).collect(),
        is_partial,
    }
}

/// Forgets that a package is partial, and what was on its way. Says how many bytes that were. The
/// caller holds the lock of the store.
pub(crate) fn remove(layout: &Layout, id: PackageId) -> Result<u64, StoreError> {
    let folder = layout.partial_of(id);
    if !folder.exists() {
        return Ok(0);
    }
    let path = folder.join(LOCK_NAME);
    let Some(_lock) = Lock::take(&path)? else {
        return Err(StoreError::Busy { path });
    };
    let names = files::names(&folder)?;
    let bytes = names.iter().map(|name| files::length(&folder.join(name))).sum();
    files::remove_folder(&folder)?;
    Ok(bytes)
}

/// Blobs of one package being fetched by this process.
#[derive(Debug)]
pub struct LayerDownload {
    store: Store,
    id: PackageId,
    folder: PathBuf,
    /// `None` for a package that is whole.
    lock: Option<Arc<Lock>>,
}

impl LayerDownload {
    /// The package, once its manifest is here.
    ///
    /// # Errors
    /// The manifest is damaged.
    pub fn package(&self) -> Result<Option<Package>, StoreError> {
        match self.store.package(self.id) {
            Ok(package) => Ok(Some(package)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the manifest where manifests are.
    ///
    /// # Errors
    /// It is not that of this package, breaks a rule, or the system's answer.
    pub fn keep_manifest(&self, bytes: &[u8]) -> Result<Package, StoreError> {
        let id = self.id;
        if PackageId(Digest::of(bytes)) != id {
            return Err(StoreError::Manifest { id });
        }
        Manifest::parse(bytes).map_err(|source| StoreError::Package { id, source })?;
        let _guard = self.store.lock()?;
        files::replace(&self.store.layout().manifest(id), bytes, files::FIXED_MODE)?;
        self.store.package(id)
    }

    /// The blobs of these kinds that are not here.
    ///
    /// # Errors
    /// There is less room than they will take.
    pub fn missing(
        &self,
        package: &Package,
        kinds: &[BlobKind],
    ) -> Result<Vec<BlobEntry>, StoreError> {
        let layout = self.store.layout();
        let Holding { absent, .. } = holding(layout, self.id, package.manifest());
        let is_missing =
            |blob: &&BlobEntry| kinds.contains(&blob.kind) && absent.contains(&blob.kind);
        let mut missing: Vec<BlobEntry> = Vec::new();
        for blob in package.manifest().blobs.iter().filter(is_missing) {
            // Two blobs of one package may be equal.
            if missing.iter().all(|other| other.blake3 != blob.blake3) {
                missing.push(blob.clone());
            }
        }
        // The room of those that were begun is taken already.
        let begun = |blob: &BlobEntry| part_path(&self.folder, blob.blake3).exists();
        let needed = missing.iter().filter(|blob| !begun(blob)).map(|blob| blob.bytes).sum();
        files::check_space(&layout.home, needed)?;
        Ok(missing)
    }

    /// The blob as far as an earlier process got, its leaves hashed again. `None` when it has to
    /// begin anew.
    ///
    /// # Errors
    /// The system's answer.
    pub fn resume(&self, entry: &BlobEntry) -> Result<Option<BlobDownload>, StoreError> {
        let record =
            files::read_at_most(&record_path(&self.folder, entry.blake3), RECORD_BYTES_MAX);
        let record = record.ok().flatten().and_then(|bytes| Record::parse(&bytes));
        let record = record.filter(|r| (r.blob, r.bytes) == (entry.blake3, entry.bytes));
        let Some(mut record) = record else {
            return Ok(None);
        };
        let path = part_path(&self.folder, entry.blake3);
        if files::length(&path) != entry.bytes {
            return Ok(None);
        }
        let mut options = OpenOptions::new();
        // Nobody else gets to write to it.
        options.read(true).write(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
        let file = options.open(&path).at(&path)?;
        let mut held = LeafSet::new(record.held.count());
        let mut bytes = vec![0; LEAF_BYTES as usize];
        for leaf in record.held.iter() {
            let bytes = &mut bytes[..leaf_bytes(entry.bytes, leaf) as usize];
            file.read_exact_at(bytes, u64::from(leaf) * LEAF_BYTES).at(&path)?;
            if leaf_digest(entry.bytes, leaf, bytes) == record.leaves[leaf as usize] {
                held.insert(leaf);
            }
        }
        record.held = held;
        Ok(Some(self.download(entry, file, record)))
    }

    /// Begins a blob with these leaves, which hash to its name. Its room is taken now.
    ///
    /// # Errors
    /// There is less room, or the system's answer.
    pub fn begin(
        &self,
        entry: &BlobEntry,
        leaves: Vec<Digest>,
    ) -> Result<BlobDownload, StoreError> {
        assert!(self.lock.is_some(), "a whole package misses no blob");
        let path = part_path(&self.folder, entry.blake3);
        files::remove(&path)?;
        files::remove(&record_path(&self.folder, entry.blake3))?;
        let file = files::create_new(&path).at(&path)?;
        if let Err(source) = reserve(&file, entry.bytes) {
            // What was taken is given back; the error counts.
            let _ = files::remove(&path);
            return Err(StoreError::Io { path, source });
        }
        let held = LeafSet::new(leaves.len() as u32);
        let record = Record { blob: entry.blake3, bytes: entry.bytes, held, leaves };
        let download = self.download(entry, file, record);
        download.write_record()?;
        Ok(download)
    }

    fn download(&self, entry: &BlobEntry, file: File, record: Record) -> BlobDownload {
        BlobDownload {
            store: self.store.clone(),
            id: self.id,
            entry: entry.clone(),
            folder: self.folder.clone(),
            file,
            record,
            unrecorded: 0,
            _lock: self.lock.clone(),
        }
    }

    /// Ends fetching. A package that has all its blobs is no longer partial.
    ///
    /// # Errors
    /// The system's answer.
    pub fn finish(self) -> Result<(), StoreError> {
        let _guard = self.store.lock()?;
        let Some(_lock) = &self.lock else {
            return Ok(());
        };
        let manifest = match list::manifest(self.store.layout(), self.id) {
            Ok(manifest) => Some(manifest),
            Err(StoreError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let is_over = manifest.is_none_or(|manifest| {
            holding(self.store.layout(), self.id, &manifest).absent.is_empty()
        });
        if is_over {
            files::remove_folder(&self.folder)?;
        }
        Ok(())
    }
}

/// A blob being fetched. What was written stays when it is dropped.
#[derive(Debug)]
pub struct BlobDownload {
    store: Store,
    id: PackageId,
    entry: BlobEntry,
    folder: PathBuf,
    file: File,
    record: Record,
    /// Leaves written since the record was.
    unrecorded: u32,
    /// Nobody else gets to the file before this is dropped.
    _lock: Option<Arc<Lock>>,
}

impl BlobDownload {
    /// The leaves that are here.
    #[must_use]
    pub fn held(&self) -> &LeafSet {
        &self.record.held
    }

    /// The digests of all leaves.
    #[must_use]
    pub fn leaves(&self) -> &[Digest] {
        &self.record.leaves
    }

    /// Writes a leaf. `false` when its bytes are wrong; nothing is written then.
    ///
    /// # Errors
    /// The system's answer. What was written before stays.
    pub fn write(&mut self, leaf: u32, bytes: &[u8]) -> Result<bool, StoreError> {
        let expected = self.record.leaves.get(leaf as usize);
        let is_right = bytes.len() as u64 == leaf_bytes(self.entry.bytes, leaf)
            && expected == Some(&leaf_digest(self.entry.bytes, leaf, bytes));
        if !is_right {
            return Ok(false);
        }
        let offset = u64::from(leaf) * LEAF_BYTES;
        let path = part_path(&self.folder, self.entry.blake3);
        self.file.write_all_at(bytes, offset).at(&path)?;
        self.record.held.insert(leaf);
        self.unrecorded += 1;
        if self.unrecorded >= RECORD_EVERY.max(self.record.held.count() / RECORDS_MAX) {
            self.write_record()?;
            self.unrecorded = 0;
        }
        Ok(true)
    }

    /// Gives a whole blob its name.
    ///
    /// # Errors
    /// It is not whole, its tiles are not those of the manifest, or the system's answer.
    pub fn finish(self) -> Result<(), StoreError> {
        let (kind, digest) = (self.entry.kind, self.entry.blake3);
        let refuse = |source| StoreError::Package { id: self.id, source };
        if !self.record.held.is_full() {
            return Err(refuse(PackageError::Missing { kind, digest }));
        }
        let part = part_path(&self.folder, digest);
        let leaves = self.tiles().map_err(refuse)?;
        files::set_mode(&self.file, files::FIXED_MODE).at(&part)?;
        self.file.sync_all().at(&part)?;
        let _guard = self.store.lock()?;
        let blobs = self.store.layout().blobs();
        // Leaves first: where a blob is, its leaves are.
        files::replace(&leaves_path(&blobs, digest), &leaves, files::FIXED_MODE)?;
        fs::rename(&part, blob_path(&blobs, digest)).at(&part)?;
        files::sync_folder(&blobs).at(&blobs)?;
        files::remove(&record_path(&self.folder, digest))
    }

    /// The digests of its tiles, to name a damaged one later. A manifest that names others was
    /// made by somebody who lies about the weights.
    fn tiles(&self) -> Result<Vec<u8>, PackageError> {
        let (kind, digest) = (self.entry.kind, self.entry.blake3);
        let manifest = list::manifest(self.store.layout(), self.id);
        let manifest = manifest.map_err(|_| PackageError::Missing { kind, digest })?;
        let plan = BlobPlan::new(&manifest.architecture, &self.entry)?;
        let bytes = map::map(&self.file).map_err(|reason| PackageError::Unreadable {
            kind,
            digest,
            reason,
        })?;
        let hasher = LeafHasher::default();
        let leaves: Vec<Digest> =
            plan.leaves().map(|(_, range)| hasher.leaf(&bytes[range])).collect();
        match merkle_root(&leaves) == self.entry.tiles {
            true => Ok(leaves.iter().flat_map(|leaf| leaf.0).collect()),
            false => Err(PackageError::Leaves { kind }),
        }
    }

    fn write_record(&self) -> Result<(), StoreError> {
        let path = record_path(&self.folder, self.entry.blake3);
        let new = path.with_extension("new");
        // A record that is lost or torn costs time only, so the disk need not have it now.
        fs::write(&new, self.record.to_bytes()).and_then(|()| fs::rename(&new, &path)).at(&path)
    }
}

impl Drop for BlobDownload {
    fn drop(&mut self) {
        // A blob that has its name has no record any more; without this one, less is resumed.
        if self.unrecorded > 0 && part_path(&self.folder, self.entry.blake3).exists() {
            let _ = self.write_record();
        }
    }
}
