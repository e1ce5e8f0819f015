//! The threads that hash, read and write blobs.
//!
//! They never wait for the network. What waits for them is bounded by what peers may ask for and by
//! what a fetch asks for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender, channel};

use shoal_base::{Digest, PackageId};
use shoal_model::package::{BlobEntry, Package};
use shoal_store::{BlobDownload, LayerDownload, Store, StoreError};
use shoal_swarm::{LeafData, StoreOutcome, UploadEvent};
use shoal_wire::limits::LEAF_BYTES;
use shoal_wire::{BlobLeaves, LeafSet, List, NodeId, leaf_bytes, leaf_digest};

use super::{Begun, DiskDone, FetchParts};
use crate::NodeError;
use crate::chance::disk_delay;
use crate::limits::{LEAVES_KEPT_MAX, PARTS_KEPT_MAX};

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum DiskJob {
    /// Is the blob that somebody asks for, as this event says, part of one of these packages?
    Admit { event: UploadEvent, models: Vec<PackageId> },
    /// Which leaves of a blob are here?
    Look(Digest),
    /// Read a leaf for a peer.
    Read { to: NodeId, blob: Digest, leaf: u32 },
    /// Begin or resume fetching blobs of a package.
    Begin { order: u64, package: PackageId, parts: FetchParts },
    /// The leaves of a blob are known.
    Open { order: u64, blob: Digest, bytes: u64, leaves: Vec<Digest> },
    /// Check and write a leaf.
    Store { order: u64, from: NodeId, blob: Digest, leaf: u32, data: LeafData },
    /// A blob is whole.
    Keep { order: u64, blob: Digest },
    /// Close everything.
    End { order: u64 },
}

/// Starts the thread. It ends when nobody can tell it anything any more.
pub(crate) fn start(
    store: Store,
    done: impl Fn(DiskDone) + Clone + Send + 'static,
) -> std::io::Result<Sender<DiskJob>> {
    let (jobs, todo) = channel();
    let (keeper, whole) = channel();
    let kept = done.clone();
    let thread = std::thread::Builder::new().name("shoal-keep".to_owned());
    thread.spawn(move || keep(&whole, kept))?;
    let thread = std::thread::Builder::new().name("shoal-disk".to_owned());
    thread.spawn(move || run(store, keeper, &todo, done))?;
    Ok(jobs)
}

/// Gives whole blobs their names. The disk takes its time over that; leaves go on meanwhile.
fn keep(whole: &Receiver<Whole>, done: impl Fn(DiskDone)) {
    while let Ok(Whole { order, blob, download }) = whole.recv() {
        done(match download.finish() {
            Ok(()) => DiskDone::Kept { order, blob },
            Err(error) => DiskDone::Failed { order, error: error.into() },
        });
    }
}

fn run(store: Store, keeper: Sender<Whole>, todo: &Receiver<DiskJob>, done: impl Fn(DiskDone)) {
    let (known, parts) = (Known::default(), BTreeMap::new());
    let mut disk = Disk { known, parts, current: None, store, keeper };
    while let Ok(job) = todo.recv() {
        done(match job {
            DiskJob::Admit { event, models } => {
                let blob = event.blob();
                let is_allowed = blob.is_some_and(|blob| disk.is_part(blob, &models));
                DiskDone::Admitted { event, is_allowed }
            }
            DiskJob::Look(blob) => disk.look(blob),
            DiskJob::Read { to, blob, leaf } => {
                std::thread::sleep(disk_delay());
                // A leaf that cannot be read is not here, as far as peers go.
                let bytes = disk.store.read_leaf(blob, leaf).ok().flatten();
                DiskDone::Read { to, blob, leaf, bytes }
            }
            DiskJob::Begin { order, package, parts } => {
                answer(order, disk.begin(order, package, parts))
            }
            DiskJob::Open { order, blob, bytes, leaves } => {
                match disk.open(order, blob, bytes, leaves) {
                    Ok(()) => continue,
                    Err(error) => DiskDone::Failed { order, error },
                }
            }
            DiskJob::Store { order, from, blob, leaf, data } => {
                match disk.write(order, blob, leaf, &data) {
                    Ok(outcome) => DiskDone::Stored { order, from, blob, leaf, outcome },
                    Err(error) => DiskDone::Failed { order, error },
                }
            }
            DiskJob::Keep { order, blob } => match disk.keep(order, blob) {
                Ok(None) => continue,
                Ok(Some(begun)) => {
                    done(DiskDone::Kept { order, blob });
                    begun
                }
                Err(error) => DiskDone::Failed { order, error },
            },
            DiskJob::End { order } => DiskDone::Ended { order, result: disk.end() },
        });
    }
}

