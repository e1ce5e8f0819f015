//! Sampling noise. Spec 01 §9.2.

use crate::scalar::ln;

/// Domain of the noise stream.
const DOMAIN: &str = "shoal/noise/v1";

/// Bytes of one block of the stream.
const BLOCK_BYTES: usize = 64;

/// Standard Gumbel noise for every token of one position: a function of (seed, position, token).
///
/// Token `i` takes bytes `4 i .. 4 i + 4` of the BLAKE3 output stream of the 12 bytes
/// `seed (u64) | position (u32)`, little-endian, under the key derived from the domain.
#[derive(Debug)]
pub struct Noise {
    stream: blake3::OutputReader,
    block: [u8; BLOCK_BYTES],
    block_index: Option<u64>,
}

impl Noise {
    /// The noise of `position` under `seed`.
    #[must_use]
    pub fn new(seed: u64, position: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        hasher.update(&seed.to_le_bytes());
        hasher.update(&position.to_le_bytes());
        Self { stream: hasher.finalize_xof(), block: [0; BLOCK_BYTES], block_index: None }
    }

    /// The random word of `token`.
    pub fn word(&mut self, token: u32) -> u32 {
        let byte = u64::from(token) * 4;
        let block_index = byte / BLOCK_BYTES as u64;
        if self.block_index != Some(block_index) {
            self.stream.set_position(block_index * BLOCK_BYTES as u64);
            self.stream.fill(&mut self.block);
            self.block_index = Some(block_index);
        }
        let at = (byte % BLOCK_BYTES as u64) as usize;
        u32::from_le_bytes(self.block[at..at + 4].try_into().expect("four bytes"))
    }

    /// The noise of `token`.
    pub fn gumbel(&mut self, token: u32) -> f64 {
        gumbel(self.word(token))
    }
}

/// `-ln(-ln(u))` with `u = (word + 1/2) / 2^32`. Grows with `word`.
#[must_use]
pub fn gumbel(word: u32) -> f64 {
    let u = (f64::from(word) + 0.5) / 4_294_967_296.0;
    -ln(-ln(u))
}

/// No noise exceeds this: `-ln(-ln(1 - 2^-33))` is 22.87.
pub const GUMBEL_MAX: f64 = 22.88;
/// No noise is below this: `-ln(-ln(2^-33))` is -3.13.
pub const GUMBEL_MIN: f64 = -3.2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_depends_only_on_seed_position_and_token() {
        let mut a = Noise::new(7, 3);
        let forward: Vec<f64> = (0..100).map(|t| a.gumbel(t)).collect();
        let mut b = Noise::new(7, 3);
        let backward: Vec<f64> = (0..100).rev().map(|t| b.gumbel(t)).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        assert_ne!(forward[0], Noise::new(8, 3).gumbel(0));
        assert_ne!(forward[0], Noise::new(7, 4).gumbel(0));
    }

    #[test]
    fn noise_is_gumbel_distributed() {
        let mut noise = Noise::new(1, 0);
        let samples: Vec<f64> = (0..200_000).map(|t| noise.gumbel(t)).collect();
        let mean = samples.iter().sum::<f64>() / samples.len() as f64;
        assert!((mean - 0.577_215_66).abs() < 0.01, "{mean}");
        assert!(samples.iter().all(|&g| (GUMBEL_MIN..GUMBEL_MAX).contains(&g)));
    }
}
