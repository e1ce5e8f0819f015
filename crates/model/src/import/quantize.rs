//! Rows of f32 to the integers of spec 01 §5.

use shoal_arith::limits::{
    BLOCK, I4_CODE_MAX, I4_CODE_MIN, I4_MULTIPLIER_MAX, I4_OFFSET_MAX, I8_CODE_MAX,
    I8_MULTIPLIER_MAX, ROW_SCALE_MAX, ROW_SCALE_MIN,
};
use shoal_arith::scalar::nearest;
use shoal_arith::{WeightFormat, WeightRow};

use crate::source::CodeBlock;

/// Scales tried around the one that maps the largest weight of a block to the end of the code
/// range, in steps of 1/16: far enough to trade clipping of one weight for finer steps of the
/// others.
const SCALE_STEPS: std::ops::RangeInclusive<i32> = -7..=4;

/// Sums of squares, to report what quantization costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QuantizeError {
    /// Sum of the squared weights.
    pub weights: f64,
    /// Sum of the squared differences.
    pub differences: f64,
}

impl QuantizeError {
    /// Root of the mean squared difference relative to the weights.
    #[must_use]
    pub fn relative(self) -> f64 {
        if self.weights == 0.0 { 0.0 } else { (self.differences / self.weights).sqrt() }
    }

    /// Adds what another part cost.
    pub fn add(&mut self, other: Self) {
        self.weights += other.weights;
        self.differences += other.differences;
    }

    fn of(row: &[f32], quantized: &WeightRow) -> Self {
        let mut error = Self::default();
        for (k, &w) in row.iter().enumerate() {
            let restored = f64::from(quantized.integer(k)) * f64::from(quantized.scale);
            error.weights += f64::from(w) * f64::from(w);
            error.differences += (f64::from(w) - restored) * (f64::from(w) - restored);
        }
        error
    }
}

/// A row with a weight so large or so small that no scale in range fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScaleOutOfRange;

/// Quantizes one row.
///
/// # Errors
/// A weight beyond about 2^44 in magnitude.
pub fn quantize_row(
    row: &[f32],
    format: WeightFormat,
) -> Result<(WeightRow, QuantizeError), ScaleOutOfRange> {
    let blocks = row.chunks(BLOCK);
    let (steps, multiplier_max) = match format {
        WeightFormat::I8 => (blocks.map(i8_step).collect::<Vec<_>>(), I8_MULTIPLIER_MAX),
        WeightFormat::I4 => (blocks.map(i4_step).collect(), I4_MULTIPLIER_MAX),
        WeightFormat::I4Offset => return quantize_with_offsets(row),
    };
    let largest = steps.iter().fold(0.0, |largest: f32, step| largest.max(step.abs()));
    let Some(scale) = row_scale(largest, multiplier_max)? else {
        return Ok(zero_row(row));
    };
    let (low, high) = format.code_range();
    let mut quantized = empty_row(row.len(), scale);
    for (block, step) in row.chunks(BLOCK).zip(steps) {
        // Steps of 8-bit codes must not be too small for the largest weight, so they round up.
        let multiplier = match format {
            WeightFormat::I8 => (step / scale).ceil().min(multiplier_max as f32),
            _ => (step / scale).round_ties_even(),
        };
        let inverse = if multiplier == 0.0 { 0.0 } else { 1.0 / (scale * multiplier) };
        push_block(&mut quantized, block, multiplier as i8, 0, |w| code(w * inverse, low, high));
    }
    let error = QuantizeError::of(row, &quantized);
    Ok((quantized, error))
}

/// Keeps the codes of a 4-bit source; scales and offsets become integers under one scale per row.
///
/// # Errors
/// As [`quantize_row`].
pub(super) fn import_codes(
    blocks: &[CodeBlock],
    columns: usize,
    format: WeightFormat,
) -> Result<(WeightRow, QuantizeError), ScaleOutOfRange> {
    let zero_at = |block: &CodeBlock| -I4_CODE_MIN as f32 * block.scale - block.offset;
    let largest = blocks.iter().fold(0.0, |largest: f32, b| largest.max(b.scale.abs()));
    let largest_offset = blocks.iter().fold(0.0, |largest: f32, b| largest.max(zero_at(b).abs()));
    let needed = match format {
        WeightFormat::I4Offset => {
            largest.max(largest_offset * I4_MULTIPLIER_MAX as f32 / I4_OFFSET_MAX as f32)
        }
        _ => largest,
    };
    let row: Vec<f32> = blocks
        .iter()
        .flat_map(|b| b.codes.iter().map(move |&c| b.scale * f32::from(c) - b.offset))
        .take(columns)
        .collect();
    let Some(scale) = row_scale(needed, I4_MULTIPLIER_MAX)? else {
        return Ok(zero_row(&row));
    };
    let mut quantized = empty_row(columns, scale);
    for block in blocks {
        let multiplier = (block.scale / scale).round_ties_even() as i8;
        let offset = match format {
            WeightFormat::I4Offset => {
                let limit = I4_OFFSET_MAX as f32;
                (zero_at(block) / scale).round_ties_even().clamp(-limit, limit) as i16
            }
            _ => 0,
        };
        quantized.multipliers.push(multiplier);
        quantized.offsets.push(offset);
        let left = columns - quantized.codes.len();
        let codes = block.codes.iter().take(left);
        quantized.codes.extend(codes.map(|&c| c.cast_signed() + I4_CODE_MIN as i8));
    }
    let error = QuantizeError::of(&row, &quantized);
    Ok((quantized, error))
}

