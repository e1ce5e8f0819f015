//! The encoding: fields in order, little-endian, lengths in front. Spec 03, 3.
//!
//! Owns [`Field`], how it is written and read, and the macros that declare records and numbered
//! choices. A record is the concatenation of its fields, so the declaration of a type is its
//! layout.

use shoal_base::{Digest, PackageId};

use crate::WireError;

/// A value with one encoding.
pub trait Field: Sized {
    /// The fewest bytes of any value; at least 1, so that a list is never longer than its bytes.
    const BYTES_MIN: usize;

    /// Appends the encoding.
    fn write(&self, out: &mut Writer);

    /// Reads one value.
    ///
    /// # Errors
    /// Whatever is not the encoding of a value.
    fn read(input: &mut Reader<'_>) -> Result<Self, WireError>;

    /// The encoding alone.
    #[must_use]
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::default();
        self.write(&mut out);
        out.bytes
    }

    /// Reads a value that fills the bytes.
    ///
    /// # Errors
    /// Whatever is not the encoding of one value, to the last byte.
    fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let value = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(value)
    }
}

/// Where a field starts in an encoding, for people who read the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Offset of its first byte.
    pub start: usize,
    /// How deep it is nested.
    pub depth: usize,
    /// Its name.
    pub name: &'static str,
}

/// Bytes under construction.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    depth: usize,
    labels: Option<Vec<Label>>,
}

impl Writer {
    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Appends bytes as they are.
    pub fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a named field.
    pub fn field<T: Field>(&mut self, name: &'static str, value: &T) {
        let label = Label { start: self.bytes.len(), depth: self.depth, name };
        if let Some(labels) = &mut self.labels {
            labels.push(label);
        }
        self.depth += 1;
        value.write(self);
        self.depth -= 1;
    }
}

/// The encoding of a value and the fields in it.
#[must_use]
pub fn labelled<T: Field>(value: &T) -> (Vec<u8>, Vec<Label>) {
    let mut out = Writer { labels: Some(Vec::new()), ..Writer::default() };
    value.write(&mut out);
    (out.bytes, out.labels.unwrap_or_default())
}

/// Bytes of a stranger, read from the front.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    field: &'static str,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, field: "message" }
    }

    /// The name of the field being read, for errors.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.field
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    /// The next bytes.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], WireError> {
        let left = self.bytes.len();
        let short = WireError::Short { field: self.field, needed: count, left };
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or(short)?;
        self.bytes = rest;
        Ok(taken)
    }

    /// The next bytes as an array.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// A named field.
    ///
    /// # Errors
    /// Those of the field.
    pub fn field<T: Field>(&mut self, name: &'static str) -> Result<T, WireError> {
        self.field = name;
        T::read(self)
    }

    /// The count in front of a list whose items take at least so many bytes. Checked against the
    /// limit and against the bytes that are there, before anything is allocated.
    ///
    /// # Errors
    /// When either is exceeded.
    pub fn count(&mut self, limit: usize, item_bytes_min: usize) -> Result<usize, WireError> {
        let field = self.field;
        let got = u32::read(self)?;
        let count = usize::try_from(got).unwrap_or(usize::MAX);
        if count > limit {
            return Err(WireError::Limit { field, got: got.into(), limit: limit as u64 });
        }
        let needed = count.saturating_mul(item_bytes_min);
        if needed > self.left() {
            return Err(WireError::Short { field, needed, left: self.left() });
        }
        Ok(count)
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// When something is.
    pub fn finish(self) -> Result<(), WireError> {
        match self.bytes.len() {
            0 => Ok(()),
            got => Err(WireError::Trailing { got }),
        }
    }
}

macro_rules! integer {
    ($($type:ty),*) => {$(
        impl Field for $type {
            const BYTES_MIN: usize = size_of::<$type>();

            fn write(&self, out: &mut Writer) {
                out.put(&self.to_le_bytes());
            }

            fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
                Ok(Self::from_le_bytes(input.array()?))
            }
        }
    )*};
}

integer!(u8, u16, u32, u64, i32);

impl Field for bool {
    const BYTES_MIN: usize = 1;

    fn write(&self, out: &mut Writer) {
        out.put(&[u8::from(*self)]);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        match u8::read(input)? {
            0 => Ok(false),
            1 => Ok(true),
            got => Err(WireError::Unknown { field: input.field, got: got.into() }),
        }
    }
}

impl<T: Field> Field for Option<T> {
    const BYTES_MIN: usize = 1;

    fn write(&self, out: &mut Writer) {
        self.is_some().write(out);
        if let Some(value) = self {
            value.write(out);
        }
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        if bool::read(input)? { T::read(input).map(Some) } else { Ok(None) }
    }
}

impl<const N: usize> Field for [u8; N] {
    const BYTES_MIN: usize = N;

    fn write(&self, out: &mut Writer) {
        out.put(self);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.array()
    }
}

impl Field for Digest {
    const BYTES_MIN: usize = 32;

    fn write(&self, out: &mut Writer) {
        out.put(&self.0);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.array().map(Self)
    }
}

impl Field for PackageId {
    const BYTES_MIN: usize = 32;

    fn write(&self, out: &mut Writer) {
        self.0.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Digest::read(input).map(Self)
    }
}

/// Declares a struct whose encoding is its fields in order. With `check`, a function from the
/// value to a result decides what else is refused.
macro_rules! record {
    (
        $(#[$meta:meta])*
        pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)* }
        $(check $check:path;)?
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name { $($(#[$field_meta])* pub $field: $type,)* }

        impl $crate::Field for $name {
            const BYTES_MIN: usize = 0 $(+ <$type as $crate::Field>::BYTES_MIN)*;

            fn write(&self, out: &mut $crate::Writer) {
                $(out.field(stringify!($field), &self.$field);)*
            }

            fn read(input: &mut $crate::Reader<'_>) -> Result<Self, $crate::WireError> {
                let value = Self { $($field: input.field(stringify!($field))?,)* };
                $($check(&value)?;)?
                Ok(value)
            }
        }
    };
}

/// Declares an enum whose variants are numbers.
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident: $int:ty {
            $($(#[$variant_meta:meta])* $variant:ident = $number:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_meta])* $variant = $number,)* }

        impl $name {
            /// Every variant.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> $int {
                match self { $(Self::$variant => $number,)* }
            }
        }

        impl $crate::Field for $name {
            const BYTES_MIN: usize = size_of::<$int>();

            fn write(&self, out: &mut $crate::Writer) {
                self.number().write(out);
            }

            fn read(input: &mut $crate::Reader<'_>) -> Result<Self, $crate::WireError> {
                let field = input.name();
                match <$int as $crate::Field>::read(input)? {
                    $($number => Ok(Self::$variant),)*
                    got => Err($crate::WireError::Unknown { field, got: got.into() }),
                }
            }
        }
    };
}

/// Declares a wrapper that is encoded as what it wraps.
macro_rules! wrapper {
    ($($(#[$meta:meta])* pub struct $name:ident(pub $type:ty);)*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub $type);

        impl $crate::Field for $name {
            const BYTES_MIN: usize = <$type as $crate::Field>::BYTES_MIN;

            fn write(&self, out: &mut $crate::Writer) {
                self.0.write(out);
            }

            fn read(input: &mut $crate::Reader<'_>) -> Result<Self, $crate::WireError> {
                <$type as $crate::Field>::read(input).map(Self)
            }
        }
    )*};
}

pub(crate) use {choice, record, wrapper};
