//! Networks that people have, by name.

use std::time::Duration;

use crate::link::{Access, Link};
use crate::nat::NatKind;

const MBIT: u64 = 1_000_000;
/// Least bytes that wait for a line, and how long a full buffer lasts otherwise.
const BUFFER_BYTES_MIN: u64 = 256 << 10;
const BUFFER_MS: u64 = 100;

/// A network: all links are alike, and all accesses but those behind a translator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Profile {
    /// What it is called.
    pub name: &'static str,
    /// There and back again.
    pub round_trip: Duration,
    /// Up to so much more in one direction.
    pub jitter: Duration,
    /// Share of packets that are lost in one direction.
    pub loss: f64,
    /// Bits per second from a node.
    pub up: u64,
    /// Bits per second to a node.
    pub down: u64,
    /// The translator in front of node 0; the others have none.
    pub nat: Option<NatKind>,
}

impl Profile {
    /// All of them.
    pub const ALL: [Self; 6] = [
        plain("lan", 500, 1000 * MBIT, 1000 * MBIT),
        plain("metro", 5_000, 200 * MBIT, 1000 * MBIT),
        plain("eu", 25_000, 20 * MBIT, 100 * MBIT),
        plain("us", 60_000, 20 * MBIT, 100 * MBIT),
        Self { loss: 0.01, ..plain("world", 150_000, 20 * MBIT, 100 * MBIT) },
        Self {
            nat: Some(NatKind::Symmetric),
            jitter: Duration::from_millis(2),
            ..plain("home", 25_000, 20 * MBIT, 100 * MBIT)
        },
    ];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.name == name)
    }

    /// What lies between two nodes.
    #[must_use]
    pub fn link(&self) -> Link {
        Link { delay: self.round_trip / 2, jitter: self.jitter, loss: self.loss }
    }

    /// How a node is connected.
    #[must_use]
    pub fn access(&self, node: usize) -> Access {
        let bytes = self.up.max(self.down) / 8 * BUFFER_MS / 1000;
        Access {
            up: Some(self.up),
            down: Some(self.down),
            buffer_bytes: bytes.max(BUFFER_BYTES_MIN),
            nat: self.nat.filter(|_| node == 0),
        }
    }
}

const fn plain(name: &'static str, round_trip_us: u64, up: u64, down: u64) -> Profile {
    Profile {
        name,
        round_trip: Duration::from_micros(round_trip_us),
        jitter: Duration::ZERO,
        loss: 0.0,
        up,
        down,
        nat: None,
    }
}
