//! Who, which, and how far.

use std::fmt;

use crate::codec::{record, wrapper};
use crate::{WireError, limits};

wrapper! {
    /// A node: its ed25519 public key.
    pub struct NodeId(pub [u8; 32]);
    /// A ring: 128 random bits drawn by its head.
    pub struct RingId(pub [u8; 16]);
    /// A ticket: 128 random bits drawn by its issuer.
    pub struct TicketId(pub [u8; 16]);
    /// Makes older leases of the same ring void. Counts from 1.
    pub struct GenerationId(pub u32);
    /// One request of a ring's head. Never used again in that ring.
    pub struct RequestId(pub u64);
    /// Makes frames of the same request void that were in flight before a rewind.
    pub struct Epoch(pub u32);
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for RingId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

record! {
    /// Layers `first` to `end - 1`.
    #[derive(Copy, Hash, PartialOrd, Ord)]
    pub struct LayerRange {
        /// The first layer.
        pub first: u16,
        /// The first layer after it.
        pub end: u16,
    }
    check LayerRange::check;
}

impl LayerRange {
    /// A range that holds at least one layer.
    ///
    /// # Errors
    /// When it is empty, or beyond the most layers of a package.
    pub fn try_new(first: u16, end: u16) -> Result<Self, WireError> {
        let range = Self { first, end };
        range.check()?;
        Ok(range)
    }

    /// How many layers.
    #[must_use]
    pub fn count(self) -> u16 {
        self.end.saturating_sub(self.first)
    }

    /// Whether all of `other` lies in it.
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.end <= self.end
    }

    fn check(&self) -> Result<(), WireError> {
        if self.end > limits::LAYERS_MAX {
            let limit = limits::LAYERS_MAX.into();
            return Err(WireError::Limit { field: "end", got: self.end.into(), limit });
        }
        if self.first >= self.end {
            return Err(WireError::Rule { field: "layers", rule: "an empty range" });
        }
        Ok(())
    }
}
