//! Deterministic mutations of seeds: the same seed and number give the same input on every machine.

/// Longest input; larger ones find nothing that these do not.
const INPUT_BYTES_MAX: usize = 1 << 16;
/// Mutations of one input, at most.
const STEPS_MAX: u64 = 6;
/// Numbers at which length and range checks break.
const EDGES: [u64; 13] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    1 << 40,
    i64::MAX as u64,
    u64::MAX,
];
/// Text at which readers of text break.
const WORDS: [&str; 16] = [
    "-1",
    "1e999",
    "1e-999",
    "NaN",
    "null",
    "true",
    "{}",
    "[]",
    "\"\"",
    "\\u0000",
    "\\ud800",
    "99999999999999999999",
    "4294967296",
    "[[[[[[[[[[[[[[[[",
    "\u{10ffff}",
    "\u{202e}",
];

/// Counts through inputs made from seeds.
#[derive(Debug)]
pub(crate) struct Mutator<'a> {
    seeds: &'a [Vec<u8>],
    numbers: Numbers,
}

impl<'a> Mutator<'a> {
    /// `name` makes the inputs of targets differ.
    pub(crate) fn new(name: &str, seeds: &'a [Vec<u8>]) -> Self {
        let digest = blake3::hash(name.as_bytes());
        let start = digest.as_bytes().first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk));
        Self { seeds, numbers: Numbers(start) }
    }

    /// The next input.
    pub(crate) fn input(&mut self) -> Vec<u8> {
        let mut bytes = self.seed().to_vec();
        for _ in 0..=self.numbers.below(STEPS_MAX) {
            self.step(&mut bytes);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    fn seed(&mut self) -> &'a [u8] {
        let index = self.numbers.index(self.seeds.len());
        self.seeds.get(index).map(Vec::as_slice).unwrap_or_default()
    }

    fn step(&mut self, bytes: &mut Vec<u8>) {
        let at = self.numbers.index(bytes.len() + 1);
        let end = at + self.numbers.index(bytes.len() - at + 1);
        match self.numbers.below(9) {
            0 => self.flip(bytes),
            1 => self.overwrite_byte(bytes),
            2 | 3 => self.overwrite_number(bytes, at),
            4 => bytes.truncate(at),
            5 => drop(bytes.drain(at..end)),
            6 => {
                let piece = bytes[at..end].to_vec();
                insert(bytes, end, &piece);
            }
            7 => {
                let word = WORDS[self.numbers.index(WORDS.len())];
                let until = if self.numbers.below(2) == 0 { at } else { end };
                bytes.drain(at..until);
                insert(bytes, at, word.as_bytes());
            }
            _ => {
                let other = self.seed();
                let from = self.numbers.index(other.len() + 1);
                bytes.truncate(at);
                insert(bytes, at, &other[from..]);
            }
        }
    }

    fn flip(&mut self, bytes: &mut [u8]) {
        let index = self.numbers.index(bytes.len());
        if let Some(byte) = bytes.get_mut(index) {
            *byte ^= 1 << self.numbers.below(8);
        }
    }

    fn overwrite_byte(&mut self, bytes: &mut [u8]) {
        let index = self.numbers.index(bytes.len());
        if let Some(byte) = bytes.get_mut(index) {
            *byte = self.numbers.next().to_le_bytes()[0];
        }
    }

    /// An edge, or a number next to it, in 1, 2, 4 or 8 bytes of either order.
    fn overwrite_number(&mut self, bytes: &mut [u8], at: usize) {
        let edge = EDGES[self.numbers.index(EDGES.len())];
        let number = edge.wrapping_add(self.numbers.below(3)).wrapping_sub(1);
        let width = 1 << self.numbers.below(4);
        let mut field = number.to_le_bytes()[..width].to_vec();
        if self.numbers.below(4) == 0 {
            field.reverse();
        }
        for (byte, new) in bytes.iter_mut().skip(at).zip(field) {
            *byte = new;
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    if bytes.len() + piece.len() <= INPUT_BYTES_MAX {
        bytes.splice(at..at, piece.iter().copied());
    }
}

/// `SplitMix64`: small, and good enough to choose mutations.
#[derive(Debug)]
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// In `0..limit`; 0 when there is nothing to choose from.
    fn below(&mut self, limit: u64) -> u64 {
        self.next().checked_rem(limit).unwrap_or(0)
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{INPUT_BYTES_MAX, Mutator};

    #[test]
    fn inputs_repeat_from_run_to_run_and_differ_between_targets() {
        let seeds = [b"{\"a\":1}".to_vec(), b"[0,1,2]".to_vec()];
        let inputs = |name| {
            let mut mutator = Mutator::new(name, &seeds);
            (0..100).map(|_| mutator.input()).collect::<Vec<_>>()
        };
        assert_eq!(inputs("a"), inputs("a"));
        assert_ne!(inputs("a"), inputs("b"));
    }

    #[test]
    fn any_seed_will_do_and_inputs_stay_short() {
        let seeds = [Vec::new(), vec![7; INPUT_BYTES_MAX]];
        for seeds in [&seeds[..], &[]] {
            let mut mutator = Mutator::new("a", seeds);
            assert!((0..2000).all(|_| mutator.input().len() <= INPUT_BYTES_MAX));
        }
    }
}
