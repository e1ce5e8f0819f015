//! The learning rate of a step, in f64 from `+ - * /` alone. Spec 05 §6.2.

use serde::{Deserialize, Serialize};

/// How the rate falls after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Half a cosine to the last step.
    Cosine,
    /// Flat, then a line over the last `decay_steps` (warm-up, stable, decay).
    Wsd,
}

/// Learning rate over the steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Highest rate.
    pub rate: f64,
    /// Rate at the end, as a share of the highest.
    pub final_share: f64,
    /// Steps of a straight rise from 0.
    pub warmup_steps: u64,
    /// Steps of the run.
    pub steps: u64,
    /// How it falls.
    pub decay: Decay,
    /// Steps of the final line of [`Decay::Wsd`].
    pub decay_steps: u64,
}

impl Schedule {
    /// The rate of step `step`, the first being 0.
    #[must_use]
    pub fn rate(&self, step: u64) -> f32 {
        if step < self.warmup_steps {
            return (self.rate * (step + 1) as f64 / self.warmup_steps as f64) as f32;
        }
        let (start, len) = match self.decay {
            Decay::Constant => return self.rate as f32,
            Decay::Cosine => (self.warmup_steps, self.steps.saturating_sub(self.warmup_steps)),
            Decay::Wsd => (self.steps.saturating_sub(self.decay_steps), self.decay_steps),
        };
        let passed = step.saturating_sub(start).min(len);
        if len == 0 {
            return self.rate as f32;
        }
        let progress = passed as f64 / len as f64;
        let height = match self.decay {
            Decay::Cosine => 0.5 + 0.5 * cos_half_turns(progress),
            _ => 1.0 - progress,
        };
        (self.rate * (self.final_share + (1.0 - self.final_share) * height)) as f32
    }
}

/// cos(pi x) for x in 0..=1, with an error below 1e-14: a Taylor series around 0 or around 1.
fn cos_half_turns(x: f64) -> f64 {
    const TERMS: u32 = 12;
    let (x, sign) = if x > 0.5 { (1.0 - x, -1.0) } else { (x, 1.0) };
    let angle = x * std::f64::consts::PI;
    let square = angle * angle;
    let mut sum = 1.0;
    for k in (1..TERMS).rev() {
        sum = 1.0 - sum * square / f64::from((2 * k - 1) * (2 * k));
    }
    sign * sum
}

/// `base^exponent` by repeated squaring, lowest bit first.
pub(crate) fn power(base: f64, exponent: u64) -> f64 {
    let (mut result, mut square, mut left) = (1.0, base, exponent);
    while left > 0 {
        if left & 1 == 1 {
            result *= square;
        }
        square *= square;
        left >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay) -> Schedule {
        Schedule {
            rate: 1e-3,
            final_share: 0.1,
            warmup_steps: 10,
            steps: 110,
            decay,
            decay_steps: 20,
        }
    }

    #[test]
    fn the_cosine_is_close_to_the_library() {
        for i in 0..=1000 {
            let x = f64::from(i) / 1000.0;
            let exact = (std::f64::consts::PI * x).cos();
            assert!((cos_half_turns(x) - exact).abs() < 1e-14, "{x}");
        }
    }

    #[test]
    fn rates_rise_then_fall_as_named() {
        for decay in [Decay::Constant, Decay::Cosine, Decay::Wsd] {
            let s = schedule(decay);
            assert_eq!(s.rate(0), 1e-4);
            assert_eq!(s.rate(9), 1e-3);
        }
        assert_eq!(schedule(Decay::Constant).rate(1000), 1e-3);
        assert!((schedule(Decay::Cosine).rate(60) - 5.5e-4).abs() < 1e-9);
        assert_eq!(schedule(Decay::Wsd).rate(89), 1e-3);
        assert!((schedule(Decay::Wsd).rate(100) - 5.5e-4).abs() < 1e-9);
        for decay in [Decay::Cosine, Decay::Wsd] {
            assert!((schedule(decay).rate(110) - 1e-4).abs() < 1e-9);
            assert_eq!(schedule(decay).rate(110), schedule(decay).rate(9999));
        }
    }

    #[test]
    fn powers_are_those_of_the_library_up_to_rounding() {
        for exponent in [0, 1, 2, 7, 100, 5000] {
            let exact = 0.999_f64.powi(exponent as i32);
            assert!((power(0.999, exponent) / exact - 1.0).abs() < 1e-12);
        }
    }
}
