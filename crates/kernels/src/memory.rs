//! Reading memory and doing nothing else: the ceiling that decoding is compared with.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Kernels;
use crate::per_isa::per_isa;

/// Words taken from one place at a time: a line of the cache.
const LINE_WORDS: usize = 8;
/// Places each thread reads from, as the matrix kernels do: memory gives more to several.
const STREAMS: usize = 4;

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
    let apart = words.len() / (STREAMS * LINE_WORDS) * LINE_WORDS;
    let (streams, rest) = words.split_at(STREAMS * apart);
    let mut lanes = [[0_u64; LINE_WORDS]; STREAMS];
    for at in (0..apart).step_by(LINE_WORDS) {
        for (stream, lanes) in lanes.iter_mut().enumerate() {
            let line = &streams[stream * apart + at..][..LINE_WORDS];
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
