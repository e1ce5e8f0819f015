//! RMS norm. Spec 01 §6.1.

use crate::Fault;
use crate::activation::largest;
use crate::limits::{LARGEST, NORM_CODE_MAX};
use crate::scalar::{flush, round_even};

/// `y = x / sqrt(mean(x^2) + epsilon) * weight`; the squares are those of 16-bit codes of `x`.
///
/// `x`, `weight`, `y`: `[width]`.
///
/// # Errors
/// An element of `x` is not sound.
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) -> Result<(), Fault> {
    let max = NORM_CODE_MAX as f32;
    let amax = largest(x, LARGEST)?;
    if amax == 0.0 {
        y.fill(0.0);
        return Ok(());
    }
    let to_code = max / amax;
    let squares: u64 = x
        .iter()
        .map(|&x| round_even((x * to_code).clamp(-max, max)) as i64)
        .map(|q| (q * q).cast_unsigned())
        .sum();
    let unit = amax / max;
    let mean = squares as f32 / x.len() as f32;
    let inverse = 1.0 / ((mean * unit) * unit + epsilon).sqrt();
    for ((y, &x), &weight) in y.iter_mut().zip(x).zip(weight) {
        *y = flush((x * inverse) * weight);
    }
    Ok(())
}
