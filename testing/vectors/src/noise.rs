//! Noise. Spec 01 §9.2.

use serde::{Deserialize, Serialize};
use shoal_arith::reference::noise::{Noise, gumbel};

use crate::hex::Hex;

/// Some tokens of one position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoiseCase {
    /// The seed, in decimal: JSON readers round such numbers.
    pub seed: String,
    /// The position.
    pub position: u32,
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Their words.
    pub words: Hex<u32>,
    /// Their noise.
    pub noise: Hex<f64>,
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<NoiseCase> {
    let seeds = [(0, 0), (1, 0), (0, 1), (42, 1_048_575), (u64::MAX, 77)];
    seeds.into_iter().map(|(seed, position)| case(seed, position)).collect()
}

fn case(seed: u64, position: u32) -> NoiseCase {
    let tokens = vec![0, 1, 2, 15, 16, 17, 255, 256, 31_999, 128_255, 1_048_575];
    let mut noise = Noise::new(seed, position);
    let words: Vec<u32> = tokens.iter().map(|&token| noise.word(token)).collect();
    NoiseCase {
        seed: seed.to_string(),
        position,
        tokens,
        noise: Hex(words.iter().map(|&word| gumbel(word)).collect()),
        words: Hex(words),
    }
}
