//! Every limit, timeout and default of the swarm.

use std::time::Duration;

/// Descriptors a node remembers. Beyond it the one that expires first goes.
pub const MEMBERS_MAX: usize = 16_384;
/// Nodes whose last sequence number is remembered after they left, so that old words of theirs do
/// not bring them back.
pub const DEPARTED_MAX: usize = 4096;
/// How long that is remembered: the longest life of a descriptor.
pub const DEPARTED_FOR: Duration = Duration::from_secs(21_600);
/// How often a node describes itself in a small swarm.
pub const ANNOUNCE_EVERY: Duration = Duration::from_secs(30);
/// What all descriptors together may cost each node. Beyond it everybody speaks less often, so
/// that the cost stays the same however many there are.
pub const GOSSIP_BYTES_PER_MIN: u64 = 40_000;
/// Peers that a descriptor is passed on to by each node that it is news for.
pub const PASS_ON: usize = 3;
/// What passing on may cost each node. What it says of itself comes on top.
pub const PASS_ON_BYTES_PER_MIN: u64 = 30_000;
/// Up to so many members everybody is connected to everybody, and hears of everybody.
pub const SMALL_SWARM: usize = NEIGHBOURS_MAX + 1;
/// Members that a node stays connected to.
pub const NEIGHBOURS_MAX: usize = 32;
/// Descriptors live for so many announcements.
pub const LIFETIME_ANNOUNCEMENTS: u32 = 3;

/// Leases of one stage at once.
pub const RINGS_MAX: usize = 256;
/// Leases of one head on one stage.
pub const RINGS_PER_HEAD_MAX: usize = 8;
/// Ended leases whose generation is remembered.
pub const PAST_RINGS_MAX: usize = 4096;
/// How long it is remembered, at least that of spec 03, 5.2.
pub const PAST_RING_FOR: Duration = Duration::from_secs(600);
/// Frames that wait for an earlier one of the same request.
pub const EARLY_FRAMES_MAX: usize = 64;
/// Decode batches in a row while a prompt waits. Then a piece of the prompt is computed.
pub const DECODE_RUN_MAX: u32 = 8;
/// When to ask again for layers that are being loaded.
pub const LOADING_RETRY_MS: u32 = 500;

/// Requests that wait at a head.
pub const WAITING_MAX: usize = 256;
/// Pieces of one prompt under way at once.
pub const PIECES_MAX: usize = 4;
/// Without progress for so long, a head asks its stages whether they live.
pub const PROBE_AFTER: Duration = Duration::from_millis(300);
/// How often it asks again.
pub const PROBE_EVERY: Duration = Duration::from_millis(200);
/// Unanswered for so long, a stage is dead. With `PROBE_AFTER` within a second.
pub const DEAD_AFTER: Duration = Duration::from_millis(600);
/// Round trips that have to fit into `DEAD_AFTER`, or it is longer.
pub const DEAD_ROUND_TRIPS: u32 = 3;
/// The same for the slowest answers of late.
pub const DEAD_SLOW_ANSWERS: u32 = 2;
/// What slowness earns at most.
pub const DEAD_SLOW_MAX: Duration = Duration::from_secs(3);
/// A head that looks so much later than it should was not awake to see answers: what it asked
/// before counts as asked just now.
pub const LATE_LOOK: Duration = Duration::from_millis(250);
/// How often in a row that is granted, so that a head that always comes late notices a death too.
pub const LATE_LOOKS_MAX: u32 = 4;
/// All stages live and still nothing comes: the ring is taken apart.
pub const STALLED_AFTER: Duration = Duration::from_secs(20);
/// All stages live and have nothing to do for so long, and still nothing comes: rows were lost.
/// Longer than the largest frame takes on a thin uplink.
pub const SWALLOWED_AFTER: Duration = Duration::from_secs(4);
/// How long a stage may take to answer a request for a lease.
pub const LEASE_ANSWER: Duration = Duration::from_millis(1500);
/// How long a head waits for its shadows once all stages have answered.
pub const SHADOW_ANSWER: Duration = Duration::from_millis(300);
/// A request that may come to so many tokens is worth shadows: computing fewer again takes less
/// than the pause that a death costs anyway.
pub const SHADOW_TOKENS: u64 = 1024;
/// How often a head looks for nodes that should stand by.
pub const STAND_BY_EVERY: Duration = Duration::from_secs(5);
/// How long a node that will not stand by is left alone.
pub const STAND_BY_REFUSED_FOR: Duration = Duration::from_secs(60);
/// Nodes that were asked to stand by and are remembered.
pub const STAND_BY_MAX: usize = 64;
/// How long a node that prepares layers may say nothing.
pub const PREPARE_SILENT: Duration = Duration::from_secs(5);
/// Renewals per life of a lease.
pub const RENEWALS_PER_LEASE: u32 = 3;
/// How long a node that failed is not chosen again.
pub const EXCLUDED_FOR: Duration = Duration::from_secs(30);
/// Nodes remembered as failed.
pub const EXCLUDED_MAX: usize = 256;
/// First pause before a head without a route tries again; it doubles.
pub const RETRY_FIRST: Duration = Duration::from_millis(250);
/// Longest pause.
pub const RETRY_MAX: Duration = Duration::from_secs(8);
/// A request without progress for so long fails.
pub const REQUEST_STALLED: Duration = Duration::from_secs(120);
/// How often a stage may have no room for a request before it fails.
pub const REFUSALS_MAX: u32 = 8;
/// Without requests for so long, a head gives its stages back.
pub const IDLE_RELEASE: Duration = Duration::from_secs(60);

