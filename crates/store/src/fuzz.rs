//! Entry points for fuzzing: bytes in, no panic out. Not part of the program.

use ed25519_dalek::SigningKey;
use shoal_base::{Digest, PackageId};

use crate::index;

/// A key that only this module has.
fn key() -> SigningKey {
    SigningKey::from_bytes(&[7; 32])
}

/// A signed index of these names, all for one package.
///
/// # Panics
/// When one is no name.
#[must_use]
pub fn index_bytes(names: &[&str]) -> Vec<u8> {
    let entry = |name: &&str| {
        let name = name.parse().expect("the caller gives names");
        (name, PackageId(Digest::of(b"a package")))
    };
    index::to_bytes(&key(), names.iter().map(entry).collect())
}

/// The names of an index signed with the key of [`index_bytes`]; `None` when it is refused.
#[must_use]
pub fn index_names(bytes: &[u8]) -> Option<Vec<String>> {
    let names = index::parse(bytes, &key()).ok()?;
    Some(names.keys().map(ToString::to_string).collect())
}
