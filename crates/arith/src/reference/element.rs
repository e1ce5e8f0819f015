//! Element-wise operations on rows. Spec 01 §6.3.

use crate::limits::POOL_BITS;
use crate::scalar::{flush, from_bf16, is_sound, silu, to_bf16};
use crate::{Fault, WeightRow};

/// The gated unit: `y = flush(flush(silu(gate)) * up)`. All `[F]`.
///
/// # Errors
/// An element is not sound.
pub fn silu_mul(gate: &[f32], up: &[f32], y: &mut [f32]) -> Result<(), Fault> {
    if !gate.iter().chain(up).all(|&x| is_sound(x)) {
        return Err(Fault);
    }
    for ((y, &gate), &up) in y.iter_mut().zip(gate).zip(up) {
        *y = flush(flush(silu(gate)) * up);
    }
    Ok(())
}

/// `h = flush(h + x)`: the first addition of a layer, kept in f32.
pub fn add(h: &mut [f32], x: &[f32]) {
    for (h, &x) in h.iter_mut().zip(x) {
        *h = flush(*h + x);
    }
}

/// `row = bf16(flush(h + x))`: the addition at a layer's end, where the residual is rounded.
pub fn add_to_bf16(h: &[f32], x: &[f32], row: &mut [u16]) {
    for ((row, &h), &x) in row.iter_mut().zip(h).zip(x) {
        *row = to_bf16(flush(h + x));
    }
}

/// The f32 of a residual row.
pub fn widen(row: &[u16], h: &mut [f32]) {
    for (h, &row) in h.iter_mut().zip(row) {
        *h = from_bf16(row);
    }
}

/// A token's first residual row: `bf16(flush(f32(m q + o) * D))`.
pub fn embed(weights: &WeightRow, row: &mut [u16]) {
    for (k, row) in row.iter_mut().enumerate() {
        *row = to_bf16(flush(weights.integer(k) as f32 * weights.scale));
    }
}

/// Adds a sound row to integer sums: each element rounded to 2^-20; 2^20 and above saturate.
pub fn pool_add(sums: &mut [i64], row: &[f32]) {
    let unit = f64::from(1_u32 << POOL_BITS);
    let limit = unit * unit;
    for (sum, &y) in sums.iter_mut().zip(row) {
        *sum += (f64::from(y) * unit).clamp(-limit, limit).round_ties_even() as i64;
    }
}

/// The mean of the `count` rows that were added.
#[must_use]
pub fn pool_mean(sums: &[i64], count: usize) -> Vec<f32> {
    let unit = f64::from(1_u32 << POOL_BITS);
    sums.iter().map(|&sum| (sum as f64 / (count as f64 * unit)) as f32).collect()
}