fn answer(order: u64, result: Result<DiskDone, NodeError>) -> DiskDone {
    result.unwrap_or_else(|error| DiskDone::Failed { order, error })
}

/// Leaves of blobs that peers asked about; the oldest go first.
#[derive(Debug, Default)]
struct Known {
    blobs: BTreeMap<Digest, (u64, Vec<Digest>)>,
    order: VecDeque<Digest>,
    leaves: usize,
}

impl Known {
    fn insert(&mut self, blob: Digest, bytes: u64, leaves: Vec<Digest>) {
        if self.blobs.contains_key(&blob) {
            return;
        }
        self.leaves += leaves.len();
        self.blobs.insert(blob, (bytes, leaves));
        self.order.push_back(blob);
        while self.leaves > LEAVES_KEPT_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            let gone = self.blobs.remove(&oldest);
            self.leaves -= gone.map_or(0, |(_, leaves)| leaves.len());
        }
    }
}

/// A blob all of whose leaves are there.
struct Whole {
    order: u64,
    blob: Digest,
    download: BlobDownload,
}

struct Disk {
    store: Store,
    keeper: Sender<Whole>,
    known: Known,
    /// The blobs of packages that members are restricted to. A package never changes.
    parts: BTreeMap<PackageId, BTreeSet<Digest>>,
    current: Option<Current>,
}

/// The order under way.
struct Current {
    order: u64,
    package: PackageId,
    parts: FetchParts,
    download: LayerDownload,
    /// What is missing, by name.
    entries: BTreeMap<Digest, BlobEntry>,
    open: BTreeMap<Digest, BlobDownload>,
    manifest: Option<Memory>,
}

/// A manifest on its way.
struct Memory {
    bytes: Vec<u8>,
    leaves: Vec<Digest>,
}

impl Disk {
    /// Whether a blob is the manifest of one of these packages, or one that it lists.
    fn is_part(&mut self, blob: Digest, packages: &[PackageId]) -> bool {
        packages.iter().any(|package| {
            package.0 == blob || self.parts_of(*package).is_some_and(|all| all.contains(&blob))
        })
    }

    fn parts_of(&mut self, package: PackageId) -> Option<&BTreeSet<Digest>> {
        if !self.parts.contains_key(&package) {
            let found = self.store.package(package).ok()?;
            if self.parts.len() >= PARTS_KEPT_MAX {
                self.parts.clear();
            }
            let blobs = found.manifest().blobs.iter().map(|blob| blob.blake3).collect();
            self.parts.insert(package, blobs);
        }
        self.parts.get(&package)
    }

    fn look(&mut self, blob: Digest) -> DiskDone {
        if !self.known.blobs.contains_key(&blob)
            && let Ok(Some((bytes, leaves))) = self.store.leaves_of(blob)
        {
            self.known.insert(blob, bytes, leaves);
        }
        // It may have been removed since.
        let is_here = self.store.has_blob(blob);
        let found = self.known.blobs.get(&blob).filter(|_| is_here).map(|(bytes, leaves)| {
            let held = LeafSet::full(leaves.len() as u32).ranges();
            let leaves = List::truncated(leaves.iter().copied());
            Box::new(BlobLeaves { blob, bytes: *bytes, leaves, held })
        });
        DiskDone::Looked { blob, found }
    }

