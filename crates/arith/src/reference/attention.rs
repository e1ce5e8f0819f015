//! Attention of one query head over the positions it sees. Spec 01 §7.
//!
//! Positions fall into chunks of 64 by their number, so it does not matter how keys are stored, in
//! what order they arrive, or whether they belong to a chain or to one path of a tree.

use crate::limits::{
    ATTENTION_INPUT_LARGEST, CHUNK, CHUNK_SUM_BITS, CHUNK_WEIGHT_BITS, DENOMINATOR_BITS,
    SCORE_RANGE,
};
use crate::scalar::{exp2, exponent_above, flush, power_of_two, round_even};
use crate::{A12Row, Fault, quantize_a12};

/// Key and value of one position.
#[derive(Clone, Debug)]
pub struct KeyValue {
    /// Position in the sequence.
    pub position: usize,
    /// Rotated key head.
    pub key: A12Row,
    /// Value head.
    pub value: A12Row,
}

/// Quantizes a head of Q, K or V.
///
/// # Errors
/// An element is not below 2^40 in magnitude.
pub fn quantize_head(head: &[f32]) -> Result<A12Row, Fault> {
    quantize_a12(head, ATTENTION_INPUT_LARGEST)
}

/// The attention output of one query head.
///
/// - `query`: rotated, quantized, `[K]`
/// - `seen`: every position the query sees, its own included, in any order, each once
/// - `score_scale`: log2(e) / sqrt(K) as the package states it
/// - returns `[K]`
#[must_use]
pub fn attend(query: &A12Row, seen: &[KeyValue], score_scale: f32) -> Vec<f32> {
    let query_scale = query.scale * score_scale;
    let scores: Vec<f32> = seen
        .iter()
        .map(|kv| (dot(&query.codes, &kv.key.codes) as f32 * kv.key.scale) * query_scale)
        .collect();
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|&t| weight(t - top)).collect();

    let one = (1_u32 << DENOMINATOR_BITS) as f32;
    let denominator: i64 = weights.iter().map(|&p| (p * one).round_ties_even() as i64).sum();

    let chunks = chunk_sums(seen, &weights);
    let Some(exponent) = chunks.iter().map(|c| c.exponent).max() else {
        return vec![0.0; query.codes.len()];
    };
    let factor = power_of_two(exponent + DENOMINATOR_BITS - CHUNK_WEIGHT_BITS - CHUNK_SUM_BITS);
    (0..query.codes.len())
        .map(|i| {
            let sum: i64 = chunks
                .iter()
                .map(|c| scaled(c.sums[i], CHUNK_SUM_BITS + c.exponent - exponent))
                .sum();
            flush((sum as f32 / denominator as f32) * factor)
        })
        .collect()
}

/// 2^x for x <= 0, 0 below -40.
fn weight(x: f32) -> f32 {
    if x < -SCORE_RANGE { 0.0 } else { exp2(x) }
}

fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

/// `x * 2^shift` rounded to the nearest integer, ties to even.
fn scaled(x: i32, shift: i32) -> i64 {
    (f64::from(x) * f64::from(power_of_two(shift.max(-100)))).round_ties_even() as i64
}

struct ChunkSum {
    exponent: i32,
    sums: Vec<i32>,
}

/// For each chunk with a non-zero weight: integer weights `p * value scale`, scaled to 14 bits by
/// the chunk's largest, times the value codes, summed exactly.
fn chunk_sums(seen: &[KeyValue], weights: &[f32]) -> Vec<ChunkSum> {
    let mut chunks = std::collections::BTreeMap::<usize, Vec<(f32, &A12Row)>>::new();
    for (kv, &p) in seen.iter().zip(weights) {
        let member = (flush(p * kv.value.scale), &kv.value);
        chunks.entry(kv.position / CHUNK).or_default().push(member);
    }
    let nonzero = chunks.into_values().filter_map(|members| {
        let largest = members.iter().map(|m| m.0).fold(0.0, f32::max);
        (largest > 0.0).then(|| (exponent_above(largest), members))
    });
    nonzero
        .map(|(exponent, members)| {
            let unit = power_of_two(CHUNK_WEIGHT_BITS - exponent);
            let mut sums = vec![0; members[0].1.codes.len()];
            for (u, value) in members {
                let w = round_even(u * unit) as i32;
                for (sum, &code) in sums.iter_mut().zip(&value.codes) {
                    *sum += w * i32::from(code);
                }
            }
            ChunkSum { exponent, sums }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seed: usize, width: usize) -> Vec<f32> {
        (0..width).map(|i| (((seed * 31 + i * 17) % 101) as f32 - 50.0) / 25.0).collect()
    }

    fn float_attention(query: &[f32], keys: &[Vec<f32>], values: &[Vec<f32>]) -> Vec<f64> {
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        let scores: Vec<f64> =
            keys.iter().map(|k| dot(query, k) / (query.len() as f64).sqrt()).collect();
        let top = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
        let total: f64 = weights.iter().sum();
        (0..query.len())
            .map(|i| weights.iter().zip(values).map(|(w, v)| w * f64::from(v[i])).sum::<f64>())
            .map(|sum| sum / total)
            .collect()
    }

    #[test]
    fn close_to_attention_in_f64_over_many_chunks() {
        let (width, positions) = (32, 300);
        let keys: Vec<_> = (0..positions).map(|p| head(p * 7 + 1, width)).collect();
        let values: Vec<_> = (0..positions).map(|p| head(p * 13 + 5, width)).collect();
        let query = head(3, width);
        let seen: Vec<_> = (0..positions)
            .map(|position| KeyValue {
                position,
                key: quantize_head(&keys[position]).expect("sound"),
                value: quantize_head(&values[position]).expect("sound"),
            })
            .collect();
        let scale = std::f32::consts::LOG2_E / (width as f32).sqrt();
        let y = attend(&quantize_head(&query).expect("sound"), &seen, scale);
        for (y, exact) in y.iter().zip(float_attention(&query, &keys, &values)) {
            assert!((f64::from(*y) - exact).abs() < 2e-3, "{y} {exact}");
        }
    }

    #[test]
    fn order_of_the_positions_does_not_matter() {
        let mut seen: Vec<_> = (0..150)
            .map(|position| KeyValue {
                position,
                key: quantize_head(&head(position, 16)).expect("sound"),
                value: quantize_head(&head(position + 9, 16)).expect("sound"),
            })
            .collect();
        let query = quantize_head(&head(4, 16)).expect("sound");
        let forward = attend(&query, &seen, 0.3);
        seen.reverse();
        assert_eq!(forward, attend(&query, &seen, 0.3));
    }

    #[test]
    fn zero_values_give_zero() {
        let seen = [KeyValue {
            position: 0,
            key: quantize_head(&[1.0, 2.0]).expect("sound"),
            value: quantize_head(&[0.0, 0.0]).expect("sound"),
        }];
        assert_eq!(attend(&quantize_head(&[1.0, 1.0]).expect("sound"), &seen, 1.0), [0.0, 0.0]);
    }
}
