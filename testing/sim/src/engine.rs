//! An arithmetic that is cheap and forgets nothing: each layer's result at a position depends on
//! the row and on its own result at the position before. A cache that was cut wrongly, a row that
//! was lost or computed twice changes every later token.

use std::collections::BTreeMap;

use shoal_base::{Digest, SharedBytes, TokenId};
use shoal_wire::{LayerRange, RequestId, RingId};

use crate::random::mix;

/// Bytes of a row: 4 elements of 2 bytes.
pub(crate) const ROW_BYTES: usize = 8;
/// Elements of a row.
pub(crate) const WIDTH: u32 = 4;
const VOCAB: u64 = 32_000;

/// The row of a token.
pub(crate) fn embed(token: TokenId, position: u32) -> u64 {
    mix(u64::from(token.0) << 32 | u64::from(position))
}

/// The token after a final row.
pub(crate) fn sample(row: u64) -> TokenId {
    TokenId((mix(row ^ 0x5a) % VOCAB) as u32)
}

pub(crate) fn to_bytes(rows: &[u64]) -> SharedBytes {
    SharedBytes::new(rows.iter().flat_map(|row| row.to_le_bytes()).collect::<Vec<u8>>())
}

pub(crate) fn from_bytes(bytes: &[u8]) -> impl Iterator<Item = u64> {
    let rows = bytes.chunks_exact(ROW_BYTES);
    rows.map(|row| u64::from_le_bytes(row.try_into().expect("8 bytes")))
}

/// A root for a row. Not spec 03's: nobody in a simulation checks it, and it has to be quick.
pub(crate) fn root(row: u64) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&row.to_le_bytes());
    Digest(bytes)
}

/// What some layers have computed of one sequence.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    layers: LayerRange,
    states: Vec<u64>,
}

impl Cache {
    pub(crate) fn new(layers: LayerRange) -> Self {
        Self { layers, states: Vec::new() }
    }

    fn width(&self) -> usize {
        usize::from(self.layers.count())
    }

    /// Forgets positions from `length` on.
    pub(crate) fn cut(&mut self, length: u32) {
        self.states.truncate(length as usize * self.width());
    }

    /// The row of the next position after all layers.
    pub(crate) fn push(&mut self, mut row: u64) -> u64 {
        let width = self.width();
        let before = self.states.len().checked_sub(width);
        for index in 0..width {
            let state = before.map_or(0, |before| self.states[before + index]);
            let layer = u64::from(self.layers.first) + index as u64;
            row = mix(row ^ state.rotate_left(17) ^ layer);
            self.states.push(row);
        }
        row
    }
}

/// The caches of one node.
#[derive(Debug, Default)]
pub(crate) struct Engine {
    caches: BTreeMap<(RingId, RequestId), Cache>,
}

impl Engine {
    /// Computes rows at a position. With `keeps`, what was there after it is not forgotten first:
    /// a bug.
    pub(crate) fn compute(
        &mut self,
        key: (RingId, RequestId),
        layers: LayerRange,
        position: u32,
        rows: &[u8],
        keeps: bool,
    ) -> Vec<u64> {
        let fresh = || Cache::new(layers);
        let cache = self.caches.entry(key).or_insert_with(fresh);
        if cache.layers != layers {
            *cache = fresh();
        }
        if !keeps {
            cache.cut(position);
        }
        from_bytes(rows).map(|row| cache.push(row)).collect()
    }

    pub(crate) fn forget(&mut self, ring: RingId, request: Option<RequestId>) {
        match request {
            Some(request) => drop(self.caches.remove(&(ring, request))),
            None => self.caches.retain(|(other, _), _| *other != ring),
        }
    }
}

/// The answer that one node would have given.
pub(crate) fn reference(prompt: &[TokenId], answer: usize, layer_count: u16) -> Vec<TokenId> {
    let mut cache = Cache::new(LayerRange { first: 0, end: layer_count });
    let mut tokens = prompt.to_vec();
    let mut last = 0;
    for (position, token) in prompt.iter().enumerate() {
        last = cache.push(embed(*token, position as u32));
    }
    for _ in 0..answer {
        let token = sample(last);
        last = cache.push(embed(token, tokens.len() as u32));
        tokens.push(token);
    }
    tokens.split_off(prompt.len())
}
