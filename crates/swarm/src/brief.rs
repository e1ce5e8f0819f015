//! What a planner looks at first of each member: small, in one place, and kept up to date as
//! descriptors come, so that a plan over many thousands reads little memory.

use shoal_wire::{Coordinate, Descriptor, LayerRange, MemberState, Offer, duties};

/// A member's offer of one package, in short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Brief {
    /// Whether it takes new leases.
    pub(crate) is_open: bool,
    pub(crate) arithmetic: Option<u16>,
    pub(crate) memory_free_bytes: u64,
    /// Layers in memory, all ranges together.
    pub(crate) loaded_count: u64,
    /// Layers of the longest range in memory.
    pub(crate) widest: u16,
    /// From the first to the last layer in memory; there may be gaps.
    pub(crate) span: Option<LayerRange>,
    /// Layers on disk.
    pub(crate) held_count: u16,
    pub(crate) cache_tokens_free: u32,
    pub(crate) decode_ns: u32,
    pub(crate) place: Coordinate,
}

impl Brief {
    pub(crate) fn new(member: &Descriptor, offer: Option<&Offer>) -> Self {
        let loaded = offer.map_or(&[][..], |offer| &offer.loaded);
        let held = offer.map_or(&[][..], |offer| &offer.held);
        let first = loaded.iter().map(|range| range.first).min();
        let end = loaded.iter().map(|range| range.end).max();
        Self {
            is_open: member.state == MemberState::Active && member.duties & duties::STAGE != 0,
            arithmetic: offer.map(|offer| offer.arithmetic),
            memory_free_bytes: member.memory_free_bytes,
            loaded_count: loaded.iter().map(|range| u64::from(range.count())).sum(),
            widest: loaded.iter().map(|range| range.count()).max().unwrap_or(0),
            span: first.zip(end).map(|(first, end)| LayerRange { first, end }),
            held_count: held.iter().map(|range| range.count()).sum(),
            cache_tokens_free: offer.map_or(0, |offer| offer.cache_tokens_free),
            decode_ns: offer.map_or(0, |offer| offer.decode_ns),
            place: member.coordinate,
        }
    }
}
