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
/// Members of a package that a head asks for.
pub(crate) const CANDIDATES_ASKED: u16 = 64;
/// How often it does, where gossip does not bring it all of them.
pub(crate) const CANDIDATES_EVERY: Duration = Duration::from_secs(300);
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

/// Addresses of members that are kept over restarts.
pub(crate) const KNOWN_MAX: usize = 64;
/// How often members without a connection are tried again.
pub(crate) const REDIAL_EVERY: Duration = Duration::from_secs(5);
/// How long somebody without a certificate may stay: long enough to join.
pub(crate) const STRANGER_FOR: Duration = Duration::from_secs(15);
/// How many of them at once.
pub(crate) const STRANGERS_MAX: usize = 16;
/// Messages one of them may send.
pub(crate) const STRANGER_MESSAGES_MAX: u32 = 16;
/// How often each link is measured.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(10);
/// Pings right after a connection is up, one after the other.
pub(crate) const PINGS_FIRST: u32 = 4;
/// Round trips of which the least counts.
pub(crate) const SAMPLES_MAX: usize = 8;
/// Without an answer for so long a ping is forgotten.
pub(crate) const PING_FOR: Duration = Duration::from_secs(5);
/// What a node offers has changed: how often it may say so.
pub(crate) const ANNOUNCE_SOON: Duration = Duration::from_secs(1);
/// How many times at once after it was silent, as when it starts.
pub(crate) const ANNOUNCE_AHEAD: u32 = 3;
/// How often plans are made anew, to see whether there is a better one.
pub(crate) const PLAN_EVERY: Duration = Duration::from_secs(1);
/// How often a ring may move for a better plan.
pub(crate) const MOVE_EVERY: Duration = Duration::from_secs(30);
/// How long the owner waits for the loop.
pub(crate) const ASK_FOR: Duration = Duration::from_secs(10);
/// How long a join may take, from the first packet to the certificate.
pub(crate) const JOIN_FOR: Duration = Duration::from_secs(15);

/// Longest manifest that is fetched; that of spec 02.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 8 << 20;
/// Fetches that wait for the one under way.
pub(crate) const ORDERS_MAX: usize = 16;
/// How often whoever ordered a fetch hears how far it is.
pub(crate) const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Digests of leaves that are kept in memory, for blobs that peers ask about.
pub(crate) const LEAVES_KEPT_MAX: usize = 1 << 17;
/// Packages whose lists of blobs are kept in memory, for members who may have some packages only.
pub(crate) const PARTS_KEPT_MAX: usize = 64;
/// Questions of one such member that wait for the disk to say whether they may be asked.
pub(crate) const ADMITTING_MAX: usize = 64;
/// Ranges of layers that are being prepared for heads at once.
pub(crate) const PREPARES_MAX: usize = 4;
/// Peers that such a range is fetched from.
pub(crate) const PREPARE_SOURCES_MAX: usize = 16;
