//! Reading memory and doing nothing else: the ceiling that decoding is compared with.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Kernels;
use crate::per_isa::per_isa;

/// Sums that are independent of one another: enough to keep vector units from waiting.
const LANES: usize = 64;

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
    let mut lanes = [0_u64; LANES];
    let chunks = words.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk) {
            *lane = lane.wrapping_add(*word);
        }
    }
    lanes.iter().chain(rest).fold(0, |sum: u64, word| sum.wrapping_add(*word))
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