fn quantize_with_offsets(row: &[f32]) -> Result<(WeightRow, QuantizeError), ScaleOutOfRange> {
    let ranges = row.chunks(BLOCK).map(|block| {
        let low = block.iter().copied().fold(f32::INFINITY, f32::min);
        let high = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let step = (high - low) / (I4_CODE_MAX - I4_CODE_MIN) as f32;
        // The value of code 0.
        (step, low - I4_CODE_MIN as f32 * step)
    });
    let ranges: Vec<(f32, f32)> = ranges.collect();
    let blocks: Vec<CodeBlock> = row
        .chunks(BLOCK)
        .zip(&ranges)
        .map(|(block, &(step, zero))| {
            let mut codes = [0; BLOCK];
            for (c, &w) in codes.iter_mut().zip(block) {
                let q =
                    if step == 0.0 { 0 } else { code((w - zero) / step, I4_CODE_MIN, I4_CODE_MAX) };
                *c = (q - I4_CODE_MIN as i8).cast_unsigned();
            }
            CodeBlock { codes, scale: step, offset: -I4_CODE_MIN as f32 * step - zero }
        })
        .collect();
    let (mut quantized, _) = import_codes(&blocks, row.len(), WeightFormat::I4Offset)?;
    // Codes again, now for the rounded multipliers and offsets.
    for (k, &w) in row.iter().enumerate() {
        let block = k / BLOCK;
        let step = f32::from(quantized.multipliers[block]) * quantized.scale;
        let zero = f32::from(quantized.offsets[block]) * quantized.scale;
        if step != 0.0 {
            quantized.codes[k] = code((w - zero) / step, I4_CODE_MIN, I4_CODE_MAX);
        }
    }
    let error = QuantizeError::of(row, &quantized);
    Ok((quantized, error))
}

/// The scale `D` under which `largest` gets the largest multiplier; `None` for a row of zeros.
fn row_scale(largest: f32, multiplier_max: i32) -> Result<Option<f32>, ScaleOutOfRange> {
    let scale = largest / multiplier_max as f32;
    match scale {
        _ if scale < ROW_SCALE_MIN => Ok(None),
        _ if scale <= ROW_SCALE_MAX => Ok(Some(scale)),
        _ => Err(ScaleOutOfRange),
    }
}

fn empty_row(columns: usize, scale: f32) -> WeightRow {
    let blocks = columns.div_ceil(BLOCK);
    WeightRow {
        codes: Vec::with_capacity(columns),
        multipliers: Vec::with_capacity(blocks),
        offsets: Vec::with_capacity(blocks),
        scale,
    }
}

fn zero_row(row: &[f32]) -> (WeightRow, QuantizeError) {
    let blocks = row.len().div_ceil(BLOCK);
    let quantized = WeightRow {
        codes: vec![0; row.len()],
        multipliers: vec![0; blocks],
        offsets: vec![0; blocks],
        scale: 0.0,
    };
    let error = QuantizeError::of(row, &quantized);
    (quantized, error)
}

fn push_block(
    row: &mut WeightRow,
    block: &[f32],
    multiplier: i8,
    offset: i16,
    code: impl Fn(f32) -> i8,
) {
    row.multipliers.push(multiplier);
    row.offsets.push(offset);
    row.codes.extend(block.iter().map(|&w| code(w)));
}

fn code(x: f32, low: i32, high: i32) -> i8 {
    nearest(x.clamp(low as f32, high as f32)) as i8
}

/// The step that maps the largest weight to 127.
fn i8_step(block: &[f32]) -> f32 {
    block.iter().fold(0.0, |largest: f32, w| largest.max(w.abs())) / I8_CODE_MAX as f32
}

