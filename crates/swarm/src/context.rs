//! Time and chance, as the driver gives them.

use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment on the monotonic clock of this node, in microseconds from an arbitrary start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub for Moment {
    type Output = Duration;

    /// Zero when the other is later.
    fn sub(self, other: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(other.0))
    }
}

/// A source of random numbers. In a node it is the system's; in the simulator it has a seed.
pub trait Random {
    /// 64 random bits.
    fn next_u64(&mut self) -> u64;

    /// 128 random bits, for ids.
    fn next_id(&mut self) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.next_u64().to_le_bytes());
        id[8..].copy_from_slice(&self.next_u64().to_le_bytes());
        id
    }

    /// A number below `limit`; 0 for limit 0.
    fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.next_u64()) * u128::from(limit);
        (wide >> 64) as u64
    }
}
