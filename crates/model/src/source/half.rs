//! IEEE 754 binary16 and bfloat16, as bits. Only integer operations and one exact product, so the
//! result does not depend on flush-to-zero settings of the thread.

/// The value of a binary16, exactly.
#[inline]
pub(super) fn f16_to_f32(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let sign = (bits & 0x8000) << 16;
    let exponent = (bits >> 10) & 0x1f;
    let mantissa = bits & 0x3ff;
    let magnitude = match exponent {
        // 2^-24 is the unit of subnormals; the product is exact and normal in f32.
        0 => (mantissa as f32 * f32::from_bits((127 - 24) << 23)).to_bits(),
        31 => 0x7f80_0000 | mantissa << 13,
        _ => (exponent + 112) << 23 | mantissa << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// The binary16 nearest to a value, ties to even. Above the largest finite one: infinity.
#[inline]
pub(super) fn f32_to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = ((bits >> 16) & 0x8000) as u16;
    let magnitude = bits & 0x7fff_ffff;
    if magnitude > 0x7f80_0000 {
        return sign | 0x7e00;
    }
    // Exponent below 2^-14: a subnormal, whose unit is 2^-24.
    let (significand, shift) = if magnitude < (127 - 14) << 23 {
        let exponent = (magnitude >> 23).max(1);
        let hidden = if magnitude >> 23 == 0 { 0 } else { 1 << 23 };
        // Below half the unit everything becomes zero, from a shift of 25 on.
        (magnitude & 0x7f_ffff | hidden, (127 - 14 + 13 - exponent).min(31))
    } else {
        (magnitude - ((127 - 15) << 23), 13)
    };
    let kept = significand >> shift;
    let rest = significand & ((1 << shift) - 1);
    let half = 1 << (shift - 1);
    let up = rest > half || (rest == half && kept & 1 == 1);
    // A carry out of the mantissa raises the exponent, up to infinity.
    sign | (kept + u32::from(up)).min(0x7c00) as u16
}

/// The value of a bfloat16, exactly.
#[inline]
pub(super) fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition: sign, then `mantissa * 2^(exponent - 25)`, a hidden bit unless subnormal.
    fn value(bits: u16) -> f64 {
        let exponent = i32::from((bits >> 10) & 0x1f);
        let mantissa = f64::from(bits & 0x3ff);
        let magnitude = match exponent {
            0 => mantissa * 2f64.powi(-24),
            31 if mantissa == 0.0 => f64::INFINITY,
            31 => f64::NAN,
            _ => (mantissa + 1024.0) * 2f64.powi(exponent - 25),
        };
        if bits >> 15 == 1 { -magnitude } else { magnitude }
    }

    #[test]
    fn every_binary16_has_its_defined_value_and_comes_back() {
        for bits in 0..=u16::MAX {
            let expected = value(bits);
            let got = f16_to_f32(bits);
            if expected.is_nan() {
                assert!(got.is_nan(), "{bits:#06x}");
                assert!(value(f32_to_f16(got)).is_nan(), "{bits:#06x}");
            } else {
                assert_eq!(f64::from(got).to_bits(), expected.to_bits(), "{bits:#06x}");
                assert_eq!(f32_to_f16(got), bits, "{bits:#06x}");
            }
        }
    }

    #[test]
    fn rounding_takes_the_nearest_and_the_even_one_of_two() {
        for low in 0..0x7c00_u16 {
            let (a, b) = (value(low), value(low + 1));
            let top = if b.is_finite() { b } else { 65536.0 };
            let middle = ((a + top) / 2.0) as f32;
            assert_eq!(f64::from(middle), (a + top) / 2.0, "midpoints are exact in f32");
            let even = low + (low & 1);
            assert_eq!(f32_to_f16(middle), even, "{low:#06x}");
            assert_eq!(f32_to_f16(middle.next_down()), low, "{low:#06x}");
            assert_eq!(f32_to_f16(middle.next_up()), low + 1, "{low:#06x}");
            assert_eq!(f32_to_f16(-middle), 0x8000 | even, "{low:#06x}");
        }
        assert_eq!(f32_to_f16(f32::MAX), 0x7c00);
        assert_eq!(f32_to_f16(f32::from_bits(1)), 0);
        assert_eq!(f32_to_f16(-f32::MIN_POSITIVE), 0x8000);
    }
}