/// The step with the least squared error, with a sign.
fn i4_step(block: &[f32]) -> f32 {
    let mut padded = [0.0; BLOCK];
    padded[..block.len()].copy_from_slice(block);
    let largest = block.iter().fold(0.0, |a: f32, &w| if w.abs() > a.abs() { w } else { a });
    if largest == 0.0 {
        return 0.0;
    }
    // The largest weight goes to -8, or to 7 of the opposite sign.
    let ends = [largest / I4_CODE_MIN as f32, largest / I4_CODE_MAX as f32];
    let candidates = ends
        .into_iter()
        .flat_map(|end| SCALE_STEPS.map(move |step| end * (1.0 + step as f32 / 16.0)));
    let mut best = (f32::MIN, ends[0]);
    for step in candidates {
        let (cross, square) = fit(&padded, 1.0 / step);
        if square > 0.0 {
            // For these codes the best step is cross / square, and it removes cross^2 / square.
            let gain = cross * cross / square;
            if gain > best.0 {
                best = (gain, cross / square);
            }
        }
    }
    best.1
}

/// Sums of `w q` and `q q` for `q = code(w * inverse)`.
fn fit(block: &[f32; BLOCK], inverse: f32) -> (f32, f32) {
    const LANES: usize = 8;
    let (low, high) = (I4_CODE_MIN as f32, I4_CODE_MAX as f32);
    let (mut cross, mut square) = ([0.0; LANES], [0.0; LANES]);
    for weights in block.chunks_exact(LANES) {
        for i in 0..LANES {
            let x = weights[i] * inverse;
            let x = if x < low { low } else { x };
            let x = if x > high { high } else { x };
            let q = nearest(x) as f32;
            cross[i] += weights[i] * q;
            square[i] += q * q;
        }
    }
    (cross.iter().sum(), square.iter().sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn gaussian_row(len: usize) -> Vec<f32> {
        let mut state = 7_u64;
        (0..len)
            .map(|_| {
                (0..12)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        (state >> 40) as f32 / 16_777_216.0 - 0.5
                    })
                    .sum()
            })
            .collect()
    }

    #[test]
    fn errors_on_a_gaussian_row_are_what_the_bits_allow() {
        let row = gaussian_row(4096);
        let relative = |format| quantize_row(&row, format).expect("in range").1.relative();
        assert!(relative(WeightFormat::I8) < 0.007, "{}", relative(WeightFormat::I8));
        assert!(relative(WeightFormat::I4) < 0.087, "{}", relative(WeightFormat::I4));
        assert!(relative(WeightFormat::I4Offset) < 0.087, "{}", relative(WeightFormat::I4Offset));
    }

    #[test]
    fn codes_of_a_q4_0_block_come_back() {
        let blocks: Vec<CodeBlock> = (0..4)
            .map(|b| {
                let scale = [0.5, -0.25, 0.125, -0.5][b];
                let codes = std::array::from_fn(|i| ((i * 7 + b) % 16) as u8);
                CodeBlock { codes, scale, offset: 8.0 * scale }
            })
            .collect();
        let (row, error) = import_codes(&blocks, 120, WeightFormat::I4).expect("in range");
        assert!(row.is_valid(WeightFormat::I4));
        assert_eq!(row.codes.len(), 120);
        assert_eq!(row.codes[33], blocks[1].codes[1] as i8 - 8);
        assert!(error.relative() < 0.005, "{}", error.relative());
    }

    proptest! {
        #[test]
        fn every_row_is_valid_and_close(
            row in prop::collection::vec(
                prop_oneof![-1f32..1.0, -100f32..100.0, Just(0.0)], 1..300,
            ),
            format in 0usize..3,
        ) {
            let format = WeightFormat::ALL[format];
            let (quantized, error) = quantize_row(&row, format).expect("in range");
            prop_assert!(quantized.is_valid(format));
            prop_assert_eq!(quantized.codes.len(), row.len());
            prop_assert!(error.relative() < 0.35);
        }

        #[test]
        fn extreme_rows_are_quantized_or_refused(
            row in prop::collection::vec(any::<f32>(), 1..80),
        ) {
            let finite = |w: f32| if w.is_finite() { w } else { 1.0 };
            let row: Vec<f32> = row.into_iter().map(finite).collect();
            for format in WeightFormat::ALL {
                if let Ok((quantized, _)) = quantize_row(&row, format) {
                    prop_assert!(quantized.is_valid(format));
                }
            }
        }
    }
}
