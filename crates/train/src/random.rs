//! Randomness as a function of (run, purpose, step, sample). Spec 05 §7.
//!
//! There is no state to save: whoever knows the four words makes the same numbers, in any order.

use shoal_base::Digest;

/// Domain of the streams.
const DOMAIN: &str = "shoal/train/random/v1";

/// What a stream is for. Streams of different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// First values of the parameters; the sample is the index of the tensor.
    Init,
    /// Order of the documents; the step is the epoch.
    Shuffle,
    /// Sampling of synthetic text.
    Synthesis,
}

impl Purpose {
    const fn number(self) -> u8 {
        match self {
            Self::Init => 0,
            Self::Shuffle => 1,
            Self::Synthesis => 2,
        }
    }
}

/// A stream of random words.
#[derive(Debug)]
pub struct Random {
    stream: blake3::OutputReader,
}

impl Random {
    /// The stream of `(run, purpose, step, sample)`.
    #[must_use]
    pub fn new(run: Digest, purpose: Purpose, step: u64, sample: u64) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        hasher.update(&run.0);
        hasher.update(&[purpose.number()]);
        hasher.update(&step.to_le_bytes());
        hasher.update(&sample.to_le_bytes());
        Self { stream: hasher.finalize_xof() }
    }

    /// The next 32 bits.
    pub fn word(&mut self) -> u32 {
        let mut bytes = [0; 4];
        self.stream.fill(&mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// The next 64 bits.
    pub fn long(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.stream.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// A number in `0..bound`, each equally likely. `bound` is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // Words beyond the last whole multiple of `bound` would favour small numbers.
        let limit = u64::MAX - u64::MAX % bound;
        loop {
            let word = self.long();
            if word < limit {
                return word % bound;
            }
        }
    }

    /// A multiple of 2^-23 in [-1, 1), each equally likely.
    pub fn signed_unit(&mut self) -> f32 {
        (self.word() >> 8) as f32 / (1_u32 << 23) as f32 - 1.0
    }

    /// Puts `items` into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let chosen = self.below(last as u64 + 1) as usize;
            items.swap(last, chosen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_every_word_and_nothing_else() {
        let run = Digest::of(b"run");
        let first = |run, purpose, step, sample| Random::new(run, purpose, step, sample).long();
        let base = first(run, Purpose::Init, 1, 2);
        assert_eq!(base, first(run, Purpose::Init, 1, 2));
        assert_ne!(base, first(Digest::of(b"other"), Purpose::Init, 1, 2));
        assert_ne!(base, first(run, Purpose::Shuffle, 1, 2));
        assert_ne!(base, first(run, Purpose::Init, 2, 2));
        assert_ne!(base, first(run, Purpose::Init, 1, 3));
    }

    #[test]
    fn a_shuffle_keeps_every_item_and_units_are_balanced() {
        let mut random = Random::new(Digest::of(b"run"), Purpose::Shuffle, 0, 0);
        let mut items: Vec<u32> = (0..1000).collect();
        random.shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
        let units: Vec<f32> = (0..10_000).map(|_| random.signed_unit()).collect();
        assert!(units.iter().all(|u| (-1.0..1.0).contains(u)));
        assert!((units.iter().sum::<f32>() / 1e4).abs() < 0.02);
    }
}
