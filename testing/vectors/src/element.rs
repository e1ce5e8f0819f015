//! Element-wise operations. Spec 01 §6.3, §6.4.

use serde::{Deserialize, Serialize};
use shoal_arith::WeightRow;
use shoal_arith::reference::element::{add, add_to_bf16, embed, pool_add, pool_mean, silu_mul};

use crate::hex::Hex;
use crate::linear::Row;
use crate::numbers::{Numbers, two};

/// One operation on rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "operation", rename_all = "snake_case")]
pub enum ElementCase {
    /// The gated unit; `y` is `None` for a fault.
    SiluMul {
        /// Gate.
        gate: Hex<f32>,
        /// Up.
        up: Hex<f32>,
        /// Result.
        y: Option<Hex<f32>>,
    },
    /// The addition inside a layer.
    Add {
        /// Left.
        h: Hex<f32>,
        /// Right.
        x: Hex<f32>,
        /// Result.
        y: Hex<f32>,
    },
    /// The addition at a layer's end.
    AddToBf16 {
        /// Left.
        h: Hex<f32>,
        /// Right.
        x: Hex<f32>,
        /// Result.
        y: Hex<u16>,
    },
    /// The first row of a token.
    Embed {
        /// The token's row of the embedding.
        row: Row,
        /// Result.
        y: Hex<u16>,
    },
    /// The mean of final states.
    Pool {
        /// States, one after the other.
        states: Hex<f32>,
        /// How many.
        count: usize,
        /// Result.
        mean: Hex<f32>,
    },
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<ElementCase> {
    let mut numbers = Numbers(5);
    let mut pairs = Vec::new();
    let mut awkward = |size: usize| {
        let mut x: Vec<f32> = (0..size).map(|_| numbers.spread(-100, 60)).collect();
        x.extend(numbers.floats(size, 6.0));
        x.extend([0.0, two(-100), -two(-100), two(99), 1.0, -1.0]);
        x
    };
    pairs.push((awkward(20), awkward(20)));
    let mut negated = awkward(9);
    negated.reverse();
    pairs.push((negated.clone(), negated.iter().map(|x| -x).collect()));
    let mut cases = Vec::new();
    for (a, b) in &pairs {
        cases.push(gated(a, b));
        let mut y = a.clone();
        add(&mut y, b);
        cases.push(ElementCase::Add { h: Hex(a.clone()), x: Hex(b.clone()), y: Hex(y) });
        let mut y = vec![0; a.len()];
        add_to_bf16(a, b, &mut y);
        cases.push(ElementCase::AddToBf16 { h: Hex(a.clone()), x: Hex(b.clone()), y: Hex(y) });
    }
    for bad in [f32::NAN, f32::NEG_INFINITY, two(100)] {
        cases.push(gated(&[1.0, bad], &[2.0, 3.0]));
        cases.push(gated(&[1.0, 2.0], &[bad, 3.0]));
    }
    cases.push(gated(&[two(99), 1.0], &[two(99), 1.0]));
    cases.push(overflowing_sum());
    cases.extend([0.003, -1e-9, two(40)].map(|scale| embedded(&mut numbers, scale)));
    cases.push(pooled(&mut numbers));
    cases
}

fn gated(gate: &[f32], up: &[f32]) -> ElementCase {
    let mut y = vec![0.0; gate.len()];
    let sound = silu_mul(gate, up, &mut y).is_ok();
    ElementCase::SiluMul {
        gate: Hex(gate.to_vec()),
        up: Hex(up.to_vec()),
        y: sound.then_some(Hex(y)),
    }
}

/// What IEEE 754 makes of sums that leave the range, and of NaN.
fn overflowing_sum() -> ElementCase {
    let h = vec![f32::MAX, f32::MAX, -f32::MAX, f32::INFINITY, f32::NAN, 1.0];
    let x = vec![f32::MAX, 1.0, -f32::MAX, f32::NEG_INFINITY, 1.0, f32::INFINITY];
    let mut y = vec![0; h.len()];
    add_to_bf16(&h, &x, &mut y);
    ElementCase::AddToBf16 { h: Hex(h), x: Hex(x), y: Hex(y) }
}

fn embedded(numbers: &mut Numbers, scale: f32) -> ElementCase {
    let codes: Vec<i8> = (0..40).map(|_| numbers.within(-8, 7) as i8).collect();
    let weights = WeightRow { codes, multipliers: vec![-127, 5], offsets: vec![2040, -3], scale };
    let mut y = vec![0; weights.codes.len()];
    embed(&weights, &mut y);
    let row = Row {
        scale: Hex(vec![scale]),
        multipliers: weights.multipliers,
        offsets: weights.offsets,
        codes: Hex(weights.codes),
    };
    ElementCase::Embed { row, y: Hex(y) }
}

fn pooled(numbers: &mut Numbers) -> ElementCase {
    let (width, count) = (9, 7);
    let mut states = numbers.floats(width * count, 3.0);
    (states[0], states[width], states[1]) = (two(30), -two(60), two(-22));
    let mut sums = vec![0; width];
    states.chunks_exact(width).for_each(|row| pool_add(&mut sums, row));
    ElementCase::Pool { states: Hex(states), count, mean: Hex(pool_mean(&sums, count)) }
}
