//! Digests that hubs publish with their files.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// What the bytes of a file must hash to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Integrity {
    /// SHA-256 of the bytes, for large files.
    Sha256([u8; 32]),
    /// SHA-1 of git's header and the bytes, for small files: guards against accidents, not
    /// against an attacker who controls the hub.
    Git([u8; 20]),
}

impl Integrity {
    /// SHA-256 in hexadecimal digits.
    pub(super) fn sha256(text: &str) -> Option<Self> {
        bytes(text).map(Self::Sha256)
    }

    /// The id git gives a file, in hexadecimal digits.
    pub(super) fn git(text: &str) -> Option<Self> {
        bytes(text).map(Self::Git)
    }

    pub(super) const fn kind(self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::Git(_) => "the id in git",
        }
    }

    pub(super) fn digits(self) -> String {
        match self {
            Self::Sha256(digest) => digits(&digest),
            Self::Git(digest) => digits(&digest),
        }
    }
}

/// Hashes a file as it arrives.
#[derive(Clone, Debug)]
pub(super) enum Hasher {
    Sha256(Sha256),
    Git(Sha1),
    /// Nothing is known about the file.
    None,
}

impl Hasher {
    /// For a file of `bytes`, which git hashes too.
    pub(super) fn new(integrity: Option<Integrity>, bytes: Option<u64>) -> Self {
        match (integrity, bytes) {
            (Some(Integrity::Sha256(_)), _) => Self::Sha256(Sha256::new()),
            (Some(Integrity::Git(_)), Some(bytes)) => {
                Self::Git(Sha1::new_with_prefix(format!("blob {bytes}\0")))
            }
            _ => Self::None,
        }
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Git(hasher) => hasher.update(bytes),
            Self::None => {}
        }
    }

    pub(super) fn finish(self) -> Option<Integrity> {
        match self {
            Self::Sha256(hasher) => Some(Integrity::Sha256(hasher.finalize().into())),
            Self::Git(hasher) => Some(Integrity::Git(hasher.finalize().into())),
            Self::None => None,
        }
    }
}

/// The bytes of hexadecimal digits.
pub(super) fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let value = |digit: u8| char::from(digit).to_digit(16);
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::try_from(value(pair[0])? * 16 + value(pair[1])?).ok()?;
    }
    Some(bytes)
}

fn digits(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_other_programs() {
        // printf hello | sha256sum; printf hello | git hash-object --stdin
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let git = "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0";
        for expected in [Integrity::sha256(sha256), Integrity::git(git)] {
            let mut hasher = Hasher::new(expected, Some(5));
            hasher.update(b"he");
            hasher.update(b"llo");
            assert_eq!(hasher.finish(), expected);
        }
        assert_eq!(Integrity::sha256(sha256).unwrap().digits(), sha256);
        assert_eq!(Integrity::sha256(git), None);
        assert_eq!(Integrity::git(&"g".repeat(40)), None);
        assert_eq!(Hasher::new(None, Some(5)).finish(), None);
    }
}
