//! Chance and the wall clock, from the system.
//!
//! Builds for tests can have a clock that is wrong and a disk that is slow, as their environment
//! says; others do not look there.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shoal_swarm::Random;

/// Random numbers of the system.
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn next_u64(&mut self) -> u64 {
        // Where there is none, ids would repeat: the process cannot go on safely.
        getrandom::u64().expect("the system has random numbers")
    }
}

/// Seconds by which the clock of a build for tests is ahead.
const CLOCK: &str = "SHOAL_TEST_CLOCK_S";
/// Milliseconds that each piece of a blob takes to be read, in a build for tests.
const DISK: &str = "SHOAL_TEST_DISK_MS";

/// Seconds since 1970.
#[must_use]
pub fn wall_s() -> u64 {
    wall().as_secs()
}

/// Time since 1970.
pub(crate) fn wall() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    match for_tests(CLOCK) {
        Some(ahead) if ahead < 0 => now.saturating_sub(Duration::from_secs(ahead.unsigned_abs())),
        Some(ahead) => now + Duration::from_secs(ahead.unsigned_abs()),
        None => now,
    }
}

/// How much slower the disk is than the real one: nothing but in tests.
pub(crate) fn disk_delay() -> Duration {
    let milliseconds = for_tests(DISK).and_then(|number| u64::try_from(number).ok());
    Duration::from_millis(milliseconds.unwrap_or(0))
}

/// A number from the environment, in a build for tests.
fn for_tests(name: &str) -> Option<i64> {
    match cfg!(debug_assertions) {
        true => std::env::var(name).ok()?.parse().ok(),
        false => None,
    }
}
