//! Rotary tables, each entry the f64 nearest to the true value. Spec 02 §7.
//!
//! Computed with 128-bit floats, so that everybody who imports a model gets the same bytes.

use astro_float::{BigFloat, Consts, RoundingMode};
use shoal_arith::tables::{FINE_POSITIONS, RopeTables};

use crate::architecture::{Architecture, Rope, RopeScaling};

const PRECISION: usize = 128;
const ROUNDING: RoundingMode = RoundingMode::ToEven;

struct Big {
    constants: Consts,
}

impl Big {
    fn of(x: f64) -> BigFloat {
        BigFloat::from_f64(x, PRECISION)
    }

    fn power(&mut self, base: f64, exponent: f64) -> BigFloat {
        Self::of(base).pow(&Self::of(exponent), PRECISION, ROUNDING, &mut self.constants)
    }

    fn cos_sin(&mut self, angle: &BigFloat, factor: f64) -> (f64, f64) {
        let factor = Self::of(factor);
        let cos = angle.cos(PRECISION, ROUNDING, &mut self.constants);
        let sin = angle.sin(PRECISION, ROUNDING, &mut self.constants);
        let value = |x: BigFloat| to_f64(&x.mul(&factor, PRECISION, ROUNDING));
        (value(cos), value(sin))
    }
}

/// The nearest f64, through the decimal form that both sides define exactly.
fn to_f64(x: &BigFloat) -> f64 {
    x.to_string().parse().unwrap_or(f64::NAN)
}

/// The tables of `architecture`.
#[must_use]
pub fn rope_tables(architecture: &Architecture) -> RopeTables {
    let mut big = Big { constants: Consts::new().expect("constants are computed on demand") };
    let rope = architecture.rope;
    let pairs = rope.dims as usize / 2;
    let frequencies: Vec<BigFloat> = (0..pairs).map(|i| frequency(&mut big, rope, i)).collect();
    let factor = match rope.scaling {
        RopeScaling::Yarn { attention_factor, .. } => attention_factor,
        _ => 1.0,
    };
    let coarse_count = (architecture.context_tokens as usize).div_ceil(FINE_POSITIONS);
    let mut table = |positions: usize, stride: usize, factor: f64| {
        let mut entries = Vec::with_capacity(positions * pairs);
        for p in 0..positions {
            let position = Big::of((p * stride) as f64);
            for frequency in &frequencies {
                let angle = frequency.mul(&position, PRECISION, ROUNDING);
                entries.push(big.cos_sin(&angle, factor));
            }
        }
        entries
    };
    let coarse = table(coarse_count, FINE_POSITIONS, 1.0);
    let fine = table(FINE_POSITIONS, 1, factor);
    RopeTables { pairs, coarse, fine }
}

/// The bytes of the tables blob: coarse then fine, (cos, sin) as f64, little-endian.
#[must_use]
pub(super) fn encode(tables: &RopeTables) -> Vec<u8> {
    let entries = tables.coarse.iter().chain(&tables.fine);
    entries.flat_map(|(cos, sin)| [cos.to_le_bytes(), sin.to_le_bytes()].concat()).collect()
}

/// Radians per position of pair `i`: `theta^(-2i / dims)`, changed as the scaling says.
fn frequency(big: &mut Big, rope: Rope, i: usize) -> BigFloat {
    let exponent = -2.0 * i as f64 / f64::from(rope.dims);
    let base = big.power(rope.theta, exponent);
    let scaled_by = |factor: f64| base.mul(&Big::of(factor), PRECISION, ROUNDING);
    match rope.scaling {
        RopeScaling::None => base,
        RopeScaling::Linear { factor } => base.div(&Big::of(factor), PRECISION, ROUNDING),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
            let wavelength = std::f64::consts::TAU / to_f64(&base);
            let context = f64::from(original_context);
            if wavelength < context / high_freq_factor {
                return base;
            }
            if wavelength > context / low_freq_factor {
                return base.div(&Big::of(factor), PRECISION, ROUNDING);
            }
            let smooth =
                (context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
            scaled_by((1.0 - smooth) / factor + smooth)
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, original_context, .. } => {
            let dims = f64::from(rope.dims);
            // The pair that turns `rotations` times over the original context.
            let pair_of = |rotations: f64| {
                dims * (f64::from(original_context) / (rotations * std::f64::consts::TAU)).ln()
                    / (2.0 * rope.theta.ln())
            };
            let low = pair_of(beta_fast).floor().max(0.0);
            let high = pair_of(beta_slow).ceil().min(dims - 1.0);
            let ramp = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
            scaled_by(ramp / factor + (1.0 - ramp))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::{Family, RopeLayout};

    fn architecture(scaling: RopeScaling) -> Architecture {
        Architecture {
            family: Family::Llama,
            vocab_count: 8,
            model_width: 64,
            layer_count: 1,
            head_count: 4,
            kv_head_count: 4,
            head_width: 16,
            mlp_width: 64,
            context_tokens: 1000,
            norm_epsilon: 1e-5,
            rope: Rope { theta: 10_000.0, dims: 16, layout: RopeLayout::Half, scaling },
            sliding_window: None,
            tied_embeddings: true,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
        }
    }

    #[test]
    fn angles_are_close_to_the_library_functions() {
        let tables = rope_tables(&architecture(RopeScaling::None));
        assert_eq!(tables.positions(), 1024);
        let (mut cos, mut sin) = ([0.0; 8], [0.0; 8]);
        for p in [0, 1, 255, 256, 777, 999] {
            tables.angles(p, &mut cos, &mut sin);
            for i in 0..8 {
                let angle = p as f64 * 10_000_f64.powf(-2.0 * i as f64 / 16.0);
                assert!((f64::from(cos[i]) - angle.cos()).abs() < 1e-7, "{p} {i}");
                assert!((f64::from(sin[i]) - angle.sin()).abs() < 1e-7, "{p} {i}");
            }
        }
    }

    #[test]
    fn llama3_scaling_divides_slow_pairs_and_keeps_fast_ones() {
        let plain = rope_tables(&architecture(RopeScaling::None));
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context: 128,
        };
        let scaled = rope_tables(&architecture(scaling));
        let angle = |t: &RopeTables, i: usize| t.fine[t.pairs + i].1.asin();
        assert!((angle(&scaled, 1) / angle(&plain, 1) - 1.0).abs() < 1e-12);
        assert!((angle(&scaled, 7) / angle(&plain, 7) - 0.125).abs() < 1e-12);
    }

    #[test]
    fn yarn_multiplies_by_the_attention_factor() {
        let scaling = RopeScaling::Yarn {
            factor: 4.0,
            beta_fast: 32.0,
            beta_slow: 1.0,
            attention_factor: 1.1386,
            original_context: 256,
        };
        let tables = rope_tables(&architecture(scaling));
        assert_eq!(tables.fine[0], (1.1386, 0.0));
        assert_eq!(tables.coarse[0], (1.0, 0.0));
        let slow = tables.fine[tables.pairs + 7].1 / 1.1386;
        assert!((slow.asin() / 10_000_f64.powf(-14.0 / 16.0) - 0.25).abs() < 1e-9);
    }
}
