//! Weights as integers: i8, i4 and i4 with offsets. Spec 01 §5.
//!
//! `w[k] = D * (m[k / 32] * q[k] + o[k / 32])`, o = 0 in i8 and i4.

use crate::limits::{
    I4_CODE_MAX, I4_CODE_MIN, I4_MULTIPLIER_MAX, I4_OFFSET_MAX, I8_CODE_MAX, I8_MULTIPLIER_MAX,
    ROW_SCALE_MAX, ROW_SCALE_MIN,
};

/// How the weights of a linear map are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WeightFormat {
    /// Codes in -127..=127, multipliers in 0..=31: 8.25 bits per weight.
    I8,
    /// Codes in -8..=7, multipliers in -127..=127: 4.25 bits per weight.
    I4,
    /// As [`Self::I4`], with an offset in -2040..=2040 per block: 4.75 bits per weight.
    I4Offset,
}

impl WeightFormat {
    /// Every format, in the order of their numbers in manifests.
    pub const ALL: [Self; 3] = [Self::I8, Self::I4, Self::I4Offset];

    /// Smallest and largest code.
    #[must_use]
    pub const fn code_range(self) -> (i32, i32) {
        match self {
            Self::I8 => (-I8_CODE_MAX, I8_CODE_MAX),
            Self::I4 | Self::I4Offset => (I4_CODE_MIN, I4_CODE_MAX),
        }
    }

    /// Smallest and largest block multiplier.
    #[must_use]
    pub const fn multiplier_range(self) -> (i32, i32) {
        match self {
            Self::I8 => (0, I8_MULTIPLIER_MAX),
            Self::I4 | Self::I4Offset => (-I4_MULTIPLIER_MAX, I4_MULTIPLIER_MAX),
        }
    }

    /// Largest magnitude of a block offset.
    #[must_use]
    pub const fn offset_max(self) -> i32 {
        match self {
            Self::I8 | Self::I4 => 0,
            Self::I4Offset => I4_OFFSET_MAX,
        }
    }
}

/// One output row of a linear map, unpacked.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightRow {
    /// `q`, `[columns]`
    pub codes: Vec<i8>,
    /// `m`, `[ceil(columns / 32)]`
    pub multipliers: Vec<i8>,
    /// `o`, `[ceil(columns / 32)]`
    pub offsets: Vec<i16>,
    /// `D`
    pub scale: f32,
}

impl WeightRow {
    /// Whether every number is in the range of `format`.
    #[must_use]
    pub fn is_valid(&self, format: WeightFormat) -> bool {
        let (low, high) = format.code_range();
        let (m_low, m_high) = format.multiplier_range();
        row_scale_is_valid(self.scale)
            && self.codes.iter().all(|&q| (low..=high).contains(&i32::from(q)))
            && self.multipliers.iter().all(|&m| (m_low..=m_high).contains(&i32::from(m)))
            && self.offsets.iter().all(|&o| i32::from(o).abs() <= format.offset_max())
    }

    /// The integer `m q + o` of column `k`.
    #[must_use]
    pub fn integer(&self, k: usize) -> i32 {
        let block = k / crate::limits::BLOCK;
        i32::from(self.multipliers[block]) * i32::from(self.codes[k])
            + i32::from(self.offsets[block])
    }
}

/// Whether `scale` may be a row's `D`: 0, or with a magnitude in 2^-60..=2^40.
#[must_use]
pub fn row_scale_is_valid(scale: f32) -> bool {
    scale.to_bits() == 0 || (ROW_SCALE_MIN..=ROW_SCALE_MAX).contains(&scale.abs())
}
