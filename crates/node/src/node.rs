//! Starting and stopping a node.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use shoal_arith::limits::{ARITHMETIC_VERSION, CHUNK};
use shoal_base::PackageId;
use shoal_engine::{Head, Intake, LoadError, Stage};
use shoal_kernels::{Isa, Kernels};
use shoal_model::package::{BlobKind, Package};
use shoal_net::{
    Discovery, Endpoint, EndpointConfig, PeerAddress, RelayState, RelayUrl, SecretKey,
};
use shoal_store::{NodeFolder, Store};
use shoal_swarm::{HeadPolicy, ModelShape, NodeKey, Speculation, StageConfig, Want};
use shoal_wire::{LayerRange, NodeId, RingId, WireError};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::book::Book;
use crate::compute::{self, Loaded};
use crate::driver::{Command, Driver, Slot};
use crate::head::HeadWorker;
use crate::layers::{
    FetchParts, FetchProgress, Layers, LayersEvent, Order, Prepares, Report, start_disk,
};
use crate::limits::{ARRIVED_QUEUE, ROUTE_PATIENCE, STOP};
use crate::membership::{self, Keep, Membership};
use crate::peers::{NetEvent, Peers};
use crate::ring::Shared;
use crate::state::State;
use crate::way::{Planned, Way};
use crate::{NodeError, RingHead, StaticPlan, speed};

/// Threads that move bytes; they compute nothing.
const NET_THREADS: usize = 2;

/// What a node is.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The secret half of its key.
    pub secret: [u8; 32],
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Who may lead rings through this node. Nobody else may even connect, but for those whom one
    /// of these names in a route.
    pub heads: Vec<NodeId>,
    /// What the owner allows.
    pub stage: StageConfig,
    /// Where packages are. Those who may use this node may fetch blobs of them; without a store
    /// it neither serves nor fetches any.
    pub store: Option<Store>,
    /// Most bytes per second to send; `None`: no bound.
    pub upload_bytes_per_s: Option<u64>,
    /// Relays where others meet this node; nothing is relayed by others than these.
    pub relays: Vec<RelayUrl>,
    /// Whether and where keys are looked up, and this node is to be found by its own.
    pub discovery: Option<Discovery>,
    /// How to serve layers that a head asks this node to prepare; `None` refuses.
    pub prepare: Option<PrepareOptions>,
}

/// How a member of a swarm runs; its key and who may use it are in its folder.
#[derive(Clone, Debug)]
pub struct MemberOptions {
    /// As in [`NodeConfig`].
    pub listen: SocketAddr,
    /// As in [`NodeConfig`].
    pub store: Option<Store>,
    /// As in [`NodeConfig`].
    pub upload_bytes_per_s: Option<u64>,
    /// As in [`NodeConfig`].
    pub relays: Vec<RelayUrl>,
    /// As in [`NodeConfig`].
    pub discovery: Option<Discovery>,
    /// As in [`NodeConfig`]; what is asked for is in its certificate too.
    pub prepare: Option<PrepareOptions>,
}

impl MemberOptions {
    /// One that stores nothing and is found by its address alone.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        let (relays, discovery) = (Vec::new(), None);
        Self { listen, store: None, upload_bytes_per_s: None, relays, discovery, prepare: None }
    }
}

/// What layers that a head asks for may take.
#[derive(Clone, Copy, Debug)]
pub struct PrepareOptions {
    /// How they are served.
    pub serve: ServeOptions,
    /// Memory for all of them, with their caches.
    pub memory_bytes: u64,
}

impl NodeConfig {
    /// A node that nobody may use yet.
    #[must_use]
    pub fn new(secret: [u8; 32], listen: SocketAddr) -> Self {
        // Who may lead was named by the owner, so one of them may have everything.
        let stage = StageConfig { head_share_percent: 100, ..StageConfig::default() };
        Self {
            secret,
            listen,
            heads: Vec::new(),
            stage,
            store: None,
            upload_bytes_per_s: None,
            relays: Vec::new(),
            discovery: None,
            prepare: None,
        }
    }
}

/// Who has a key, by its secret half.
#[must_use]
pub fn node_of(secret: &[u8; 32]) -> NodeId {
    SecretKey::new(secret).id()
}

/// How layers are served.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// Threads that compute.
    pub threads: usize,
    /// Instruction set; `None` takes the best one.
    pub isa: Option<Isa>,
    /// Tokens kept for all requests together.
    pub cache_tokens: u32,
    /// Requests at once.
    pub sequences: u32,
}

impl Default for ServeOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, isa: None, cache_tokens: 32_768, sequences: 64 }
    }
}

