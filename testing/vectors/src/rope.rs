//! Rotary positions. Spec 01 §6.2.

use serde::{Deserialize, Serialize};
use shoal_arith::reference::rope::{Pairing, rotate};
use shoal_arith::tables::RopeTables;

use crate::hex::Hex;
use crate::numbers::Numbers;

/// One head at one position.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RopeCase {
    /// Which elements pair up: interleaved, or half.
    pub interleaved: bool,
    /// The position.
    pub position: usize,
    /// Cosine and sine of each pair, alternating: the row of the coarse table.
    pub coarse: Hex<f64>,
    /// The same of the fine table.
    pub fine: Hex<f64>,
    /// The angles that follow.
    pub cos: Hex<f32>,
    /// The angles that follow.
    pub sin: Hex<f32>,
    /// The head before.
    pub head: Hex<f32>,
    /// The head after.
    pub rotated: Hex<f32>,
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<RopeCase> {
    let cases = [(0, 3, 6), (255, 4, 8), (256, 4, 8), (777, 2, 8), (1023, 5, 12)];
    let both = cases.into_iter().flat_map(|case| [(true, case), (false, case)]);
    both.map(|(interleaved, (position, pairs, width))| case(interleaved, position, pairs, width))
        .collect()
}

/// Entries of the tables are any numbers here, made without a cosine, so that they are the same
/// everywhere.
fn case(interleaved: bool, position: usize, pairs: usize, width: usize) -> RopeCase {
    let mut numbers = Numbers((position * 31 + pairs) as u64);
    let mut entry = || {
        let mut number = || (numbers.next() >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
        (number(), number())
    };
    let coarse_count = position / 256 + 1;
    let tables = RopeTables {
        pairs,
        coarse: (0..coarse_count * pairs).map(|_| entry()).collect(),
        fine: (0..256 * pairs).map(|_| entry()).collect(),
    };
    let (mut cos, mut sin) = (vec![0.0; pairs], vec![0.0; pairs]);
    tables.angles(position, &mut cos, &mut sin);
    let mut head: Vec<f32> = (0..width).map(|_| numbers.float(3.0)).collect();
    head[0] = 1e-25;
    let before = head.clone();
    rotate(&mut head, &cos, &sin, pairing(interleaved));
    let row = |table: &[(f64, f64)], at: usize| {
        let row = &table[at * pairs..(at + 1) * pairs];
        Hex(row.iter().flat_map(|&(cos, sin)| [cos, sin]).collect())
    };
    RopeCase {
        interleaved,
        position,
        coarse: row(&tables.coarse, position / 256),
        fine: row(&tables.fine, position % 256),
        cos: Hex(cos),
        sin: Hex(sin),
        head: Hex(before),
        rotated: Hex(head),
    }
}

/// The word for the flag.
#[must_use]
pub const fn pairing(interleaved: bool) -> Pairing {
    match interleaved {
        true => Pairing::Interleaved,
        false => Pairing::Half,
    }
}
