//! The number formats tensors are stored in.

use std::fmt;

/// How the elements of a tensor are stored. Blocks run along the columns of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ElementType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
    /// 8 bits, one scale per 32.
    Q8_0,
    /// 4 bits around zero, one scale per 32.
    Q4_0,
    /// 4 bits, one scale and one minimum per 32.
    Q4_1,
    /// 5 bits around zero, one scale per 32.
    Q5_0,
    /// 5 bits, one scale and one minimum per 32.
    Q5_1,
    /// 2 bits, a scale and a minimum of 4 bits per 16, under a pair of scales per 256.
    Q2K,
    /// 3 bits around zero, a scale of 6 bits per 16, under one scale per 256.
    Q3K,
    /// 4 bits, a scale and a minimum of 6 bits per 32, under a pair of scales per 256.
    Q4K,
    /// 5 bits, a scale and a minimum of 6 bits per 32, under a pair of scales per 256.
    Q5K,
    /// 6 bits around zero, a scale of 8 bits per 16, under one scale per 256.
    Q6K,
    /// 4 bits that select one of 16 uneven levels, one scale per 32.
    Iq4Nl,
    /// 8 bits, one f32 scale per `group` elements of the whole tensor (llama2.c version 2).
    Int8Groups {
        /// Elements that share a scale.
        group: u32,
    },
}

/// Names of the ggml types that are not read, for messages. The position is the type number.
const GGML_TYPE_NAMES: [&str; 43] = [
    "F32",
    "F16",
    "Q4_0",
    "Q4_1",
    "Q4_2",
    "Q4_3",
    "Q5_0",
    "Q5_1",
    "Q8_0",
    "Q8_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "Q8_K",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ3_XXS",
    "IQ1_S",
    "IQ4_NL",
    "IQ3_S",
    "IQ2_S",
    "IQ4_XS",
    "I8",
    "I16",
    "I32",
    "I64",
    "F64",
    "IQ1_M",
    "BF16",
    "Q4_0_4_4",
    "Q4_0_4_8",
    "Q4_0_8_8",
    "TQ1_0",
    "TQ2_0",
    "IQ4_NL_4_4",
    "IQ4_NL_4_8",
    "IQ4_NL_8_8",
    "MXFP4",
    "NVFP4",
    "Q1_0",
    "Q2_0",
];

impl ElementType {
    /// The type a GGUF file means by a number, or the name of one that is not read.
    pub(super) fn from_ggml(number: u32) -> Result<Self, String> {
        Ok(match number {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            20 => Self::Iq4Nl,
            30 => Self::Bf16,
            _ => {
                let known = GGML_TYPE_NAMES.get(number as usize);
                return Err(known.map_or_else(|| format!("{number}"), |&name| name.to_owned()));
            }
        })
    }

    /// Elements and bytes of the smallest piece that can be decoded.
    pub(super) fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q8_0 => (32, 34),
            Self::Q4_0 | Self::Iq4Nl => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
            Self::Int8Groups { .. } => (1, 1),
        }
    }

    /// Stored bits per element, scales included.
    #[must_use]
    pub fn bits_per_weight(self) -> f64 {
        if let Self::Int8Groups { group } = self {
            return 8.0 + 32.0 / f64::from(group);
        }
        let (elements, bytes) = self.block();
        (8 * bytes) as f64 / elements as f64
    }

    /// Whether the stored codes are 4-bit integers that an importer can keep.
    #[must_use]
    pub fn has_codes(self) -> bool {
        matches!(self, Self::Q4_0 | Self::Q4_1 | Self::Q4K)
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::Q8_0 => "Q8_0",
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
            Self::Iq4Nl => "IQ4_NL",
            Self::Int8Groups { group } => return write!(f, "int8 in groups of {group}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_types_are_named_as_ggml_names_them_and_others_are_refused_by_name() {
        for (number, name) in GGML_TYPE_NAMES.iter().enumerate() {
            match ElementType::from_ggml(number as u32) {
                Ok(element) => assert_eq!(element.to_string(), *name),
                Err(refused) => assert_eq!(refused, *name),
            }
        }
        assert_eq!(ElementType::from_ggml(43), Err("43".to_owned()));
        let read = (0..43).filter(|&n| ElementType::from_ggml(n).is_ok());
        assert_eq!(read.count(), 14);
    }

    #[test]
    fn bits_count_the_scales() {
        assert_eq!(ElementType::Q4_0.bits_per_weight(), 4.5);
        assert_eq!(ElementType::Q4K.bits_per_weight(), 4.5);
        assert_eq!(ElementType::Q6K.bits_per_weight(), 6.5625);
        assert_eq!(ElementType::Q2K.bits_per_weight(), 2.625);
        assert_eq!(ElementType::Int8Groups { group: 64 }.bits_per_weight(), 8.5);
    }
}
