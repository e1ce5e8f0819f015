//! Names of packages: what a user types.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest name; file systems hold 255 bytes.
const NAME_BYTES_MAX: usize = 128;

/// A name for a package: letters, digits and `. _ - :`, beginning with a letter or digit.
///
/// Never 64 hexadecimal digits, so that it cannot be taken for an id.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PackageName(String);

/// A text that is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is no name: 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ - :, a letter or digit first, \
     not an id"
)]
pub struct NameError {
    /// The text, shortened.
    pub text: String,
}

impl PackageName {
    /// The name most like `text`, for files that are called something else.
    #[must_use]
    pub fn like(text: &str) -> Self {
        let allowed = |c: char| if is_allowed(c) { c } else { '-' };
        let name: String = text.chars().map(allowed).take(NAME_BYTES_MAX).collect();
        let name = name.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        name.parse().unwrap_or_else(|_| Self("model".to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':')
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

impl FromStr for PackageName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let first = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let fits = text.len() <= NAME_BYTES_MAX && text.chars().all(is_allowed);
        if first && fits && !is_id(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(NameError { text: text.chars().take(NAME_BYTES_MAX).collect() })
    }
}

impl TryFrom<String> for PackageName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<PackageName> for String {
    fn from(name: PackageName) -> Self {
        name.0
    }
}

impl fmt::Display for PackageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_never_ids() {
        for good in ["a", "Llama-3.2-1B:i4", "stories260Ktok512", "0_x", &"f".repeat(63)] {
            assert_eq!(good.parse::<PackageName>().unwrap().as_str(), good);
        }
        let (id, long) = ("0".repeat(64), "x".repeat(129));
        for bad in ["", ".hidden", "-flag", "a/b", "a b", "ä", "a\n", &id, &long] {
            assert!(bad.parse::<PackageName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn every_text_has_a_name_like_it() {
        let cases = [
            ("Llama 3.2 1B", "Llama-3.2-1B"),
            ("../../etc/passwd", "etc-passwd"),
            ("…", "model"),
            ("", "model"),
        ];
        for (text, expected) in cases {
            assert_eq!(PackageName::like(text).as_str(), expected);
        }
        assert_eq!(PackageName::like(&"0".repeat(64)).as_str(), "model");
    }
}
