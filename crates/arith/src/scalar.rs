//! Element functions: each has one defined result. Spec 01 §3.
//!
//! Only `+ - * /`, `sqrt`, exact conversions and round-to-nearest-even are used, never a fused
//! multiply-add, so that the compiler and the machine have no choice.

use crate::limits::{LARGEST, SMALLEST};

/// log2(e), rounded to f32.
pub const LOG2_E: f32 = f32::from_bits(0x3fb8_aa3b);

/// Coefficients of `2^f = 1 + f (C1 + f (C2 + …))` on [-1/2, 1/2]; relative error below 2e-7.
const EXP2: [f32; 5] = [
    f32::from_bits(0x3f31_7215),
    f32::from_bits(0x3e75_fcde),
    f32::from_bits(0x3d63_5ba9),
    f32::from_bits(0x3c1e_7544),
    f32::from_bits(0x3aad_dd0c),
];

/// Bits of |x|. As integers they order magnitudes, with infinities and NaN above all numbers.
#[inline(always)]
#[must_use]
pub const fn magnitude_bits(x: f32) -> u32 {
    x.to_bits() & 0x7fff_ffff
}

/// Whether |x| is below 2^100; false for NaN.
#[inline(always)]
#[must_use]
pub const fn is_sound(x: f32) -> bool {
    magnitude_bits(x) < LARGEST.to_bits()
}

/// x, or +0 when |x| < 2^-100. -0 becomes +0; NaN stays NaN.
#[inline(always)]
#[must_use]
pub fn flush(x: f32) -> f32 {
    if x.abs() < SMALLEST { 0.0 } else { x }
}

/// 1.5 * 2^23. Adding it leaves the nearest integer, ties to even, in the low bits of the sum.
const MAGIC: f32 = 12_582_912.0;

/// The nearest integer, ties to even, for |x| <= 2^22, as an f32.
#[inline(always)]
#[must_use]
pub fn round_even(x: f32) -> f32 {
    (x + MAGIC) - MAGIC
}

/// The nearest integer, ties to even, for |x| <= 2^22.
#[inline(always)]
#[must_use]
pub fn nearest(x: f32) -> i32 {
    (x + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits()).cast_signed()
}

/// 2^n for n in -126..=127.
#[inline(always)]
#[must_use]
pub fn power_of_two(n: i32) -> f32 {
    debug_assert!((-126..=127).contains(&n));
    f32::from_bits(((n + 127) << 23).cast_unsigned())
}

/// 2^x for -125 <= x <= 126, with relative error below 2e-7. 2^0 is exactly 1.
#[inline(always)]
#[must_use]
pub fn exp2(x: f32) -> f32 {
    let shifted = x + MAGIC;
    let f = x - (shifted - MAGIC);
    let mut p = EXP2[4];
    p = p * f + EXP2[3];
    p = p * f + EXP2[2];
    p = p * f + EXP2[1];
    p = p * f + EXP2[0];
    p = p * f + 1.0;
    // The low bits of `shifted` hold the whole part of x; it goes into the exponent.
    let whole = shifted.to_bits().wrapping_sub(MAGIC.to_bits());
    f32::from_bits(p.to_bits().wrapping_add(whole << 23))
}

/// x / (1 + e^-x), +0 for x < -80. `x` must be sound.
#[inline(always)]
#[must_use]
pub fn silu(x: f32) -> f32 {
    let exponent = (x * -LOG2_E).clamp(-100.0, 126.0);
    let y = x / (1.0 + exp2(exponent));
    if x < -80.0 { 0.0 } else { y }
}

/// The nearest bf16 (ties to even) as the upper half of an f32's bits. NaN is kept quiet.
#[inline(always)]
#[must_use]
pub fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    if x.is_nan() {
        return 0x7fc0;
    }
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// The f32 of a bf16.
#[inline(always)]
#[must_use]
pub const fn from_bf16(x: u16) -> f32 {
    f32::from_bits((x as u32) << 16)
}

/// The exponent E with 2^(E-1) <= x < 2^E, for x >= 2^-126.
#[inline(always)]
#[must_use]
pub const fn exponent_above(x: f32) -> i32 {
    (x.to_bits() >> 23).cast_signed() - 126
}

