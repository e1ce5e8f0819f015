//! Lists and texts with a limit in their type.

use std::ops::Deref;

use crate::{Field, Reader, WireError, Writer};

/// At most `MAX` values. Encoded as a count of 4 bytes and the values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> List<T, MAX> {
    /// Checks the limit.
    ///
    /// # Errors
    /// When there are more.
    pub fn try_new(items: Vec<T>) -> Result<Self, WireError> {
        if items.len() > MAX {
            let got = items.len() as u64;
            return Err(WireError::Limit { field: "list", got, limit: MAX as u64 });
        }
        Ok(Self(items))
    }

    /// The first `MAX` of them; those that do not fit are left out.
    #[must_use]
    pub fn truncated(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().take(MAX).collect())
    }

    /// The values.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.0
    }
}

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const MAX: usize> Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T, const MAX: usize> IntoIterator for &'a List<T, MAX> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: Field, const MAX: usize> Field for List<T, MAX> {
    const BYTES_MIN: usize = 4;

    fn write(&self, out: &mut Writer) {
        let count = u32::try_from(self.0.len()).expect("the limits are below 2^32");
        count.write(out);
        self.0.iter().for_each(|item| item.write(out));
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = input.count(MAX, T::BYTES_MIN)?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::read(input)?);
        }
        Ok(Self(items))
    }
}

/// UTF-8 of at most `MAX` bytes without control characters, as it may end up on a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// Checks length and characters.
    ///
    /// # Errors
    /// When it is too long, or holds a control character.
    pub fn try_new(text: &str) -> Result<Self, WireError> {
        if text.len() > MAX {
            let got = text.len() as u64;
            return Err(WireError::Limit { field: "text", got, limit: MAX as u64 });
        }
        if text.chars().any(char::is_control) {
            return Err(WireError::Rule { field: "text", rule: "a control character" });
        }
        Ok(Self(text.to_owned()))
    }
}

impl<const MAX: usize> Deref for Text<MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MAX: usize> Field for Text<MAX> {
    const BYTES_MIN: usize = 4;

    fn write(&self, out: &mut Writer) {
        let count = u32::try_from(self.0.len()).expect("the limits are below 2^32");
        count.write(out);
        out.put(self.0.as_bytes());
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let field = input.name();
        let count = input.count(MAX, 1)?;
        let text = std::str::from_utf8(input.take(count)?);
        Self::try_new(text.map_err(|_| WireError::Rule { field, rule: "not UTF-8" })?)
    }
}

/// At most `MAX` bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bytes<const MAX: usize>(Vec<u8>);

impl<const MAX: usize> Bytes<MAX> {
    /// Checks the limit.
    ///
    /// # Errors
    /// When there are more.
    pub fn try_new(bytes: Vec<u8>) -> Result<Self, WireError> {
        if bytes.len() > MAX {
            let got = bytes.len() as u64;
            return Err(WireError::Limit { field: "bytes", got, limit: MAX as u64 });
        }
        Ok(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl<const MAX: usize> Deref for Bytes<MAX> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const MAX: usize> Field for Bytes<MAX> {
    const BYTES_MIN: usize = 4;

    fn write(&self, out: &mut Writer) {
        let count = u32::try_from(self.0.len()).expect("the limits are below 2^32");
        count.write(out);
        out.put(&self.0);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = input.count(MAX, 1)?;
        Ok(Self(input.take(count)?.to_vec()))
    }
}
