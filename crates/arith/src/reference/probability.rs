//! Probabilities of logits: integer sums, one logarithm. Spec 01 §9.1.

use crate::limits::{PROBABILITY_BITS, SCORE_RANGE};
use crate::scalar::{LOG2_E, exp2, ln};

/// `2^30 exp(logit - top)` rounded to an integer, 0 when 2^40 times smaller than the top.
#[inline]
#[must_use]
pub fn mass(logit: f32, top: f32) -> u64 {
    let x = (logit - top) * LOG2_E;
    if x < -SCORE_RANGE {
        return 0;
    }
    let one = f64::from(1_u32 << PROBABILITY_BITS);
    (f64::from(exp2(x)) * one).round_ties_even() as u64
}

/// The natural logarithm of the sum of all masses, relative to the top logit.
#[must_use]
pub fn log_total(total: u64) -> f64 {
    ln(total as f64) - f64::from(PROBABILITY_BITS) * std::f64::consts::LN_2
}

/// Log-probability of one logit.
#[must_use]
pub fn logprob(logit: f32, top: f32, log_total: f64) -> f32 {
    (f64::from(logit) - f64::from(top) - log_total).min(0.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logprobs_are_close_to_those_in_f64() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32 * 0.13).collect();
        let top = logits.iter().copied().fold(f32::MIN, f32::max);
        let log_total = log_total(logits.iter().map(|&l| mass(l, top)).sum());
        let exact = logits.iter().map(|&l| f64::from(l - top).exp()).sum::<f64>().ln();
        for &logit in &logits {
            let expected = f64::from(logit - top) - exact;
            assert!((f64::from(logprob(logit, top, log_total)) - expected).abs() < 1e-5);
        }
    }
}
