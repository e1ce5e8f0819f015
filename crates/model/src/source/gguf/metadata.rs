//! Metadata of a GGUF file: keys in memory, scalars in memory, texts and arrays where they are.

use std::collections::BTreeMap;

use super::super::input::Cursor;
use super::super::limits;
use super::super::{Input, SourceError};

/// A metadata value. Texts and arrays are positions, read when they are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// Any integer type, if it is not negative.
    Unsigned(u64),
    /// A negative integer.
    Negative(i64),
    /// Either float type.
    Float(f64),
    Bool(bool),
    /// Offset of the length before the text.
    Text(u64),
    Array {
        kind: Kind,
        count: u64,
        /// Of the first element.
        offset: u64,
    },
}

/// The type of a value, by its number in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Text = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::Text,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, SourceError> {
        let offset = cursor.offset();
        let number = cursor.u32()? as usize;
        let kind = Self::ALL.get(number).copied();
        kind.ok_or_else(|| cursor.input().malformed(offset, "a value type is 0 to 12"))
    }

    /// Bytes of a value of fixed size.
    fn size(self) -> Option<u64> {
        match self {
            Self::U8 | Self::I8 | Self::Bool => Some(1),
            Self::U16 | Self::I16 => Some(2),
            Self::U32 | Self::I32 | Self::F32 => Some(4),
            Self::U64 | Self::I64 | Self::F64 => Some(8),
            Self::Text | Self::Array => None,
        }
    }
}

/// Everything before the tensor directory.
#[derive(Debug)]
pub(super) struct Metadata {
    entries: BTreeMap<Box<str>, Value>,
}

impl Metadata {
    pub(super) fn parse(cursor: &mut Cursor<'_>, count: u64) -> Result<Self, SourceError> {
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let offset = cursor.offset();
            let key = cursor.text("bytes of a key", limits::KEY_BYTES_MAX)?;
            if key.is_empty() {
                return Err(cursor.input().malformed(offset, "a key is not empty"));
            }
            let value = Value::parse(cursor)?;
            if entries.contains_key(key.as_str()) {
                return Err(SourceError::Duplicate {
                    file: cursor.input().file().to_path_buf(),
                    offset,
                    name: key,
                });
            }
            entries.insert(key.into_boxed_str(), value);
        }
        Ok(Self { entries })
    }

    pub(super) fn get(&self, key: &str) -> Option<Value> {
        self.entries.get(key).copied()
    }

    pub(super) fn u32(&self, input: &Input, key: &str) -> Result<Option<u32>, SourceError> {
        let rule = "an integer in 0..2^32";
        self.typed(input, key, rule, |value| match value {
            Value::Unsigned(n) => u32::try_from(n).ok(),
            _ => None,
        })
    }

    /// Whether a key is -1, or 2^32 - 1 as which it is often written.
    pub(super) fn is_minus_one(&self, key: &str) -> bool {
        match self.get(key) {
            Some(Value::Unsigned(n)) => n == u64::from(u32::MAX),
            Some(Value::Negative(n)) => n == -1,
            _ => false,
        }
    }

    pub(super) fn float(&self, input: &Input, key: &str) -> Result<Option<f64>, SourceError> {
        self.typed(input, key, "a finite float", |value| match value {
            Value::Float(x) if x.is_finite() => Some(x),
            _ => None,
        })
    }

    pub(super) fn bool(&self, input: &Input, key: &str) -> Result<Option<bool>, SourceError> {
        self.typed(input, key, "a bool", |value| match value {
            Value::Bool(x) => Some(x),
            _ => None,
        })
    }

    pub(super) fn text(
        &self,
        input: &Input,
        key: &str,
        limit: u64,
    ) -> Result<Option<String>, SourceError> {
        let offset = self.typed(input, key, "a text", |value| match value {
            Value::Text(offset) => Some(offset),
            _ => None,
        })?;
        let read = |offset| Cursor::new(input, offset).text("bytes of a text", limit);
        offset.map(read).transpose()
    }

    /// A number that is given once, or once per layer and the same for all.
    pub(super) fn u32_of_layers(
        &self,
        input: &Input,
        key: &str,
    ) -> Result<Option<u32>, SourceError> {
        let Some(Value::Array { .. }) = self.get(key) else {
            return self.u32(input, key);
        };
        let rule = "one integer, or the same one for all layers";
        let values = self.integers(input, key, limits::TENSOR_COUNT_MAX)?;
        let values = values.unwrap_or_default();
        let same = values.windows(2).all(|pair| pair[0] == pair[1]);
        let value = values.first().and_then(|&n| u32::try_from(n).ok());
        match value {
            Some(value) if same => Ok(Some(value)),
            _ => Err(wrong(input, key, rule)),
        }
    }

    /// An array of integers that fit 32 bits.
    pub(super) fn integers(
        &self,
        input: &Input,
        key: &str,
        count_max: u64,
    ) -> Result<Option<Vec<i32>>, SourceError> {
        let small = [Kind::U8, Kind::I8, Kind::U16, Kind::I16, Kind::U32, Kind::I32];
        let rule = "an array of integers below 2^31";
        self.array(input, key, &small, rule, count_max, |cursor, kind| {
            let value = match Value::parse_scalar(cursor, kind)? {
                Value::Unsigned(n) => i32::try_from(n).ok(),
                Value::Negative(n) => i32::try_from(n).ok(),
                _ => None,
            };
            value.ok_or_else(|| wrong(input, key, rule))
        })
    }

    /// An array of bytes.
    pub(super) fn bytes(
        &self,
        input: &Input,
        key: &str,
        limit: u64,
    ) -> Result<Option<Vec<u8>>, SourceError> {
        let rule = "an array of bytes";
        self.array(input, key, &[Kind::U8, Kind::I8], rule, limit, |cursor, _| cursor.u8())
    }

    pub(super) fn floats(
        &self,
        input: &Input,
        key: &str,
        count_max: u64,
    ) -> Result<Option<Vec<f32>>, SourceError> {
        let rule = "an array of 32-bit floats";
        self.array(input, key, &[Kind::F32], rule, count_max, |cursor, _| {
            Ok(f32::from_le_bytes(cursor.array()?))
        })
    }

    /// An array of texts, not necessarily UTF-8.
    pub(super) fn texts(
        &self,
        input: &Input,
        key: &str,
        count_max: u64,
    ) -> Result<Option<Vec<Vec<u8>>>, SourceError> {
        let rule = "an array of texts";
        self.array(input, key, &[Kind::Text], rule, count_max, |cursor, _| {
            cursor.bytes("bytes of a piece", limits::PIECE_BYTES_MAX)
        })
    }

    fn array<T>(
        &self,
        input: &Input,
        key: &str,
        kinds: &[Kind],
        rule: &'static str,
        count_max: u64,
        mut element: impl FnMut(&mut Cursor<'_>, Kind) -> Result<T, SourceError>,
    ) -> Result<Option<Vec<T>>, SourceError> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let Value::Array { kind, count, offset } = value else {
            return Err(wrong(input, key, rule));
        };
        if !kinds.contains(&kind) {
            return Err(wrong(input, key, rule));
        }
        if count > count_max {
            return Err(input.oversize(offset, "array elements", count, count_max));
        }
        // The array was found to lie in the file, so `count` elements of a byte or more do too.
        let mut values = Vec::with_capacity(usize::try_from(count).expect("limits fit usize"));
        let mut cursor = Cursor::new(input, offset);
        for _ in 0..count {
            values.push(element(&mut cursor, kind)?);
        }
        Ok(Some(values))
    }

    fn typed<T>(
        &self,
        input: &Input,
        key: &str,
        rule: &'static str,
        convert: impl Fn(Value) -> Option<T>,
    ) -> Result<Option<T>, SourceError> {
        match self.get(key) {
            None => Ok(None),
            Some(value) => match convert(value) {
                Some(value) => Ok(Some(value)),
                None => Err(wrong(input, key, rule)),
            },
        }
    }
}