/// Candidates a planner looks at closely.
pub const CANDIDATES_MAX: usize = 48;
/// Partial plans kept per step.
pub const BEAM: usize = 48;
/// Longest pipeline that is planned.
pub const PLAN_STAGES_MAX: usize = 16;
/// Tokens over which bytes that have to move are counted.
pub const HORIZON_TOKENS: f64 = 20_000.0;
/// A new plan must be better by this share before boundaries move.
pub const GAIN_MIN: f64 = 0.2;
/// Guess for a node whose speed was not measured, per layer, in nanoseconds.
pub const UNMEASURED_NS: u32 = 5_000_000;
/// Guess for a link that was not measured, one way, in microseconds.
pub const UNMEASURED_US: u32 = 60_000;
/// What a relay adds to a link for the planner, one way, in microseconds.
pub const RELAY_US: u32 = 20_000;
/// Guess for a downlink that was not measured, in bytes per second.
pub const UNMEASURED_BYTES_PER_S: u64 = 2_500_000;

/// When to ask the next inviter for a renewal, in seconds.
pub const RENEWAL_RETRY_S: u64 = 60;
/// How long after its end a certificate can still be renewed, in seconds: as long as a ticket may
/// live.
pub const RENEWAL_GRACE_S: u64 = shoal_wire::limits::TICKET_S_MAX;

/// Blobs of one fetch: those of the largest package.
pub const FETCH_WANTS_MAX: usize = 1024 + 8;
/// Peers of one fetch.
pub const FETCH_PEERS_MAX: usize = 64;
/// Leaves of one fetch that were asked for or are being written, so many MiB of memory.
pub const FETCH_LEAVES_MAX: usize = 96;
/// Blobs one peer is asked about at once.
pub const QUERIES_MAX: usize = 4;
/// Blobs one peer has answered about and that are not whole; then it is asked about no more.
pub const QUERIES_AHEAD: usize = 8;
/// How long a peer may take to answer which leaves it has: it may have to hash the blob.
pub const QUERY_PATIENCE: Duration = Duration::from_secs(60);
/// The same for a manifest, which is short and asked of one peer at a time.
pub const SPONSOR_PATIENCE: Duration = Duration::from_secs(15);
/// Leaves a peer is asked for at once while its speed is not known.
pub const WINDOW_FIRST: usize = 4;
/// Fewest leaves a peer is asked for at once.
pub const WINDOW_MIN: usize = 2;
/// Most leaves a peer is asked for at once.
pub const WINDOW_MAX: usize = 32;
/// A peer is asked for as much as comes in this time, so that its uplink never waits.
pub const WINDOW_OVER: Duration = Duration::from_secs(1);
/// Time over which the speed of a peer is measured.
pub const RATE_OVER: Duration = Duration::from_millis(250);
/// A leaf that is owed for so long is asked of a second peer when there is nothing else to ask.
pub const DUPLICATE_AFTER: Duration = Duration::from_secs(2);
/// Without a leaf for so long, what a peer owes is asked of others.
pub const STALL_AFTER: Duration = Duration::from_secs(10);
/// Without a leaf for so long, it is given up.
pub const SILENT_AFTER: Duration = Duration::from_secs(60);
/// Lost connections in a row after which a peer is given up.
pub const FETCH_FAILURES_MAX: u32 = 5;
/// Half the first pause before a lost peer is tried again; it doubles.
pub const RECONNECT_FIRST: Duration = Duration::from_millis(125);

/// Peers that are served leaves at once.
pub const UPLOAD_PEERS_MAX: usize = 256;
/// Leaves one peer may have asked for.
pub const UPLOAD_WANTED_MAX: usize = 256;
/// Blobs one peer may have asked about.
pub const UPLOAD_QUERIES_MAX: usize = 16;
/// Leaves for one peer that are read or wait for the network.
pub const UPLOAD_BUSY_MAX: usize = 3;
/// Leaves for all peers, so many MiB of memory.
pub const UPLOAD_ALL_BUSY_MAX: usize = 48;
/// Refusals after which a peer is turned away.
pub const UPLOAD_REFUSALS_MAX: u32 = 64;
