//! Every limit and timeout of the driver. Those of the protocols are in `swarm`, those of the
//! sockets in `net`.

use std::time::Duration;

/// Values of all peers together that were read and wait for the loop.
pub(crate) const ARRIVED_QUEUE: usize = 256;
/// How often time passes for the state machines while somebody waits for an answer.
pub(crate) const TICK: Duration = Duration::from_millis(50);
/// The same for a node that does nothing.
pub(crate) const TICK_IDLE: Duration = Duration::from_millis(500);
/// Values that wait while a peer is being connected to.
pub(crate) const PENDING_MAX: usize = 256;
/// Their bytes.
pub(crate) const PENDING_BYTES_MAX: usize = 32 << 20;
/// How long to wait for the address of a peer that was named in a route.
pub(crate) const ADDRESS_WAIT: Duration = Duration::from_secs(1);
/// Connections to one peer at once: both sides may connect at the same moment, and a peer that
/// starts again connects before its old connection has run out.
pub(crate) const CONNECTIONS_PER_PEER_MAX: usize = 2;
/// Rings whose nodes may connect here, because an allowed head named them.
pub(crate) const ROUTES_MAX: usize = shoal_swarm::limits::RINGS_MAX;
/// Descriptors asked for when a connection starts.
pub(crate) const MEMBERS_ASKED: u16 = 64;
/// Peers that a new descriptor is passed on to.
pub(crate) const PASS_ON_MAX: usize = 64;
/// How long a head looks for a way before it fails what waits.
pub(crate) const ROUTE_PATIENCE: Duration = Duration::from_secs(20);
/// Rows whose logits are computed together.
pub(crate) const LOGITS_ROWS: usize = 16;
/// Requests of one head that run or wait.
pub(crate) const OPEN_MAX: usize = shoal_swarm::limits::WAITING_MAX;
/// When to ask again if there are more.
pub(crate) const RETRY_AFTER_MS: u64 = 1000;
/// How long open connections may take to close when a node stops.
pub(crate) const STOP: Duration = Duration::from_secs(1);

/// Longest manifest that is fetched; that of spec 02.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 8 << 20;
/// Fetches that wait for the one under way.
pub(crate) const ORDERS_MAX: usize = 16;
/// How often whoever ordered a fetch hears how far it is.
pub(crate) const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Digests of leaves that are kept in memory, for blobs that peers ask about.
pub(crate) const LEAVES_KEPT_MAX: usize = 1 << 17;
/// Ranges of layers that are being prepared for heads at once.
pub(crate) const PREPARES_MAX: usize = 4;
