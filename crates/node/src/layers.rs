//! Layers that travel between peers: fetching blobs into the store, and serving them from it.
//! Spec 03, 8.
//!
//! Owns: orders to fetch, one at a time, each first the manifest and then the blobs; what was
//! asked for and is still owed after an order has ended. Does not own: whom to ask for what
//! (`swarm`), files and hashing, which are on a thread of their own (`disk`).

mod disk;
mod prepare;

use std::collections::{BTreeMap, VecDeque};
use std::sync::mpsc::Sender;

use shoal_base::{Digest, PackageId};
use shoal_model::package::{BlobKind, Manifest};
use shoal_net::PeerAddress;
use shoal_store::StoreError;
use shoal_swarm::{
    Fetch, FetchEffect, FetchEvent, FetchFailure, Moment, PeerFetch, StoreOutcome, UploadEvent,
    Uploads, WantedBlob,
};
use shoal_wire::{BlobData, BlobLeaves, LayerRange, LeafSet, NodeId, PrepareStatus};

use crate::NodeError;
use crate::limits::{ADMITTING_MAX, MANIFEST_BYTES_MAX, ORDERS_MAX, PROGRESS_EVERY};
pub(crate) use disk::{DiskJob, start as start_disk};
pub(crate) use prepare::{Prepares, status as prepare_status};

/// What to fetch of a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchParts {
    /// The layers; `None` for all.
    pub layers: Option<LayerRange>,
    /// Whether to fetch what a head needs too: embedding, output head and tokenizer.
    pub with_head: bool,
}

impl FetchParts {
    fn kinds(self, manifest: &Manifest) -> Result<Vec<BlobKind>, NodeError> {
        let layer_count = manifest.architecture.layer_count;
        let all = LayerRange { first: 0, end: u16::try_from(layer_count).unwrap_or(u16::MAX) };
        let layers = self.layers.unwrap_or(all);
        if u32::from(layers.end) > layer_count {
            return Err(NodeError::NoSuchLayer { end: layers.end, layer_count });
        }
        let mut kinds = vec![BlobKind::Tables];
        if self.with_head {
            kinds.extend([BlobKind::Tokenizer, BlobKind::Embedding, BlobKind::Head]);
        }
        kinds.extend((layers.first..layers.end).map(|layer| BlobKind::Layer(layer.into())));
        Ok(kinds)
    }
}

/// How far a fetch is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchProgress {
    /// Bytes that are here, those of earlier attempts included.
    pub bytes: u64,
    /// Bytes of all that was asked for; 0 until the manifest is here.
    pub bytes_total: u64,
    /// The peers.
    pub peers: Vec<PeerFetch>,
    /// What last went wrong with whom.
    pub trouble: Vec<(NodeId, String)>,
}

/// What the one who ordered hears.
#[derive(Debug)]
pub(crate) enum Report {
    Progress(FetchProgress),
    Done(Result<(), NodeError>),
}

/// An order to fetch.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) id: u64,
    pub(crate) package: PackageId,
    pub(crate) parts: FetchParts,
    pub(crate) from: Vec<PeerAddress>,
    pub(crate) reports: Sender<Report>,
}

/// A blob as the disk has it.
#[derive(Debug)]
pub(crate) struct Begun {
    pub(crate) blob: Digest,
    pub(crate) bytes: u64,
    pub(crate) held: Option<(LeafSet, Vec<Digest>)>,
}

/// What the disk did.
#[derive(Debug)]
pub(crate) enum DiskDone {
    Admitted {
        event: UploadEvent,
        is_allowed: bool,
    },
    Looked {
        blob: Digest,
        found: Option<Box<BlobLeaves>>,
    },
    Read {
        to: NodeId,
        blob: Digest,
        leaf: u32,
        bytes: Option<Vec<u8>>,
    },
    /// The manifest is not here.
    NoManifest {
        order: u64,
    },
    /// These blobs are missing.
    Begun {
        order: u64,
        missing: Vec<Begun>,
    },
    Stored {
        order: u64,
        from: NodeId,
        blob: Digest,
        leaf: u32,
        outcome: StoreOutcome,
    },
    Kept {
        order: u64,
        blob: Digest,
    },
    Ended {
        order: u64,
        result: Result<(), StoreError>,
    },
    Failed {
        order: u64,
        error: NodeError,
    },
}

