//! One row: the codes of spec 01 §4, in the layouts the kernels read.

use shoal_arith::ActivationFormat;
use shoal_arith::limits::{
    A8_BLOCK_MULTIPLIER_MAX, A8_CODE_MAX, A8_GROUP_MULTIPLIER_MAX, A12_CODE_MAX, BLOCK, GROUP,
    I4_CODE_MIN, LARGEST,
};
use shoal_arith::scalar::{magnitude_bits, nearest};

use super::NarrowBlock;
use crate::per_isa::per_isa;

/// Order of the four codes of a quad in the wide layout: the kernels split bytes into even and odd.
const WIDE_ORDER: [usize; 4] = [0, 2, 1, 3];
const QUAD: usize = 4;

/// Where one row goes. Layouts that nobody reads are empty.
pub(super) struct RowOut<'a> {
    pub(super) group_multipliers: &'a mut [f64],
    pub(super) narrow: &'a mut [NarrowBlock],
    pub(super) wide: &'a mut [i16],
}

per_isa! {
    /// Quantizes one row and returns its scale, or zeros and `None` when an element is not sound.
    pub(super) fn quantize_row(row: &[f32], format: ActivationFormat, out: &mut RowOut<'_>)
        -> Option<f32> = generic_row;
}

#[inline(always)]
fn generic_row(row: &[f32], format: ActivationFormat, out: &mut RowOut<'_>) -> Option<f32> {
    let bits = largest_bits(row);
    let sound = bits < LARGEST.to_bits();
    let largest = if sound { f32::from_bits(bits) } else { 0.0 };
    let scale = match format {
        ActivationFormat::A8 => a8(row, largest, out),
        ActivationFormat::A12 => a12(row, largest, out),
    };
    sound.then_some(scale)
}

#[inline(always)]
fn largest_bits(row: &[f32]) -> u32 {
    row.iter().fold(0, |largest, &x| largest.max(magnitude_bits(x)))
}

#[inline(always)]
fn multiple(x: f32, unit: f32, max: i32) -> f32 {
    (x / unit).ceil().clamp(1.0, max as f32)
}

/// One block; `x` is shorter than that only at the end of a row, and is copied then.
#[inline(always)]
fn block_of<'a>(x: &'a [f32], padded: &'a mut [f32; BLOCK]) -> &'a [f32; BLOCK] {
    match x.try_into() {
        Ok(whole) => whole,
        Err(_) => {
            *padded = [0.0; BLOCK];
            padded[..x.len()].copy_from_slice(x);
            padded
        }
    }
}

#[inline(always)]
fn block_bits(x: &[f32; BLOCK]) -> u32 {
    let mut largest = 0;
    for &x in x {
        largest = largest.max(magnitude_bits(x));
    }
    largest
}

#[inline(always)]
fn codes(x: &[f32; BLOCK], inverse: f32, max: i32) -> [i32; BLOCK] {
    let limit = max as f32;
    // Loops over whole blocks, here and below, become vector code; an iterator's closure may not.
    let mut codes = [0; BLOCK];
    for k in 0..BLOCK {
        let y = x[k] * inverse;
        let y = if y < -limit { -limit } else { y };
        let y = if y > limit { limit } else { y };
        codes[k] = nearest(y);
    }
    codes
}

#[inline(always)]
fn a8(row: &[f32], largest: f32, out: &mut RowOut<'_>) -> f32 {
    const BLOCK_STEPS: f32 = (A8_CODE_MAX * A8_BLOCK_MULTIPLIER_MAX) as f32;
    const STEPS: f32 = BLOCK_STEPS * A8_GROUP_MULTIPLIER_MAX as f32;
    let scale = largest / STEPS;
    let mut padded = [0.0; BLOCK];
    for (g, group) in row.chunks(GROUP).enumerate() {
        let mut bits = [0; GROUP / BLOCK];
        let mut group_bits = 0;
        for (bits, block) in bits.iter_mut().zip(group.chunks(BLOCK)) {
            *bits = block_bits(block_of(block, &mut padded));
            group_bits = group_bits.max(*bits);
        }
        let n = match scale == 0.0 {
            true => 1.0,
            false => {
                multiple(f32::from_bits(group_bits), scale * BLOCK_STEPS, A8_GROUP_MULTIPLIER_MAX)
            }
        };
        out.group_multipliers[g] = f64::from(n);
        let unit = scale * n;
        for (b, block) in group.chunks(BLOCK).enumerate() {
            let (r, inverse) = match scale == 0.0 {
                true => (1.0, 0.0),
                false => {
                    let block_largest = f32::from_bits(bits[b]);
                    let r =
                        multiple(block_largest, unit * A8_CODE_MAX as f32, A8_BLOCK_MULTIPLIER_MAX);
                    (r, 1.0 / (unit * r))
                }
            };
            let block = if scale == 0.0 { &[] } else { block };
            write_block(
                g * (GROUP / BLOCK) + b,
                &codes(block_of(block, &mut padded), inverse, A8_CODE_MAX),
                r as i32,
                out,
            );
        }
    }
    scale
}

#[inline(always)]
fn a12(row: &[f32], largest: f32, out: &mut RowOut<'_>) -> f32 {
    let scale = largest / A12_CODE_MAX as f32;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    let mut padded = [0.0; BLOCK];
    out.group_multipliers.fill(1.0);
    for (b, block) in row.chunks(BLOCK).enumerate() {
        let block = if scale == 0.0 { &[] } else { block };
        write_block(b, &codes(block_of(block, &mut padded), inverse, A12_CODE_MAX), 1, out);
    }
    scale
}

#[inline(always)]
fn write_block(b: usize, codes: &[i32; BLOCK], r: i32, out: &mut RowOut<'_>) {
    if !out.wide.is_empty() {
        let wide = &mut out.wide[b * BLOCK..(b + 1) * BLOCK];
        for (quad, codes) in wide.chunks_exact_mut(QUAD).zip(codes.chunks_exact(QUAD)) {
            for (x, from) in quad.iter_mut().zip(WIDE_ORDER) {
                *x = (codes[from] * r) as i16;
            }
        }
    }
    if !out.narrow.is_empty() {
        let mut bytes = [0_i8; BLOCK];
        let (mut sum, mut second) = (0, 0);
        for k in 0..BLOCK {
            bytes[k] = codes[k] as i8;
            sum += codes[k];
            second += if k % QUAD < QUAD / 2 { 0 } else { codes[k] };
        }
        let half = (sum * r) >> 1;
        out.narrow[b] = NarrowBlock {
            codes: bytes,
            bias_pair: pair(I4_CODE_MIN * (sum - second), I4_CODE_MIN * second),
            multiplier_pair: pair(r, r),
            two_multipliers: r,
            offset_pair: pair(half, sum * r - half),
            bias_i4: I4_CODE_MIN * sum,
            bias_i8: i32::from(i8::MIN) * sum,
        };
        if b % 2 == 1 {
            out.narrow[b - 1].two_multipliers |= r << 16;
        }
    }
}

/// Two i16 as the two halves of an i32.
#[inline(always)]
const fn pair(low: i32, high: i32) -> i32 {
    low & 0xffff | high << 16
}
