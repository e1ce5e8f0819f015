//! How far ahead of its reader one row asks for weights.
//!
//! Memory is the limit there, and processors differ in what helps. A Zen 4 reads ahead by itself
//! and is slowed down by being asked; a Zen 5, whose share of work for each byte of 4 bits is
//! larger, reads 25 GB/s by itself and 35 when it is asked for what comes 8 KiB later. So each
//! distance is tried on the first products, and the faster one stays. It changes no result.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

/// What is tried, in bytes.
const DISTANCES: [usize; 2] = [0, 8 << 10];
/// Products that are tried in a row with the same distance: more than those of a layer, so that
/// each meets all sizes.
const RUN: u32 = 5;
/// Products that are tried.
const TRIALS: u32 = 8 * RUN;
/// Weights of a product below which caches are measured rather than memory.
const BYTES_MIN: usize = 2 << 20;

/// The choice, and what it rests on.
#[derive(Debug)]
pub(crate) struct Ahead {
    begun: AtomicU32,
    /// Least picoseconds for a byte that each distance took.
    least: [AtomicU64; DISTANCES.len()],
}

/// A product with some distance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trial {
    index: usize,
    /// Of a product that is timed: its bytes and its begin.
    timed: Option<(usize, Instant)>,
}

impl Trial {
    pub(crate) const fn distance(self) -> usize {
        DISTANCES[self.index]
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Self { begun: AtomicU32::new(0), least: DISTANCES.map(|_| AtomicU64::new(u64::MAX)) }
    }
}

impl Ahead {
    /// Before a product of `rows` rows with `bytes` of weights.
    pub(crate) fn begin(&self, bytes: usize, rows: usize) -> Trial {
        let begun = self.begun.load(Ordering::Relaxed);
        if begun >= TRIALS || rows != 1 || bytes < BYTES_MIN {
            return Trial { index: self.best(), timed: None };
        }
        let begun = self.begun.fetch_add(1, Ordering::Relaxed);
        let index = (begun / RUN) as usize % DISTANCES.len();
        Trial { index, timed: Some((bytes, Instant::now())) }
    }

    /// After it.
    pub(crate) fn end(&self, trial: Trial) {
        if let Some((bytes, begin)) = trial.timed {
            let picoseconds = begin.elapsed().as_nanos() as u64 * 1000 / bytes as u64;
            // Pages that come for the first time, and others who use the machine, only add.
            self.least[trial.index].fetch_min(picoseconds, Ordering::Relaxed);
        }
    }

    fn best(&self) -> usize {
        let least = |index: &usize| self.least[*index].load(Ordering::Relaxed);
        (0..DISTANCES.len()).min_by_key(least).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distance_is_tried_and_the_faster_one_stays() {
        let ahead = Ahead::default();
        assert_eq!(ahead.begin(1 << 30, 2).distance(), 0, "nothing is known");
        let mut tried = [0_u32; DISTANCES.len()];
        for _ in 0..TRIALS {
            let trial = ahead.begin(BYTES_MIN, 1);
            tried[trial.index] += 1;
            assert!(trial.timed.is_some());
        }
        assert_eq!(tried, [TRIALS / 2; 2]);
        for (index, least) in [(0, [5, 7]), (1, [7, 5]), (0, [5, 5])] {
            for (place, least) in ahead.least.iter().zip(least) {
                place.store(least, Ordering::Relaxed);
            }
            let trial = ahead.begin(BYTES_MIN, 1);
            assert_eq!((trial.index, trial.timed), (index, None));
        }
    }

    #[test]
    fn what_is_timed_is_the_least_for_a_byte() {
        let ahead = Ahead::default();
        let trial = ahead.begin(BYTES_MIN, 1);
        std::thread::sleep(std::time::Duration::from_millis(2));
        ahead.end(trial);
        let least = ahead.least[0].load(Ordering::Relaxed);
        assert!(least >= 2_000_000_000 / BYTES_MIN as u64, "{least} ps");
        assert_eq!(ahead.least[1].load(Ordering::Relaxed), u64::MAX);
    }
}
