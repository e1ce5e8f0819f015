//! The element-wise part of attention, on one query at a time.

use shoal_arith::limits::{CHUNK, CHUNK_WEIGHT_BITS, DENOMINATOR_BITS, SCORE_RANGE};
use shoal_arith::scalar::{exp2, exponent_above, flush, nearest, power_of_two};

use crate::per_isa::per_isa;

per_isa! {
    /// Turns integer scores into f32 ones: `scores[j] = (f32(dots[j]) * key_scales[j]) *
    /// query_scale`.
    pub(super) fn scale_scores(
        dots: &[i32], key_scales: &[f32], query_scale: f32, scores: &mut [f32],
    ) = generic_scale_scores;
}

#[inline(always)]
fn generic_scale_scores(dots: &[i32], key_scales: &[f32], query_scale: f32, scores: &mut [f32]) {
    for ((score, &dot), &key_scale) in scores.iter_mut().zip(dots).zip(key_scales) {
        *score = (dot as f32 * key_scale) * query_scale;
    }
}

per_isa! {
    /// The largest score. Positions that are not seen hold minus infinity.
    pub(super) fn largest(scores: &[f32]) -> f32 = generic_largest;
}

#[inline(always)]
fn generic_largest(scores: &[f32]) -> f32 {
    // Eight independent maxima, so that the loop vectorises; a maximum has no order.
    let mut lanes = [f32::NEG_INFINITY; 8];
    for scores in scores.chunks_exact(8) {
        for (lane, &score) in lanes.iter_mut().zip(scores) {
            *lane = if score > *lane { score } else { *lane };
        }
    }
    lanes.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
}

per_isa! {
    /// For 64 scores: overwrites them with `flush(p * value scale)`, where `p = 2^(score - top)`,
    /// and returns the sum of the `p` as integers.
    pub(super) fn weigh(scores: &mut [f32; CHUNK], value_scales: &[f32; CHUNK], top: f32) -> i64
        = generic_weigh;
}

#[inline(always)]
fn generic_weigh(scores: &mut [f32; CHUNK], value_scales: &[f32; CHUNK], top: f32) -> i64 {
    let one = (1_u32 << DENOMINATOR_BITS) as f32;
    let mut sum = 0;
    for (score, &value_scale) in scores.iter_mut().zip(value_scales) {
        let x = *score - top;
        let p = exp2(if x < -SCORE_RANGE { -SCORE_RANGE } else { x });
        let p = if x < -SCORE_RANGE { 0.0 } else { p };
        // 64 terms of at most 2^22 fit an i32.
        sum += nearest(p * one);
        *score = flush(p * value_scale);
    }
    i64::from(sum)
}

/// The exponent of a chunk's weights, or `None` when they are all 0.
pub(super) fn exponent(largest: f32) -> Option<i32> {
    (largest > 0.0).then(|| exponent_above(largest))
}

per_isa! {
    /// Integer weights: `w[j] = nearest(u[j] * 2^(14 - exponent))`.
    pub(super) fn to_integers(u: &[f32], exponent: i32, w: &mut [i16]) = generic_to_integers;
}

#[inline(always)]
fn generic_to_integers(u: &[f32], exponent: i32, w: &mut [i16]) {
    let unit = power_of_two(CHUNK_WEIGHT_BITS - exponent);
    for (w, &u) in w.iter_mut().zip(u) {
        *w = nearest(u * unit) as i16;
    }
}

per_isa! {
    /// `total[i] += nearest(sums[i] * 2^shift)`; exact, totals stay below 2^53.
    pub(super) fn add_chunk(sums: &[i32], shift: i32, total: &mut [f64]) = generic_add_chunk;
}

#[inline(always)]
fn generic_add_chunk(sums: &[i32], shift: i32, total: &mut [f64]) {
    /// 1.5 * 2^52: adding it rounds to the nearest integer.
    const MAGIC: f64 = 6_755_399_441_055_744.0;
    let factor = f64::from(power_of_two(shift.max(-100)));
    for (total, &sum) in total.iter_mut().zip(sums) {
        *total += (f64::from(sum) * factor + MAGIC) - MAGIC;
    }
}

per_isa! {
    /// `out[i] = flush((f32(total[i]) / denominator) * factor)`
    pub(super) fn finish(total: &[f64], denominator: f32, factor: f32, out: &mut [f32])
        = generic_finish;
}

#[inline(always)]
fn generic_finish(total: &[f64], denominator: f32, factor: f32, out: &mut [f32]) {
    for (out, &total) in out.iter_mut().zip(total) {
        *out = flush((total as f32 / denominator) * factor);
    }
}