/// How a ring is led.
#[derive(Clone, Copy, Debug)]
pub struct HeadOptions {
    /// What is asked of the ring.
    pub policy: HeadPolicy,
    /// Threads that compute logits.
    pub threads: usize,
    /// Instruction set; `None` takes the best one.
    pub isa: Option<Isa>,
    /// How long to look for a way before requests fail.
    pub patience: Duration,
}

impl Default for HeadOptions {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { policy: HeadPolicy::default(), threads, isa: None, patience: ROUTE_PATIENCE }
    }
}

/// Memory that layers of a package take on a node that serves them.
#[must_use]
pub fn serve_bytes(package: &Package, layers: LayerRange, options: ServeOptions) -> u64 {
    let range = u32::from(layers.first)..u32::from(layers.end);
    let is_ours = |kind: BlobKind| matches!(kind, BlobKind::Layer(index) if range.contains(&index));
    let blobs = package.manifest().blobs.iter().filter(|blob| is_ours(blob.kind));
    let weights: u64 = blobs.map(|blob| blob.bytes).sum();
    let architecture = &package.manifest().architecture;
    let page = Stage::page_bytes(architecture, usize::from(layers.count())) as u64;
    weights + page * pages(options) as u64
}

/// Each request wastes at most one page.
fn pages(options: ServeOptions) -> usize {
    (options.cache_tokens as usize).div_ceil(CHUNK) + options.sequences as usize
}

/// A running node. Dropping it stops it.
#[derive(Debug)]
pub struct Node {
    address: PeerAddress,
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    endpoint: Endpoint,
    runtime: Option<Runtime>,
    threads: Vec<JoinHandle<()>>,
    /// Numbers of orders to fetch.
    orders: AtomicU64,
}

impl Node {
    /// Starts a node.
    ///
    /// # Errors
    /// The address is taken, or the system gives no threads.
    pub fn start(config: NodeConfig) -> Result<Self, NodeError> {
        Self::begin(config, None)
    }

    /// Starts the node of a member of a swarm, and keeps its folder until it ends.
    ///
    /// # Errors
    /// The folder is in no swarm or is damaged; besides those of [`Node::start`].
    pub fn start_member(folder: NodeFolder, options: MemberOptions) -> Result<Self, NodeError> {
        let MemberOptions { listen, store, upload_bytes_per_s, relays, discovery, prepare } =
            options;
        let state = State::read(&folder)?.ok_or(NodeError::NoMember)?;
        let secret = folder.secret()?;
        // A head has its share of the caches, as others want theirs.
        let stage = StageConfig::default();
        let config = NodeConfig::new(secret, listen);
        let config =
            NodeConfig { stage, store, upload_bytes_per_s, relays, discovery, prepare, ..config };
        Self::begin(config, Some((folder, state)))
    }

