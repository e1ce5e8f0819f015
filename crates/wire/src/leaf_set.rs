//! Sets of leaves of one blob. Spec 03, 8.

use crate::limits::{BLOB_RANGES_MAX, LEAVES_MAX};
use crate::{BlobRange, List};

/// Leaves in a word.
const WORD: u32 = u64::BITS;

/// Some of the leaves of a blob.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeafSet {
    /// How many leaves the blob has.
    count: u32,
    words: Vec<u64>,
}

impl LeafSet {
    /// None of `count` leaves.
    #[must_use]
    pub fn new(count: u32) -> Self {
        debug_assert!(count as usize <= LEAVES_MAX, "no blob has more");
        Self { count, words: vec![0; count.div_ceil(WORD) as usize] }
    }

    /// All of `count` leaves.
    #[must_use]
    pub fn full(count: u32) -> Self {
        let mut set = Self::new(count);
        for leaf in 0..count {
            set.insert(leaf);
        }
        set
    }

    /// The leaves of ranges, as far as there are such leaves.
    #[must_use]
    pub fn of(count: u32, ranges: &[BlobRange]) -> Self {
        let mut set = Self::new(count);
        for range in ranges {
            let end = range.first.saturating_add(range.count).min(count);
            for leaf in range.first..end {
                set.insert(leaf);
            }
        }
        set
    }

    /// How many leaves the blob has.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many are in the set.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether none is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether all are in it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == self.count
    }

    /// Whether a leaf is in it.
    #[must_use]
    pub fn contains(&self, leaf: u32) -> bool {
        leaf < self.count && self.words[(leaf / WORD) as usize] >> (leaf % WORD) & 1 == 1
    }

    /// Adds a leaf. Says whether it is new and of this blob.
    pub fn insert(&mut self, leaf: u32) -> bool {
        let is_new = leaf < self.count && !self.contains(leaf);
        if is_new {
            self.words[(leaf / WORD) as usize] |= 1 << (leaf % WORD);
        }
        is_new
    }

    /// Takes a leaf out.
    pub fn remove(&mut self, leaf: u32) {
        if leaf < self.count {
            self.words[(leaf / WORD) as usize] &= !(1 << (leaf % WORD));
        }
    }

    /// The first leaf that is in both.
    #[must_use]
    pub fn first_common(&self, other: &Self) -> Option<u32> {
        let words = self.words.iter().zip(&other.words).map(|(a, b)| a & b);
        let (index, word) = words.enumerate().find(|(_, word)| *word != 0)?;
        u32::try_from(index).ok().map(|index| index * WORD + word.trailing_zeros())
    }

    /// The leaves in it, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        (0..self.count).filter(|leaf| self.contains(*leaf))
    }

    /// As ranges. What is beyond the most a message holds is left out.
    #[must_use]
    pub fn ranges(&self) -> List<BlobRange, BLOB_RANGES_MAX> {
        let mut ranges: Vec<BlobRange> = Vec::new();
        for leaf in self.iter() {
            let is_full = ranges.len() == BLOB_RANGES_MAX;
            match ranges.last_mut() {
                Some(last) if last.first + last.count == leaf => last.count += 1,
                _ if is_full => break,
                _ => ranges.push(BlobRange { first: leaf, count: 1 }),
            }
        }
        List::truncated(ranges)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_and_its_ranges_are_the_same() {
        for count in [1, 63, 64, 65, 200] {
            let full = LeafSet::full(count);
            assert!(full.is_full() && !full.is_empty());
            assert_eq!(&full.ranges()[..], [BlobRange { first: 0, count }]);
            let mut some = LeafSet::new(count);
            assert!(some.is_empty() && !some.is_full());
            let picked: Vec<u32> = (0..count).filter(|leaf| leaf % 5 != 2).collect();
            assert!(picked.iter().all(|leaf| some.insert(*leaf) && !some.insert(*leaf)));
            assert!(some.iter().eq(picked.iter().copied()));
            assert_eq!(LeafSet::of(count, &some.ranges()), some);
            assert_eq!(some.len() as usize, picked.len());
            some.remove(0);
            assert!(!some.contains(0) && !some.insert(count) && !some.contains(count));
        }
        let beyond = [BlobRange { first: 3, count: u32::MAX }];
        assert_eq!(LeafSet::of(5, &beyond).len(), 2);
    }

    #[test]
    fn ranges_that_do_not_fit_into_a_message_are_left_out() {
        let mut set = LeafSet::new(1000);
        for leaf in (0..1000).step_by(2) {
            set.insert(leaf);
        }
        assert_eq!(LeafSet::of(1000, &set.ranges()).len() as usize, BLOB_RANGES_MAX);
    }
}