    fn begin(
        &mut self,
        order: u64,
        package: PackageId,
        parts: FetchParts,
    ) -> Result<DiskDone, NodeError> {
        let download = self.store.begin_layers(package)?;
        let found = download.package()?;
        let (entries, open) = (BTreeMap::new(), BTreeMap::new());
        let current = Current { order, package, parts, download, entries, open, manifest: None };
        let current = self.current.insert(current);
        match found {
            Some(package) => current.missing(&package),
            None => Ok(DiskDone::NoManifest { order }),
        }
    }

    fn current(&mut self, order: u64) -> Result<&mut Current, NodeError> {
        self.current.as_mut().filter(|current| current.order == order).ok_or(NodeError::Cancelled)
    }

    fn open(
        &mut self,
        order: u64,
        blob: Digest,
        bytes: u64,
        leaves: Vec<Digest>,
    ) -> Result<(), NodeError> {
        let current = self.current(order)?;
        if blob == current.package.0 {
            current.manifest = Some(Memory { bytes: vec![0; bytes as usize], leaves });
        } else if let Some(entry) = current.entries.get(&blob) {
            current.open.insert(blob, current.download.begin(entry, leaves)?);
        }
        Ok(())
    }

    fn write(
        &mut self,
        order: u64,
        blob: Digest,
        leaf: u32,
        data: &[u8],
    ) -> Result<StoreOutcome, NodeError> {
        let current = self.current(order)?;
        let is_right = match (&mut current.manifest, current.open.get_mut(&blob)) {
            (_, Some(open)) => open.write(leaf, data)?,
            (Some(manifest), None) => manifest.write(leaf, data),
            (None, None) => false,
        };
        Ok(if is_right { StoreOutcome::Kept } else { StoreOutcome::Wrong })
    }

    fn keep(&mut self, order: u64, blob: Digest) -> Result<Option<DiskDone>, NodeError> {
        let current = self.current(order)?;
        if let Some(manifest) = current.manifest.take() {
            let package = current.download.keep_manifest(&manifest.bytes)?;
            return current.missing(&package).map(Some);
        }
        let Some(download) = current.open.remove(&blob) else {
            return Err(NodeError::Cancelled);
        };
        let bytes = current.entries.get(&blob).map_or(0, |entry| entry.bytes);
        // Who has just fetched it will be asked for it.
        self.known.insert(blob, bytes, download.leaves().to_vec());
        // The other thread ends after this one.
        let _ = self.keeper.send(Whole { order, blob, download });
        Ok(None)
    }

    fn end(&mut self) -> Result<(), StoreError> {
        match self.current.take() {
            Some(current) => {
                drop(current.open);
                current.download.finish()
            }
            None => Ok(()),
        }
    }
}

impl Current {
    /// What is missing, with what earlier attempts left of it.
    fn missing(&mut self, package: &Package) -> Result<DiskDone, NodeError> {
        let kinds = self.parts.kinds(package.manifest())?;
        let mut missing = Vec::new();
        for entry in self.download.missing(package, &kinds)? {
            let resumed = self.download.resume(&entry)?;
            let held = resumed.as_ref().map(|r| (r.held().clone(), r.leaves().to_vec()));
            let blob = entry.blake3;
            missing.push(Begun { blob, bytes: entry.bytes, held });
            self.open.extend(resumed.map(|resumed| (blob, resumed)));
            self.entries.insert(blob, entry);
        }
        Ok(DiskDone::Begun { order: self.order, missing })
    }
}

impl Memory {
    fn write(&mut self, leaf: u32, data: &[u8]) -> bool {
        let bytes = self.bytes.len() as u64;
        let start = u64::from(leaf) * LEAF_BYTES;
        let is_right = data.len() as u64 == leaf_bytes(bytes, leaf)
            && self.leaves.get(leaf as usize) == Some(&leaf_digest(bytes, leaf, data));
        if is_right {
            self.bytes[start as usize..][..data.len()].copy_from_slice(data);
        }
        is_right
    }
}