/// Natural logarithm of a positive, normal f64, with relative error below 1e-13.
///
/// `x = m 2^e` with m in [sqrt(1/2), sqrt(2)), `s = (m - 1) / (m + 1)`,
/// `ln x = e ln 2 + 2 (s + s^3/3 + s^5/5 + …)`.
#[must_use]
pub fn ln(x: f64) -> f64 {
    const SQRT_2_BITS: u64 = 0x3ff6_a09e_667f_3bcd;
    const ONE_BITS: u64 = 1023 << 52;
    const TERMS: u32 = 10;
    let bits = x.to_bits();
    let mut exponent = (bits >> 52).cast_signed() - 1023;
    let mut mantissa_bits = (bits & ((1 << 52) - 1)) | ONE_BITS;
    if mantissa_bits >= SQRT_2_BITS {
        exponent += 1;
        mantissa_bits -= 1 << 52;
    }
    let m = f64::from_bits(mantissa_bits);
    let s = (m - 1.0) / (m + 1.0);
    let square = s * s;
    let mut series = 0.0;
    for k in (0..TERMS).rev() {
        series = series * square + 1.0 / f64::from(2 * k + 1);
    }
    exponent as f64 * std::f64::consts::LN_2 + (s * 2.0) * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp2_is_close_everywhere_and_exact_at_whole_numbers() {
        for n in -125..=126 {
            assert_eq!(exp2(n as f32), power_of_two(n), "2^{n}");
        }
        for i in 0..200_000 {
            let x = -125.0 + 251.0 * (i as f32 / 200_000.0);
            let error = f64::from(exp2(x)) / f64::from(x).exp2() - 1.0;
            assert!(error.abs() < 2e-7, "2^{x}: {error}");
        }
    }

    #[test]
    fn exp2_does_not_exceed_one_below_zero() {
        let mut x = 0.0_f32;
        for _ in 0..100_000 {
            x = -f32::from_bits(x.to_bits() & 0x7fff_ffff).next_up();
            assert!(exp2(x) <= 1.0);
        }
    }

    #[test]
    fn round_even_equals_the_library() {
        for x in [0.5, 1.5, 2.5, -0.5, -1.5, 1e6 + 0.5, 0.499_999_97, -2_097_151.5] {
            assert_eq!(round_even(x), f32::round_ties_even(x), "{x}");
        }
    }

    #[test]
    fn silu_matches_its_definition() {
        for i in -4000..4000 {
            let x = i as f32 * 0.025;
            let exact = f64::from(x) / (1.0 + (-f64::from(x)).exp());
            let tolerance = 2e-7 * (2.0 + f64::from(x).abs()) * exact.abs() + 1e-30;
            assert!((f64::from(silu(x)) - exact).abs() <= tolerance, "{x}");
        }
        assert_eq!(silu(-1e30).to_bits(), 0);
        assert_eq!(silu(1e30), 1e30);
    }

    #[test]
    fn bf16_rounds_to_nearest_even() {
        assert_eq!(to_bf16(1.0), 0x3f80);
        assert_eq!(to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert_eq!(to_bf16(f32::from_bits(0x3f80_8001)), 0x3f81);
        assert_eq!(from_bf16(to_bf16(-2.5)), -2.5);
    }

    #[test]
    fn flush_clears_small_numbers_and_the_sign_of_zero() {
        assert_eq!(flush(-0.0).to_bits(), 0);
        assert_eq!(flush(-f32::MIN_POSITIVE).to_bits(), 0);
        assert_eq!(flush(SMALLEST), SMALLEST);
        assert!(flush(f32::NAN).is_nan());
    }

    #[test]
    fn ln_is_close() {
        for i in 1..100_000_u32 {
            let x = f64::from(i) / 50_000.0;
            assert!((ln(x) - x.ln()).abs() <= 1e-13 * x.ln().abs() + 1e-16, "{x}");
        }
    }

    #[test]
    fn exponent_above_brackets() {
        for x in [1.0_f32, 0.75, 1e-20, 3e20, 2.0, f32::MIN_POSITIVE] {
            let e = exponent_above(x);
            assert!(f64::from(x) < 2f64.powi(e) && f64::from(x) >= 2f64.powi(e - 1));
        }
    }
}
