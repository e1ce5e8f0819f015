//! The order of an epoch: which pieces of which documents make sample 0, 1, 2, …
//!
//! A function of (run, epoch, lengths, sample length), so a position in a run is two numbers.

use std::ops::Range;

use shoal_base::Digest;

use crate::random::{Purpose, Random};

/// Samples that are being filled at a time. More waste less room, and mix neighbours more.
const OPEN_SAMPLES: usize = 32;

/// Rows of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Index of the document.
    pub document: usize,
    /// Its rows.
    pub rows: Range<usize>,
}

/// All samples of an epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochPlan {
    samples: Vec<Vec<Piece>>,
}

impl EpochPlan {
    /// Shuffles documents of `rows[i]` rows, cuts those that are longer than a sample, and puts
    /// each piece into the oldest open sample it fits in. When too many are open the oldest is
    /// closed.
    ///
    /// # Panics
    /// When samples have no rows.
    #[must_use]
    pub fn new(run: Digest, epoch: u64, rows: &[usize], sample_rows: usize) -> Self {
        assert!(sample_rows > 0, "samples have rows");
        let mut order: Vec<usize> = (0..rows.len()).collect();
        Random::new(run, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
        let mut samples = Vec::new();
        let mut open: Vec<(usize, Vec<Piece>)> = Vec::new();
        for document in order {
            let mut start = 0;
            while start < rows[document] {
                let end = rows[document].min(start + sample_rows);
                let piece = Piece { document, rows: start..end };
                place(&mut open, &mut samples, piece, sample_rows);
                start = end;
            }
        }
        samples.extend(open.into_iter().map(|(_, pieces)| pieces));
        Self { samples }
    }

    /// Samples of the epoch.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The pieces of a sample.
    #[must_use]
    pub fn sample(&self, index: usize) -> Option<&[Piece]> {
        self.samples.get(index).map(Vec::as_slice)
    }
}

fn place(
    open: &mut Vec<(usize, Vec<Piece>)>,
    samples: &mut Vec<Vec<Piece>>,
    piece: Piece,
    sample_rows: usize,
) {
    let rows = piece.rows.len();
    let fits = open.iter().position(|(used, _)| used + rows <= sample_rows);
    let index = fits.unwrap_or_else(|| {
        if open.len() == OPEN_SAMPLES {
            samples.push(open.remove(0).1);
        }
        open.push((0, Vec::new()));
        open.len() - 1
    });
    let (used, pieces) = &mut open[index];
    *used += rows;
    pieces.push(piece);
    if *used == sample_rows {
        samples.push(open.remove(index).1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_is_planned_once_and_no_sample_is_too_long(
            rows in proptest::collection::vec(0_usize..700, 0..200),
            sample_rows in 1_usize..512,
            epoch in 0_u64..3,
        ) {
            let plan = EpochPlan::new(Digest::of(b"run"), epoch, &rows, sample_rows);
            let mut seen: Vec<Vec<bool>> = rows.iter().map(|&n| vec![false; n]).collect();
            for index in 0..plan.len() {
                let pieces = plan.sample(index).expect("inside");
                let used: usize = pieces.iter().map(|p| p.rows.len()).sum();
                prop_assert!(used > 0 && used <= sample_rows);
                for piece in pieces {
                    for row in piece.rows.clone() {
                        prop_assert!(!std::mem::replace(&mut seen[piece.document][row], true));
                    }
                }
            }
            prop_assert!(seen.iter().flatten().all(|&seen| seen));
        }
    }

    #[test]
    fn epochs_have_their_own_order_and_little_waste() {
        let rows: Vec<usize> = (0..1000).map(|i| 100 + i * 37 % 200).collect();
        let plan = |epoch| EpochPlan::new(Digest::of(b"run"), epoch, &rows, 512);
        assert_eq!(plan(0), plan(0));
        assert_ne!(plan(0), plan(1));
        let full = rows.iter().sum::<usize>() as f64 / 512.0;
        assert!((plan(0).len() as f64) < full * 1.1, "{} of {full}", plan(0).len());
    }
}
