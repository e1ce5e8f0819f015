//! Inputs: random numbers that are the same everywhere, and awkward ones.

/// `SplitMix64`.
#[derive(Clone, Debug)]
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `low..=high`.
    pub(crate) fn within(&mut self, low: i32, high: i32) -> i32 {
        let span = (i64::from(high) - i64::from(low) + 1).cast_unsigned();
        low + (self.next() % span) as i32
    }

    /// In -`size`..`size`.
    pub(crate) fn float(&mut self, size: f32) -> f32 {
        ((self.next() >> 40) as f32 / 8_388_608.0 - 1.0) * size
    }

    pub(crate) fn floats(&mut self, count: usize, size: f32) -> Vec<f32> {
        (0..count).map(|_| self.float(size)).collect()
    }

    /// Of any magnitude from 2^`low` to 2^`high`.
    pub(crate) fn spread(&mut self, low: i32, high: i32) -> f32 {
        let exponent = self.within(low, high - 1);
        let fraction = (self.next() >> 41) as u32;
        let sign = ((self.next() & 1) as u32) << 31;
        f32::from_bits(sign | ((exponent + 127).cast_unsigned() << 23) | fraction)
    }
}

/// 2^`exponent`.
pub(crate) fn two(exponent: i32) -> f32 {
    f32::from_bits((exponent + 127).cast_unsigned() << 23)
}