/// What the loop is told about layers.
#[derive(Debug)]
pub(crate) enum LayersEvent {
    Fetch(Box<Order>),
    Cancel(u64),
    Disk(DiskDone),
    /// A leaf was handed to the network.
    Served {
        to: NodeId,
        blob: Digest,
    },
    /// How far the layers are that a head asked for.
    Prepared(PrepareStatus),
    Tick,
}

/// The order under way.
#[derive(Debug)]
struct Current {
    order: Order,
    /// `None` while the disk looks.
    fetch: Option<Fetch>,
    /// Whether it is the manifest that is fetched.
    is_manifest: bool,
    /// Who lied while the manifest was fetched.
    banned: Vec<NodeId>,
    trouble: BTreeMap<NodeId, String>,
    reported_at: Moment,
    /// Set once the disk was told to end.
    end: Option<Result<(), NodeError>>,
}

/// All that a node does with layers.
#[derive(Debug)]
pub(crate) struct Layers {
    /// `None` without a store.
    disk: Option<Sender<DiskJob>>,
    pub(crate) uploads: Uploads,
    /// Questions of members who may have some packages only, while the disk looks.
    admitting: BTreeMap<NodeId, usize>,
    pub(crate) prepares: Prepares,
    current: Option<Current>,
    waiting: VecDeque<Order>,
    /// Leaves that were asked for and that nobody waits for any more.
    owed: BTreeMap<NodeId, usize>,
}

impl Layers {
    pub(crate) fn new(disk: Option<Sender<DiskJob>>, prepares: Prepares) -> Self {
        let (waiting, owed) = (VecDeque::new(), BTreeMap::new());
        let (uploads, admitting) = (Uploads::default(), BTreeMap::new());
        Self { disk, uploads, admitting, prepares, current: None, waiting, owed }
    }

    /// Tells the disk. Says whether there is one.
    pub(crate) fn job(&self, job: DiskJob) -> bool {
        self.disk.as_ref().is_some_and(|disk| disk.send(job).is_ok())
    }

    /// Has the disk look whether somebody may ask for a blob. Says whether there was room.
    pub(crate) fn admit(&mut self, from: NodeId, event: UploadEvent, models: &[PackageId]) -> bool {
        let waiting = self.admitting.entry(from).or_default();
        if *waiting >= ADMITTING_MAX {
            return false;
        }
        *waiting += 1;
        // Without a disk nothing is here, and nobody gets as far as this.
        self.job(DiskJob::Admit { event, models: models.to_vec() });
        true
    }

    /// The disk has looked.
    pub(crate) fn admitted(&mut self, from: NodeId) {
        if let Some(waiting) = self.admitting.get_mut(&from) {
            *waiting -= 1;
            if *waiting == 0 {
                self.admitting.remove(&from);
            }
        }
    }

    /// Whether there is a disk.
    pub(crate) fn has_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Takes an order. The caller writes down where its peers are.
    pub(crate) fn order(&mut self, order: Order) {
        if self.disk.is_none() {
            return report(&order, Report::Done(Err(NodeError::NoStore)));
        }
        if self.waiting.len() >= ORDERS_MAX {
            return report(&order, Report::Done(Err(NodeError::TooManyFetches)));
        }
        self.waiting.push_back(order);
        self.next();
    }

    fn next(&mut self) {
        if self.current.is_some() {
            return;
        }
        let Some(order) = self.waiting.pop_front() else {
            return;
        };
        let (id, package) = (order.id, order.package);
        self.current = Some(Current {
            order,
            fetch: None,
            is_manifest: false,
            banned: Vec::new(),
            trouble: BTreeMap::new(),
            reported_at: Moment(0),
            end: None,
        });
        let parts = self.current.as_ref().map(|current| current.order.parts);
        if let Some(parts) = parts {
            self.job(DiskJob::Begin { order: id, package, parts });
        }
    }

