//! Activations as integers: a8 and a12. Spec 01 §4.
//!
//! a8: `x[k] ~ d * n[k / 256] * r[k / 32] * q[k]`, q in -127..=127. a12: `x[k] ~ d * q[k]`.

use crate::Fault;
use crate::limits::{
    A8_BLOCK_MULTIPLIER_MAX, A8_CODE_MAX, A8_GROUP_MULTIPLIER_MAX, A12_CODE_MAX, BLOCK, GROUP,
    LARGEST,
};
use crate::scalar::{magnitude_bits, round_even};

/// How the inputs of a linear map are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ActivationFormat {
    /// 8-bit codes with multipliers per block and group.
    A8,
    /// 12-bit codes under one scale; for inputs with outliers.
    A12,
}

/// A row in a8.
#[derive(Clone, Debug, PartialEq)]
pub struct A8Row {
    /// `[columns]`
    pub codes: Vec<i8>,
    /// `r`, `[ceil(columns / 32)]`
    pub block_multipliers: Vec<u8>,
    /// `n`, `[ceil(columns / 256)]`
    pub group_multipliers: Vec<u16>,
    /// `d`
    pub scale: f32,
}

/// A row in a12.
#[derive(Clone, Debug, PartialEq)]
pub struct A12Row {
    /// `[columns]`
    pub codes: Vec<i16>,
    /// `d`
    pub scale: f32,
}

/// A row in either format.
#[derive(Clone, Debug, PartialEq)]
pub enum Activation {
    /// See [`A8Row`].
    A8(A8Row),
    /// See [`A12Row`].
    A12(A12Row),
}

impl Activation {
    /// Quantizes `row` in `format`.
    ///
    /// # Errors
    /// An element is not sound.
    pub fn quantize(row: &[f32], format: ActivationFormat) -> Result<Self, Fault> {
        match format {
            ActivationFormat::A8 => quantize_a8(row).map(Self::A8),
            ActivationFormat::A12 => quantize_a12(row, LARGEST).map(Self::A12),
        }
    }

    /// The scale `d`.
    #[must_use]
    pub const fn scale(&self) -> f32 {
        match self {
            Self::A8(row) => row.scale,
            Self::A12(row) => row.scale,
        }
    }
}

/// The largest magnitude of `row`, or a fault when it reaches `limit`.
pub(crate) fn largest(row: &[f32], limit: f32) -> Result<f32, Fault> {
    let bits = row.iter().map(|&x| magnitude_bits(x)).max().unwrap_or(0);
    if bits >= limit.to_bits() { Err(Fault) } else { Ok(f32::from_bits(bits)) }
}

/// `x / step` as a code, given `1 / step`.
fn code(x: f32, inverse: f32, max: i32) -> f32 {
    let max = max as f32;
    round_even((x * inverse).clamp(-max, max))
}

/// The smallest whole multiple of `unit` that reaches `x`, in 1..=`max`.
fn multiple(x: f32, unit: f32, max: i32) -> f32 {
    (x / unit).ceil().clamp(1.0, max as f32)
}

/// Quantizes a row to a8. Every element is 0 or at least 2^-100 in magnitude.
///
/// # Errors
/// An element is not below 2^100 in magnitude.
pub fn quantize_a8(row: &[f32]) -> Result<A8Row, Fault> {
    const BLOCK_STEPS: f32 = (A8_CODE_MAX * A8_BLOCK_MULTIPLIER_MAX) as f32;
    const STEPS: f32 = BLOCK_STEPS * A8_GROUP_MULTIPLIER_MAX as f32;
    let scale = largest(row, LARGEST)? / STEPS;
    let mut quantized = A8Row {
        codes: Vec::with_capacity(row.len()),
        block_multipliers: Vec::with_capacity(row.len().div_ceil(BLOCK)),
        group_multipliers: Vec::with_capacity(row.len().div_ceil(GROUP)),
        scale,
    };
    for group in row.chunks(GROUP) {
        let n = match scale == 0.0 {
            true => 1.0,
            false => {
                multiple(largest(group, LARGEST)?, scale * BLOCK_STEPS, A8_GROUP_MULTIPLIER_MAX)
            }
        };
        quantized.group_multipliers.push(n as u16);
        let unit = scale * n;
        for block in group.chunks(BLOCK) {
            let r = match scale == 0.0 {
                true => 1.0,
                false => multiple(
                    largest(block, LARGEST)?,
                    unit * A8_CODE_MAX as f32,
                    A8_BLOCK_MULTIPLIER_MAX,
                ),
            };
            quantized.block_multipliers.push(r as u8);
            let inverse = if scale == 0.0 { 0.0 } else { 1.0 / (unit * r) };
            quantized.codes.extend(block.iter().map(|&x| code(x, inverse, A8_CODE_MAX) as i8));
        }
    }
    Ok(quantized)
}

/// Quantizes a row to 12-bit codes under one scale. Used for a12 inputs and for Q, K and V heads.
///
/// # Errors
/// An element is not below `limit` in magnitude.
pub fn quantize_a12(row: &[f32], limit: f32) -> Result<A12Row, Fault> {
    let scale = largest(row, limit)? / A12_CODE_MAX as f32;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let codes = row.iter().map(|&x| code(x, inverse, A12_CODE_MAX) as i16).collect();
    Ok(A12Row { codes, scale })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn restore(row: &A8Row, k: usize) -> f64 {
        f64::from(row.scale)
            * f64::from(row.group_multipliers[k / GROUP])
            * f64::from(row.block_multipliers[k / BLOCK])
            * f64::from(row.codes[k])
    }

    proptest! {
        #[test]
        fn a8_error_is_at_most_one_step_of_its_block(
            row in prop::collection::vec(-1e3f32..1e3, 1..700),
            spike in 0usize..700,
        ) {
            let mut row = row;
            let len = row.len();
            row[spike % len] *= 50.0;
            let quantized = quantize_a8(&row).expect("finite");
            for (k, &x) in row.iter().enumerate() {
                let step = f64::from(quantized.scale)
                    * f64::from(quantized.group_multipliers[k / GROUP])
                    * f64::from(quantized.block_multipliers[k / BLOCK]);
                prop_assert!((restore(&quantized, k) - f64::from(x)).abs() <= 0.501 * step);
            }
        }

        #[test]
        fn a12_error_is_at_most_half_a_step(row in prop::collection::vec(-1e3f32..1e3, 1..300)) {
            let quantized = quantize_a12(&row, LARGEST).expect("finite");
            for (&q, &x) in quantized.codes.iter().zip(&row) {
                let restored = f64::from(q) * f64::from(quantized.scale);
                prop_assert!((restored - f64::from(x)).abs() <= 0.501 * f64::from(quantized.scale));
            }
        }
    }

    #[test]
    fn zero_rows_have_scale_zero_and_multipliers_one() {
        let row = quantize_a8(&[0.0; 300]).expect("finite");
        assert_eq!((row.scale, row.codes[299], row.block_multipliers[9]), (0.0, 0, 1));
        assert_eq!(row.group_multipliers, [1, 1]);
    }

    #[test]
    fn unsound_elements_are_faults() {
        for bad in [f32::NAN, f32::INFINITY, -LARGEST] {
            assert_eq!(quantize_a8(&[1.0, bad]), Err(Fault));
            assert_eq!(quantize_a12(&[bad], LARGEST), Err(Fault));
        }
        assert_eq!(
            quantize_a12(&[2f32.powi(40)], crate::limits::ATTENTION_INPUT_LARGEST),
            Err(Fault)
        );
    }
}
