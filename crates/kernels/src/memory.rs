//! Memory: who shares it, and reading it and doing nothing else, the ceiling that decoding is
//! compared with.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Kernels;
use crate::per_isa::per_isa;

/// Words of a line of the cache.
const LINE_WORDS: usize = 8;
/// Sums that do not wait for one another.
const CHAINS: usize = 4;
const CHUNK_WORDS: usize = CHAINS * LINE_WORDS;

/// One heap for all threads; to be called before there is a second one. With a heap for each, every
/// wave of connections fills that of another thread, and what a server holds grows for minutes.
/// Small pieces come from a store of each thread all the same.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn share_one_heap() {
    // SAFETY: it sets a number of the allocator. Where it is refused everything stays as it was.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// One heap for all threads, where the allocator has several.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn share_one_heap() {}

impl Kernels {
    /// Reads every word once, on all threads, and returns their sum (modulo 2^64).
    #[must_use]
    pub fn read_all(&self, words: &[u64]) -> u64 {
        let total = AtomicU64::new(0);
        self.team().split(words.len(), &|range| {
            total.fetch_add(sum(self.isa(), &words[range]), Ordering::Relaxed);
        });
        total.into_inner()
    }
}

per_isa! {
    /// The sum of all words.
    fn sum(words: &[u64]) -> u64 = sum_generic;
}

#[inline(always)]
fn sum_generic(words: &[u64]) -> u64 {
    // In the order of memory: the machine reads ahead by itself.
    let (chunks, rest) = words.split_at(words.len() / CHUNK_WORDS * CHUNK_WORDS);
    let mut lanes = [[0_u64; LINE_WORDS]; CHAINS];
    for at in (0..chunks.len()).step_by(CHUNK_WORDS) {
        for (chain, lanes) in lanes.iter_mut().enumerate() {
            let line = &chunks[at + chain * LINE_WORDS..][..LINE_WORDS];
            for (lane, word) in lanes.iter_mut().zip(line) {
                *lane = lane.wrapping_add(*word);
            }
        }
    }
    lanes.iter().flatten().chain(rest).fold(0, |sum: u64, word| sum.wrapping_add(*word))
}

#[cfg(test)]
mod tests {
    use crate::{Isa, Kernels};

    #[test]
    fn every_word_is_read_once() {
        let words: Vec<u64> = (0..10_007).map(|i| (u64::MAX / 3).wrapping_mul(i)).collect();
        let expected = words.iter().fold(0, |sum: u64, word| sum.wrapping_add(*word));
        for isa in Isa::available() {
            let kernels = Kernels::new(isa, 3).expect("available");
            assert_eq!(kernels.read_all(&words), expected);
            assert_eq!(kernels.read_all(&[]), 0);
        }
    }
}