    /// Ends an order. What arrived stays.
    pub(crate) fn cancel(&mut self, id: u64) {
        self.waiting.retain(|order| order.id != id);
        if self.current.as_ref().is_some_and(|current| current.order.id == id) {
            self.end(Err(NodeError::Cancelled));
        }
    }

    /// The disk is done with something of the order under way; effects are for the caller.
    pub(crate) fn disk(&mut self, done: DiskDone, now: Moment) -> Vec<FetchEffect> {
        let is_current = |order: u64| self.current.as_ref().is_some_and(|c| c.order.id == order);
        match done {
            DiskDone::NoManifest { order } if is_current(order) => self.fetch_manifest(now),
            DiskDone::Begun { order, missing } if is_current(order) => {
                self.fetch_blobs(missing, now)
            }
            DiskDone::Stored { order, from, blob, leaf, outcome } if is_current(order) => {
                self.handle(FetchEvent::Stored { from, blob, leaf, outcome }, now)
            }
            DiskDone::Kept { order, blob } if is_current(order) => {
                self.handle(FetchEvent::Kept(blob), now)
            }
            DiskDone::Failed { order, error } if is_current(order) => {
                self.end(Err(error));
                Vec::new()
            }
            DiskDone::Ended { order, result } if is_current(order) => {
                self.ended(result);
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn fetch_manifest(&mut self, now: Moment) -> Vec<FetchEffect> {
        let Some(current) = &mut self.current else {
            return Vec::new();
        };
        current.is_manifest = true;
        let (blob, bytes_max) = (current.order.package.0, MANIFEST_BYTES_MAX);
        let want = WantedBlob { blob, bytes: None, bytes_max, held: None };
        self.begin(vec![want], now)
    }

    fn fetch_blobs(&mut self, missing: Vec<Begun>, now: Moment) -> Vec<FetchEffect> {
        if let Some(current) = &mut self.current {
            current.is_manifest = false;
        }
        let want = |begun: Begun| WantedBlob {
            blob: begun.blob,
            bytes: Some(begun.bytes),
            bytes_max: begun.bytes,
            held: begun.held,
        };
        let wants: Vec<WantedBlob> = missing.into_iter().map(want).collect();
        self.begin(wants, now)
    }

    fn begin(&mut self, wants: Vec<WantedBlob>, now: Moment) -> Vec<FetchEffect> {
        let Some(current) = &mut self.current else {
            return Vec::new();
        };
        let peers = current.order.from.iter().map(|peer| peer.node);
        let peers: Vec<NodeId> = peers.filter(|peer| !current.banned.contains(peer)).collect();
        remember_owed(&mut self.owed, current);
        current.fetch = Some(Fetch::new(wants, &peers, now));
        self.handle(FetchEvent::Tick, now)
    }

    /// Gives an event to the fetch under way, and carries out what needs no network.
    pub(crate) fn handle(&mut self, event: FetchEvent, now: Moment) -> Vec<FetchEffect> {
        let fetch = self.current.as_mut().and_then(|current| current.fetch.as_mut());
        let Some(fetch) = fetch else {
            return Vec::new();
        };
        let mut out = Vec::new();
        fetch.handle(event, now, &mut out);
        out.into_iter().filter_map(|effect| self.effect(effect)).collect()
    }

    fn effect(&mut self, effect: FetchEffect) -> Option<FetchEffect> {
        let current = self.current.as_mut()?;
        let order = current.order.id;
        match effect {
            FetchEffect::Open { blob, leaves, bytes } => {
                self.job(DiskJob::Open { order, blob, bytes, leaves });
            }
            FetchEffect::Store { from, blob, leaf, data } => {
                self.job(DiskJob::Store { order, from, blob, leaf, data });
            }
            FetchEffect::Keep(blob) => {
                self.job(DiskJob::Keep { order, blob });
            }
            FetchEffect::Blamed { peer, misdeed } => {
                current.banned.push(peer);
                current.trouble.insert(peer, misdeed.to_string());
            }
            // After its manifest the disk looks which blobs of a package are missing.
            FetchEffect::Finished if current.is_manifest => {}
            FetchEffect::Finished => self.end(Ok(())),
            FetchEffect::Failed(failure) => self.failed(failure),
            effect @ FetchEffect::Send { .. } => return Some(effect),
        }
        None
    }

    fn failed(&mut self, failure: FetchFailure) {
        let Some(current) = &self.current else {
            return;
        };
        let peers = current.trouble.iter().map(|(peer, why)| (*peer, why.clone())).collect();
        self.end(Err(NodeError::Fetch { failure, peers }));
    }

    /// Lets the disk close its files; what it says ends the order.
    fn end(&mut self, result: Result<(), NodeError>) {
        let Some(current) = self.current.as_mut().filter(|current| current.end.is_none()) else {
            return;
        };
        current.end = Some(result);
        current.report_progress();
        let order = current.order.id;
        remember_owed(&mut self.owed, current);
        self.job(DiskJob::End { order });
    }

    fn ended(&mut self, result: Result<(), StoreError>) {
        if let Some(current) = self.current.take() {
            let ours = current.end.unwrap_or(Ok(()));
            report(&current.order, Report::Done(ours.and(result.map_err(NodeError::from))));
        }
        self.next();
    }

    /// Whether a leaf may come from a peer though no fetch waits for it. Counts it.
    pub(crate) fn was_owed(&mut self, peer: NodeId) -> bool {
        let Some(count) = self.owed.get_mut(&peer) else {
            return false;
        };
        *count -= 1;
        if *count == 0 {
            self.owed.remove(&peer);
        }
        true
    }

    /// Whether the fetch under way asked for this leaf.
    pub(crate) fn awaits(&self, from: NodeId, data: &BlobData) -> bool {
        let fetch = self.current.as_ref().and_then(|current| current.fetch.as_ref());
        fetch.is_some_and(|fetch| fetch.owes(from, data.blob, data.leaf))
    }

    /// Whether the fetch under way asks this peer.
    pub(crate) fn asks(&self, peer: NodeId) -> bool {
        let fetch = self.current.as_ref().and_then(|current| current.fetch.as_ref());
        fetch.is_some_and(|fetch| fetch.asks(peer))
    }

    /// A connection is over.
    pub(crate) fn lost(&mut self, peer: NodeId, why: &str, now: Moment) -> Vec<FetchEffect> {
        self.owed.remove(&peer);
        if self.asks(peer)
            && let Some(current) = &mut self.current
            && !current.banned.contains(&peer)
        {
            current.trouble.insert(peer, why.to_owned());
        }
        self.handle(FetchEvent::PeerLost(peer), now)
    }

    /// Time passed.
    pub(crate) fn tick(&mut self, now: Moment) -> Vec<FetchEffect> {
        let effects = self.handle(FetchEvent::Tick, now);
        if let Some(current) = &mut self.current
            && now - current.reported_at >= PROGRESS_EVERY
        {
            current.reported_at = now;
            current.report_progress();
        }
        effects
    }
}

impl Current {
    fn report_progress(&self) {
        let status = self.fetch.as_ref().map(Fetch::status).unwrap_or_default();
        let (bytes, bytes_total) = match self.is_manifest {
            true => (0, 0),
            false => (status.bytes, status.bytes_total),
        };
        let trouble = self.trouble.iter().map(|(peer, why)| (*peer, why.clone())).collect();
        let progress = FetchProgress { bytes, bytes_total, peers: status.peers, trouble };
        report(&self.order, Report::Progress(progress));
    }
}

fn report(order: &Order, report: Report) {
    // Whoever ordered may have gone.
    let _ = order.reports.send(report);
}

/// What an earlier step of an order asked for may still come.
fn remember_owed(owed: &mut BTreeMap<NodeId, usize>, current: &mut Current) {
    let Some(fetch) = current.fetch.take() else {
        return;
    };
    for peer in fetch.status().peers {
        let count = fetch.owed(peer.node);
        if count > 0 {
            *owed.entry(peer.node).or_default() += count;
        }
    }
}