    fn begin(config: NodeConfig, member: Option<(NodeFolder, State)>) -> Result<Self, NodeError> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(NET_THREADS).thread_name("shoal-net");
        let runtime = runtime.enable_all().build()?;
        let key = NodeKey::new(&config.secret);
        let secret = SecretKey::new(&config.secret);
        let (commands, received) = mpsc::unbounded_channel();
        let mut threads = Vec::new();
        let member = match member {
            Some((folder, state)) => {
                let door = state.door(key.id(), &config.secret, folder.owner()?)?;
                let (keeper, thread) = spawn_keeper(folder, commands.clone())?;
                threads.push(thread);
                Some(Membership::new(door, &state, keeper))
            }
            None => None,
        };
        let upload_bytes_per_s = config.upload_bytes_per_s;
        let endpoint = EndpointConfig::new(secret, config.listen);
        let (relays, discovery) = (config.relays, config.discovery);
        let endpoint = EndpointConfig { upload_bytes_per_s, relays, discovery, ..endpoint };
        let endpoint = Endpoint::bind(endpoint);
        let endpoint = runtime.block_on(endpoint)?;
        let address = endpoint.address();
        let (events, arrived) = mpsc::channel(ARRIVED_QUEUE);
        let (jobs, todo) = channel();
        let computed = commands.clone();
        let compute = std::thread::Builder::new().name("shoal-layers".to_owned());
        threads.push(compute.spawn(move || {
            // The loop is gone when nobody takes what was computed.
            compute::run(&todo, |outputs| drop(computed.send(Command::Computed(outputs))));
        })?);
        let book = Book::new(key, config.heads);
        let peers = Peers::new(endpoint.clone(), events.clone());
        let told = commands.clone();
        let tell = move |done| {
            // The loop is gone when nobody takes it.
            let _ = told.send(Command::Layers(Box::new(LayersEvent::Disk(done))));
        };
        let prepares = Prepares::new(config.store.clone().zip(config.prepare));
        let disk = config.store.map(|store| start_disk(store, tell)).transpose()?;
        let layers = Layers::new(disk, prepares);
        let stage = shoal_swarm::Stage::new(address.node, config.stage);
        let driver = Driver::new(book, peers, member, stage, jobs, layers, commands.clone());
        runtime.spawn(driver.run(received, arrived));
        runtime.spawn(accept(endpoint.clone(), events));
        let (runtime, orders) = (Some(runtime), AtomicU64::new(0));
        Ok(Self { address, commands, endpoint, runtime, threads, orders })
    }

    /// Who and where it is.
    #[must_use]
    pub fn address(&self) -> &PeerAddress {
        &self.address
    }

    /// The relays it named, and whether it can be met there now.
    #[must_use]
    pub fn relays(&self) -> Vec<RelayState> {
        self.endpoint.relays()
    }

    /// Loads layers of a package and serves them to those who may use this node.
    ///
    /// # Errors
    /// The package does not have these layers, or is damaged.
    pub fn serve(
        &self,
        package: &Package,
        layers: LayerRange,
        options: ServeOptions,
    ) -> Result<(), NodeError> {
        self.tell(load(package, layers, options)?)
    }

    /// Fetches blobs of a package into the store, from several peers at once. What is there already
    /// is not fetched; what arrived stays, however this ends.
    ///
    /// `watch` is told a few times per second how far it is; `false` ends it.
    ///
    /// # Errors
    /// No peer has them or every one failed, the disk is full, or the node has no store.
    pub fn fetch(
        &self,
        package: PackageId,
        parts: FetchParts,
        from: &[PeerAddress],
        watch: &mut dyn FnMut(&FetchProgress) -> bool,
    ) -> Result<(), NodeError> {
        let (reports, heard) = channel();
        let id = self.orders.fetch_add(1, Ordering::Relaxed);
        let order = Order { id, package, parts, from: from.to_vec(), reports };
        self.tell(Command::Layers(Box::new(LayersEvent::Fetch(Box::new(order)))))?;
        while let Ok(report) = heard.recv() {
            match report {
                Report::Progress(progress) => {
                    if !watch(&progress) {
                        self.tell(Command::Layers(Box::new(LayersEvent::Cancel(id))))?;
                    }
                }
                Report::Done(result) => return result,
            }
        }
        Err(NodeError::Stopped)
    }

    /// Leads a ring of stages. It is leased when the first request comes.
    ///
    /// # Errors
    /// The package is damaged, or there are no random numbers or threads.
    pub fn head(
        &self,
        package: &Package,
        name: &str,
        plan: StaticPlan,
        options: HeadOptions,
    ) -> Result<RingHead, NodeError> {
        self.start_ring(package, name, |_| Way::Fixed(plan), options)
    }

    /// Leads a ring over whatever members of the swarm the planner chooses.
    ///
    /// # Errors
    /// As for [`Node::head`].
    pub fn lead(
        &self,
        package: &Package,
        name: &str,
        options: HeadOptions,
    ) -> Result<RingHead, NodeError> {
        let model = shape(package)?;
        let way = |policy: &HeadPolicy| Way::Planned(Planned::new(model, want(policy)));
        self.start_ring(package, name, way, options)
    }

    fn start_ring(
        &self,
        package: &Package,
        name: &str,
        way: impl FnOnce(&HeadPolicy) -> Way,
        options: HeadOptions,
    ) -> Result<RingHead, NodeError> {
        let isa = options.isa.map_or_else(Isa::choose, Ok).map_err(LoadError::from)?;
        let kernels = Kernels::new(isa, options.threads.max(1)).map_err(LoadError::from)?;
        let head = Head::load(Arc::new(kernels), package)?;
        let mut policy = options.policy;
        let architecture = &package.manifest().architecture;
        policy.context_tokens = policy.context_tokens.min(architecture.context_tokens);
        let intake = Intake::new(package, name, policy.context_tokens.min(policy.cache_tokens))?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(std::io::Error::other)?;
        let ring = RingId(id);
        let (jobs, todo) = channel();
        let shared = Arc::new(Shared::default());
        let (commands, counted, package_id) =
            (self.commands.clone(), Arc::clone(&shared), package.id());
        let worker = std::thread::Builder::new().name("shoal-head".to_owned());
        worker.spawn(move || {
            // The loop is gone when nobody takes it.
            let say = |output| drop(commands.send(Command::Head { ring, output }));
            HeadWorker::new(head, package_id, counted, say).run(&todo);
        })?;
        let machine = shoal_swarm::Head::new(self.address.node, ring, shape(package)?, policy);
        let way = way(&policy);
        let slot = Slot::new(machine, way, jobs, Arc::clone(&shared), options.patience);
        self.tell(Command::StartRing { ring, slot: Box::new(slot) })?;
        let commands = self.commands.clone();
        Ok(RingHead { ring, intake, commands, shared, next_request: Mutex::new(0) })
    }

    pub(crate) fn tell(&self, command: Command) -> Result<(), NodeError> {
        self.commands.send(command).map_err(|_| NodeError::Stopped)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The loop may be gone already; there is nothing to stop then.
        let _ = self.commands.send(Command::Stop);
        if let Some(runtime) = self.runtime.take() {
            let endpoint = self.endpoint.clone();
            // Peers hear that this node leaves, if they listen.
            let close = async { tokio::time::timeout(STOP, endpoint.close()).await };
            let _ = runtime.block_on(close);
            runtime.shutdown_timeout(STOP);
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Loads layers; the loop hands them to the thread that computes.
pub(crate) fn load(
    package: &Package,
    layers: LayerRange,
    options: ServeOptions,
) -> Result<Command, NodeError> {
    let isa = options.isa.map_or_else(Isa::choose, Ok).map_err(LoadError::from)?;
    let kernels = Kernels::new(isa, options.threads.max(1)).map_err(LoadError::from)?;
    let range = u32::from(layers.first)..u32::from(layers.end);
    let mut stage = Stage::load(Arc::new(kernels), package, range, pages(options))?;
    let width = package.manifest().architecture.model_width;
    let speed = speed::measure(&mut stage, width, layers.count());
    Ok(Command::Load {
        loaded: Box::new(Loaded { package: package.id(), layers, stage }),
        width,
        arithmetic: arithmetic(),
        cache_tokens: options.cache_tokens,
        speed,
    })
}

/// Lets peers in as far as their keys; the loop decides about the rest.
async fn accept(endpoint: Endpoint, events: mpsc::Sender<NetEvent>) {
    let places = Arc::new(tokio::sync::Semaphore::new(shoal_net::limits::ACCEPTING_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Some(arrival) = endpoint.accept().await else {
            return;
        };
        let events = events.clone();
        tokio::spawn(async move {
            // Somebody who does not get as far as this is nobody's peer.
            if let Ok(connection) = arrival.greet().await {
                let connection = Box::new(connection);
                let _ = events.send(NetEvent::Connected { connection, is_ours: false }).await;
            }
            drop(place);
        });
    }
}

pub(crate) fn arithmetic() -> u16 {
    const { ARITHMETIC_VERSION as u16 }
}

/// What a ring with this policy asks of its members.
pub(crate) fn want(policy: &HeadPolicy) -> Want {
    Want { cache_tokens: policy.cache_tokens, may_fetch: false, speculation: Speculation::Off }
}

/// The thread that writes the state of a member. It holds the folder until the loop is gone.
fn spawn_keeper(
    folder: NodeFolder,
    commands: mpsc::UnboundedSender<Command>,
) -> Result<(Sender<Keep>, JoinHandle<()>), NodeError> {
    let (keeper, todo) = channel();
    let thread = std::thread::Builder::new().name("shoal-keeper".to_owned());
    let thread = thread.spawn(move || {
        membership::keep(&folder, &todo, |then, kept| {
            // The loop is gone when nobody takes it.
            let _ = commands.send(Command::Kept { then, is_kept: kept.is_ok() });
        });
    })?;
    Ok((keeper, thread))
}

pub(crate) fn shape(package: &Package) -> Result<ModelShape, NodeError> {
    let architecture = &package.manifest().architecture;
    let count = u16::try_from(architecture.layer_count);
    let layer_count = count.map_err(|_| WireError::Limit {
        field: "layers",
        got: architecture.layer_count.into(),
        limit: shoal_wire::limits::LAYERS_MAX.into(),
    })?;
    let blobs = package.manifest().blobs.iter();
    let layers = blobs.filter(|blob| matches!(blob.kind, BlobKind::Layer(_)));
    Ok(ModelShape {
        package: package.id(),
        arithmetic: arithmetic(),
        layer_count,
        width: architecture.model_width,
        layer_bytes: layers.map(|blob| blob.bytes).max().unwrap_or(0),
        cache_bytes: (Stage::page_bytes(architecture, 1) / CHUNK) as u64,
    })
}
