//! Layers that a head wants this node to have: fetched from it, loaded, reported. Spec 03, 5.4.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

use shoal_base::PackageId;
use shoal_net::PeerAddress;
use shoal_store::Store;
use shoal_wire::{LayerRange, NodeId, Prepare, PrepareState, PrepareStatus};
use tokio::sync::mpsc::UnboundedSender;

use super::{FetchParts, LayersEvent, Order, Report};
use crate::driver::Command;
use crate::limits::PREPARES_MAX;
use crate::{NodeError, PrepareOptions, ServeOptions, serve_bytes};

/// Numbers of orders that the owner did not give.
const FIRST_ORDER: u64 = 1 << 63;

/// What is being prepared.
#[derive(Debug)]
pub(crate) struct Prepares {
    /// What the owner allows.
    allowed: Option<(Store, ServeOptions)>,
    /// What is left of the memory that the owner gives.
    memory_free: Arc<AtomicU64>,
    under_way: Vec<Preparing>,
    next: u64,
}

#[derive(Debug)]
struct Preparing {
    status: PrepareStatus,
    askers: BTreeSet<NodeId>,
}

impl Prepares {
    pub(crate) fn new(allowed: Option<(Store, PrepareOptions)>) -> Self {
        let memory_bytes = allowed.as_ref().map_or(0, |(_, options)| options.memory_bytes);
        Self {
            allowed: allowed.map(|(store, options)| (store, options.serve)),
            memory_free: Arc::new(AtomicU64::new(memory_bytes)),
            under_way: Vec::new(),
            next: FIRST_ORDER,
        }
    }

    /// Whether a head may ask.
    pub(crate) fn is_allowed(&self) -> bool {
        self.allowed.is_some()
    }

    /// Memory for weights and caches that is still free.
    pub(crate) fn memory_free(&self) -> u64 {
        self.memory_free.load(Ordering::Acquire)
    }

    pub(crate) fn set_memory_free(&self, bytes: u64) {
        self.memory_free.store(bytes, Ordering::Release);
    }

    /// A head asks. Gives the answer, and the order to fetch from `sources` if that is to begin.
    pub(crate) fn ask(
        &mut self,
        from: NodeId,
        wish: Prepare,
        sources: Vec<PeerAddress>,
        commands: &UnboundedSender<Command>,
    ) -> (PrepareStatus, Option<Order>) {
        let Prepare { package, layers } = wish;
        let same = |p: &&mut Preparing| (p.status.package, p.status.layers) == (package, layers);
        if let Some(preparing) = self.under_way.iter_mut().find(same) {
            preparing.askers.insert(from);
            return (preparing.status, None);
        }
        let refused = status(package, layers, PrepareState::Refused);
        let Some((store, options)) = self.allowed.clone() else {
            return (refused, None);
        };
        if self.under_way.len() >= PREPARES_MAX {
            return (refused, None);
        }
        let (reports, heard) = channel();
        let (commands, memory_free) = (commands.clone(), Arc::clone(&self.memory_free));
        let worker = Worker { store, options, commands, memory_free, package, layers };
        let thread = std::thread::Builder::new().name("shoal-prepare".to_owned());
        if thread.spawn(move || worker.run(&heard)).is_err() {
            return (refused, None);
        }
        let status = status(package, layers, PrepareState::Fetching);
        self.under_way.push(Preparing { status, askers: BTreeSet::from([from]) });
        self.next += 1;
        let parts = FetchParts { layers: Some(layers), with_head: false };
        (status, Some(Order { id: self.next, package, parts, from: sources, reports }))
    }

    /// Something changed. Says who wants to know; forgets what is over.
    pub(crate) fn changed(&mut self, status: PrepareStatus) -> BTreeSet<NodeId> {
        let same =
            |p: &Preparing| (p.status.package, p.status.layers) == (status.package, status.layers);
        let Some(place) = self.under_way.iter().position(same) else {
            return BTreeSet::new();
        };
        self.under_way[place].status = status;
        match status.state {
            PrepareState::Fetching | PrepareState::Loading => self.under_way[place].askers.clone(),
            PrepareState::Refused | PrepareState::Ready => self.under_way.remove(place).askers,
        }
    }
}

pub(crate) fn status(package: PackageId, layers: LayerRange, state: PrepareState) -> PrepareStatus {
    PrepareStatus { package, layers, state, bytes_left: 0 }
}

/// Waits for the blobs, then loads them. Loading takes long, so it has a thread.
struct Worker {
    store: Store,
    options: ServeOptions,
    commands: UnboundedSender<Command>,
    memory_free: Arc<AtomicU64>,
    package: PackageId,
    layers: LayerRange,
}

impl Worker {
    fn run(self, heard: &Receiver<Report>) {
        let state = match self.fetch(heard).and_then(|()| self.load()) {
            Ok(()) => PrepareState::Ready,
            Err(_) => PrepareState::Refused,
        };
        self.tell(status(self.package, self.layers, state));
    }

    fn fetch(&self, heard: &Receiver<Report>) -> Result<(), NodeError> {
        let mut told = std::time::Instant::now();
        while let Ok(report) = heard.recv() {
            match report {
                Report::Progress(progress) if told.elapsed().as_secs() >= 1 => {
                    told = std::time::Instant::now();
                    let bytes_left = progress.bytes_total.saturating_sub(progress.bytes);
                    let fetching = status(self.package, self.layers, PrepareState::Fetching);
                    self.tell(PrepareStatus { bytes_left, ..fetching });
                }
                Report::Progress(_) => {}
                Report::Done(result) => return result,
            }
        }
        Err(NodeError::Stopped)
    }

    fn load(&self) -> Result<(), NodeError> {
        self.tell(status(self.package, self.layers, PrepareState::Loading));
        let package = self.store.package(self.package)?;
        let needed = serve_bytes(&package, self.layers, self.options);
        let less = |free: u64| free.checked_sub(needed);
        let (acquire, release) = (Ordering::Acquire, Ordering::Release);
        let taken = self.memory_free.fetch_update(release, acquire, less);
        taken.map_err(|free| NodeError::NoMemory { needed, free })?;
        let loaded = crate::node::load(&package, self.layers, self.options);
        if loaded.is_err() {
            self.memory_free.fetch_add(needed, release);
        }
        self.commands.send(loaded?).map_err(|_| NodeError::Stopped)
    }

    fn tell(&self, status: PrepareStatus) {
        // The loop is gone when nobody takes it.
        let _ = self.commands.send(Command::Layers(Box::new(LayersEvent::Prepared(status))));
    }
}
