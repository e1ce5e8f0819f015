//! Bounds on what servers may do.

use std::time::Duration;

/// Largest download: the largest open models have some 1.5 TB.
pub(super) const BYTES_MAX: u64 = 4 << 40;
/// Longest silence of a server.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);
/// Looking up an address, and connecting.
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(20);
/// Attempts in a row that bring less than [`PROGRESS_BYTES`].
pub(super) const ATTEMPTS_MAX: u32 = 6;
/// Fewer bytes than this are no progress, so that a server cannot hold us with one at a time.
pub(super) const PROGRESS_BYTES: u64 = 64 << 10;
/// Pause after the first failed attempt, and the longest one.
pub(super) const PAUSE_FIRST: Duration = Duration::from_secs(1);
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Hubs use one or two.
pub(super) const REDIRECTS_MAX: usize = 5;
/// The list of a repository with 100 000 files.
pub(super) const LISTING_BYTES_MAX: u64 = 32 << 20;
/// Longest URL.
pub(super) const URL_BYTES_MAX: usize = 8 << 10;
/// Files of one model, shards and all.
pub(super) const FILES_MAX: usize = 1100;
/// Notes about a file on its way.
pub(super) const STATE_BYTES_MAX: u64 = 64 << 10;
/// PEM file with certificate authorities.
pub(super) const AUTHORITIES_BYTES_MAX: u64 = 16 << 20;
