//! Keys, descriptors and chance for tests.

use shoal_base::{Digest, PackageId};
use shoal_swarm::{ModelShape, NodeKey, Random};
use shoal_wire::{
    Coordinate, Descriptor, LayerRange, Link, List, MemberState, NodeId, Offer, duties,
};

/// A generator with a seed (SplitMix64).
pub(crate) struct Seeded(pub(crate) u64);

impl Random for Seeded {
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

pub(crate) fn key(seed: u16) -> NodeKey {
    let mut secret = [7; 32];
    secret[..2].copy_from_slice(&seed.to_le_bytes());
    NodeKey::new(&secret)
}

pub(crate) fn model() -> ModelShape {
    ModelShape {
        package: PackageId(Digest::of(b"a model")),
        arithmetic: 1,
        layer_count: 24,
        width: 4,
        layer_bytes: 50 << 20,
        cache_bytes: 2048,
    }
}

/// A stage with all layers on disk, room for `capacity` of them, so many milliseconds per layer.
pub(crate) fn descriptor(
    node: NodeId,
    capacity: u16,
    layer_ms: u32,
    links: Vec<Link>,
) -> Descriptor {
    let model = model();
    let offer = Offer {
        package: model.package,
        arithmetic: 1,
        held: List::try_new(vec![LayerRange { first: 0, end: model.layer_count }]).expect("short"),
        loaded: List::default(),
        decode_ns: layer_ms * 1_000_000,
        prefill_ns: 100_000,
        cache_tokens_free: 65_536,
    };
    let cache = 16_384 * model.cache_bytes;
    Descriptor {
        node,
        sequence: 1,
        lifetime_s: 600,
        state: MemberState::Active,
        duties: duties::STAGE | duties::HEAD,
        certificate: None,
        addresses: List::default(),
        memory_free_bytes: u64::from(capacity) * (model.layer_bytes + cache),
        disk_free_bytes: 0,
        uplink_bytes_per_s: 0,
        downlink_bytes_per_s: 10_000_000,
        coordinate: Coordinate::default(),
        offers: List::try_new(vec![offer]).expect("short"),
        links: List::try_new(links).expect("short"),
    }
}
