//! Linear maps. Spec 01 §5.3.

use crate::limits::{BLOCK, GROUP};
use crate::scalar::flush;
use crate::{Activation, WeightRow};

/// The exact integer a row of weights and a row of activations make.
///
/// Sum over groups of n times the sum over blocks of r times the sum of (m q + o) x.
#[must_use]
pub fn accumulate(weights: &WeightRow, x: &Activation) -> i64 {
    let columns = weights.codes.len();
    let mut total = 0_i64;
    for group in (0..columns).step_by(GROUP) {
        let mut inner = 0_i64;
        for block in (group..columns.min(group + GROUP)).step_by(BLOCK) {
            let mut dot = 0_i64;
            for k in block..columns.min(block + BLOCK) {
                dot += i64::from(weights.integer(k)) * code(x, k);
            }
            inner += dot * block_multiplier(x, block);
        }
        total += inner * group_multiplier(x, group);
    }
    total
}

/// One output element: `flush((f32(accumulator) * D) * d)`, then `flush(y + bias)` if there is one.
#[must_use]
pub fn output(weights: &WeightRow, x: &Activation, bias: Option<f32>) -> f32 {
    let y = flush(accumulate(weights, x) as f32 * weights.scale * x.scale());
    match bias {
        Some(bias) => flush(y + bias),
        None => y,
    }
}

fn code(x: &Activation, k: usize) -> i64 {
    match x {
        Activation::A8(row) => row.codes[k].into(),
        Activation::A12(row) => row.codes[k].into(),
    }
}

fn block_multiplier(x: &Activation, k: usize) -> i64 {
    match x {
        Activation::A8(row) => row.block_multipliers[k / BLOCK].into(),
        Activation::A12(_) => 1,
    }
}

fn group_multiplier(x: &Activation, k: usize) -> i64 {
    match x {
        Activation::A8(row) => row.group_multipliers[k / GROUP].into(),
        Activation::A12(_) => 1,
    }
}