/// A key whose value breaks a rule.
pub(super) fn wrong(input: &Input, key: &str, rule: &'static str) -> SourceError {
    SourceError::Key { file: input.file().to_path_buf(), key: key.to_owned(), rule }
}

impl Value {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, SourceError> {
        match Kind::parse(cursor)? {
            Kind::Text => {
                let offset = cursor.offset();
                let len = cursor.u64()?;
                cursor.skip(len)?;
                Ok(Self::Text(offset))
            }
            Kind::Array => Self::parse_array(cursor),
            kind => Self::parse_scalar(cursor, kind),
        }
    }

    /// Walks over an array, so that its end is known to be in the file.
    fn parse_array(cursor: &mut Cursor<'_>) -> Result<Self, SourceError> {
        let start = cursor.offset();
        let kind = Kind::parse(cursor)?;
        let count = cursor.u64()?;
        let offset = cursor.offset();
        match kind.size() {
            Some(size) => {
                let too_long = || cursor.input().malformed(start, "an array fits the file");
                let bytes = count.checked_mul(size).ok_or_else(too_long)?;
                cursor.skip(bytes)?;
            }
            None if kind == Kind::Text => {
                // Each text has a length of 8 bytes: a count beyond the file fails at once.
                let too_long = || cursor.input().malformed(start, "an array fits the file");
                let least = count.checked_mul(8).ok_or_else(too_long)?;
                cursor.input().check_range(offset, least)?;
                for _ in 0..count {
                    let len = cursor.u64()?;
                    cursor.skip(len)?;
                }
            }
            None => {
                let rule = "an array holds no arrays";
                return Err(cursor.input().malformed(start, rule));
            }
        }
        Ok(Self::Array { kind, count, offset })
    }

    fn signed(value: i64) -> Self {
        u64::try_from(value).map_or(Self::Negative(value), Self::Unsigned)
    }

    fn parse_scalar(cursor: &mut Cursor<'_>, kind: Kind) -> Result<Self, SourceError> {
        let offset = cursor.offset();
        Ok(match kind {
            Kind::U8 => Self::Unsigned(cursor.u8()?.into()),
            Kind::I8 => Self::signed(i8::from_le_bytes(cursor.array()?).into()),
            Kind::U16 => Self::Unsigned(u16::from_le_bytes(cursor.array()?).into()),
            Kind::I16 => Self::signed(i16::from_le_bytes(cursor.array()?).into()),
            Kind::U32 => Self::Unsigned(cursor.u32()?.into()),
            Kind::I32 => Self::signed(i32::from_le_bytes(cursor.array()?).into()),
            Kind::U64 => Self::Unsigned(cursor.u64()?),
            Kind::I64 => Self::signed(i64::from_le_bytes(cursor.array()?)),
            Kind::F32 => Self::Float(f64::from(f32::from_le_bytes(cursor.array()?))),
            Kind::F64 => Self::Float(f64::from_le_bytes(cursor.array()?)),
            Kind::Bool => match cursor.u8()? {
                0 => Self::Bool(false),
                1 => Self::Bool(true),
                _ => return Err(cursor.input().malformed(offset, "a bool is 0 or 1")),
            },
            Kind::Text | Kind::Array => unreachable!("callers handle these kinds"),
        })
    }
}
