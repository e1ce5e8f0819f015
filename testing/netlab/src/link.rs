//! Ways between nodes: what each costs, and what went over it.

use std::time::Duration;

use serde::Serialize;

use crate::nat::NatKind;
use crate::random::Random;

/// The way from one node to another, besides the access of both.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Link {
    /// Time in one direction.
    pub delay: Duration,
    /// Up to so much more, evenly spread. Packets of one link keep their order.
    pub jitter: Duration,
    /// Share of packets that are lost, 0 to 1.
    pub loss: f64,
}

/// How a node is connected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Bits per second of IP packets that leave; unlimited unless given.
    pub up: Option<u64>,
    /// Bits per second that arrive.
    pub down: Option<u64>,
    /// Bytes that wait for either; what comes on top is dropped.
    pub buffer_bytes: u64,
    /// Translator of addresses in front of the node.
    pub nat: Option<NatKind>,
}

/// Packets from one node to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// What the sender sent.
    pub sent: u64,
    /// Their bytes, headers of IP included.
    pub sent_bytes: u64,
    /// What the receiver got.
    pub delivered: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Dropped by a full buffer.
    pub overflowed: u64,
    /// Dropped by a cut.
    pub cut: u64,
    /// Not let in by the receiver's translator.
    pub filtered: u64,
}

/// One direction of an access: one packet after the other.
#[derive(Debug)]
pub(crate) struct Pipe {
    bits_per_s: Option<u64>,
    buffer_bytes: u64,
    free_at: Duration,
}

impl Pipe {
    pub(crate) fn new(bits_per_s: Option<u64>, buffer_bytes: u64) -> Self {
        Self { bits_per_s, buffer_bytes, free_at: Duration::ZERO }
    }

    /// When the last bit is through; `None` if the buffer is full.
    pub(crate) fn enter(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let Some(rate) = self.bits_per_s else {
            return Some(now);
        };
        let waits = self.free_at.saturating_sub(now);
        let waiting = waits.as_nanos() * u128::from(rate) / 8_000_000_000;
        if waiting + bytes as u128 > u128::from(self.buffer_bytes) {
            return None;
        }
        let takes = bytes as u128 * 8_000_000_000 / u128::from(rate.max(1));
        let takes = Duration::from_nanos(u64::try_from(takes).unwrap_or(u64::MAX));
        self.free_at = self.free_at.max(now) + takes;
        Some(self.free_at)
    }
}

/// What a machine sent so far, delivered or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets to groups and to everybody on the local network, which no router passes on.
    pub local: u64,
    /// All others.
    pub beyond: u64,
}

/// A link in use.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) link: Link,
    pub(crate) counts: Counts,
    pub(crate) is_cut: bool,
    random: Random,
    last_arrival: Duration,
}

impl Way {
    pub(crate) fn new(link: Link, random: Random) -> Self {
        let counts = Counts::default();
        Self { link, counts, is_cut: false, random, last_arrival: Duration::ZERO }
    }

    /// When a packet that leaves now arrives; `None` if it gets lost.
    pub(crate) fn cross(&mut self, now: Duration) -> Option<Duration> {
        // Both are drawn for each packet: what one packet meets does not depend on the settings.
        let (lost, late) = (self.random.unit(), self.random.unit());
        if lost < self.link.loss {
            return None;
        }
        let arrival = now + self.link.delay + self.link.jitter.mul_f64(late);
        self.last_arrival = self.last_arrival.max(arrival);
        Some(self.last_arrival)
    }
}
