//! Chance and the wall clock, from the system.

use std::time::{SystemTime, UNIX_EPOCH};

use shoal_swarm::Random;

/// Random numbers of the system.
pub(crate) struct SystemRandom;

impl Random for SystemRandom {
    fn next_u64(&mut self) -> u64 {
        // Where there is none, ids would repeat: the process cannot go on safely.
        getrandom::u64().expect("the system has random numbers")
    }
}

/// Seconds since 1970.
pub(crate) fn wall_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
