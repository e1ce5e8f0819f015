//! Entry points for fuzzing: bytes in, no panic out. Not part of the program.

use ed25519_dalek::SigningKey;
use shoal_base::{Digest, PackageId};
use shoal_wire::{LeafSet, blob_root, leaf_count};

use crate::index;
use crate::record::Record;

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

/// The record of a blob of `bytes` bytes of which every third leaf is there.
///
/// # Panics
/// When it has more leaves than a blob may have.
#[must_use]
pub fn record_bytes(bytes: u64) -> Vec<u8> {
    let count = u32::try_from(leaf_count(bytes)).expect("the caller gives short blobs");
    let leaves: Vec<Digest> = (0..count).map(|leaf| Digest([leaf as u8; 32])).collect();
    let mut held = LeafSet::new(count);
    for leaf in (0..count).step_by(3) {
        held.insert(leaf);
    }
    let blob = blob_root(&leaves).expect("there is a leaf");
    Record { blob, bytes, held, leaves }.to_bytes()
}

/// Reads a record and writes it again; `None` when it is refused.
#[must_use]
pub fn record_again(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(Record::parse(bytes)?.to_bytes())
}
