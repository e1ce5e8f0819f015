//! Numbers as the hexadecimal digits of their bits, so that no reader rounds them.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number that is written as its bits.
pub trait Bits: Copy {
    /// Hexadecimal digits of one number.
    const DIGITS: usize;

    /// Its bits.
    fn bits(self) -> u64;

    /// The number with these bits; digits above its own are 0.
    fn of(bits: u64) -> Self;
}

macro_rules! bits {
    ($type:ty, $digits:literal, $to:expr, $from:expr) => {
        impl Bits for $type {
            const DIGITS: usize = $digits;

            fn bits(self) -> u64 {
                $to(self)
            }

            fn of(bits: u64) -> Self {
                $from(bits)
            }
        }
    };
}

bits!(f32, 8, |x: f32| u64::from(x.to_bits()), |bits| f32::from_bits(bits as u32));
bits!(f64, 16, f64::to_bits, f64::from_bits);
bits!(u16, 4, u64::from, |bits| bits as u16);
bits!(u32, 8, u64::from, |bits| bits as u32);
bits!(i8, 2, |x: i8| u64::from(x.cast_unsigned()), |bits| (bits as u8).cast_signed());
bits!(u8, 2, u64::from, |bits| bits as u8);

/// Numbers as one text: their bits, most significant digit first, with a space between two.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hex<T>(pub Vec<T>);

impl<T: Bits> Serialize for Hex<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let width = T::DIGITS;
        let words: Vec<String> =
            self.0.iter().map(|number| format!("{:0width$x}", number.bits())).collect();
        serializer.serialize_str(&words.join(" "))
    }
}

impl<'de, T: Bits> Deserialize<'de> for Hex<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let word = |word: &str| match u64::from_str_radix(word, 16) {
            Ok(bits) if word.len() == T::DIGITS => Ok(T::of(bits)),
            _ => Err(serde::de::Error::custom(format!("{word:?} is no {} digits", T::DIGITS))),
        };
        text.split_whitespace().map(word).collect::<Result<_, _>>().map(Self)
    }
}

/// The bits of a list, to compare with.
#[must_use]
pub fn bits<T: Bits>(numbers: &[T]) -> Vec<u64> {
    numbers.iter().map(|number| number.bits()).collect()
}
