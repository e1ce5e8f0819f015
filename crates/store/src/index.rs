//! Names of packages, signed by this store's own key.
//!
//! Whoever can write the index but not read the key (a synchronised folder, a restored backup)
//! cannot make a name mean another package. The bytes have one form, so that a signature covers
//! all of them.

use std::collections::BTreeMap;
use std::path::Path;

use ed25519_dalek::{Signature, Signer as _, SigningKey, Verifier as _};
use serde::{Deserialize, Serialize};
use shoal_base::{Digest, PackageId};

use crate::files;
use crate::{PackageName, StoreError};

const FORMAT: &str = "shoal-index";
const VERSION: u32 = 1;
const DOMAIN: &str = "shoal/index/v1";
/// Some 70 000 names.
const FILE_BYTES_MAX: u64 = 16 << 20;
const FILE_MODE: u32 = 0o600;

/// Names and the packages they mean.
pub(crate) type Names = BTreeMap<PackageName, PackageId>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Signed {
    index: Index,
    signature: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Index {
    format: String,
    version: u32,
    names: Names,
}

impl Index {
    fn new(names: Names) -> Self {
        Self { format: FORMAT.to_owned(), version: VERSION, names }
    }

    fn digest(&self) -> Digest {
        let bytes = serde_json::to_vec(self).expect("an index is plain JSON");
        Digest::tagged(DOMAIN, &bytes)
    }
}

impl Signed {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("an index is plain JSON");
        bytes.push(b'\n');
        bytes
    }
}

/// Reads an index and checks its signature.
pub(crate) fn read(path: &Path, key: &SigningKey) -> Result<Names, StoreError> {
    let broken = |rule| StoreError::Index { path: path.to_owned(), rule };
    let Some(bytes) = files::read_at_most(path, FILE_BYTES_MAX)? else {
        return Err(broken("the index is missing"));
    };
    parse(&bytes, key).map_err(broken)
}

/// The names of an index, or the rule that its bytes break.
pub(crate) fn parse(bytes: &[u8], key: &SigningKey) -> Result<Names, &'static str> {
    let signed: Signed = serde_json::from_slice(bytes).map_err(|_| "the index is damaged")?;
    if signed.index.format != FORMAT || signed.index.version != VERSION {
        return Err("the index has another version than this program reads");
    }
    let signature = signature(&signed.signature).ok_or("the signature is damaged")?;
    if signed.to_bytes() != bytes {
        return Err("the index is not in its canonical form");
    }
    let digest = signed.index.digest();
    match key.verifying_key().verify(&digest.0, &signature) {
        Ok(()) => Ok(signed.index.names),
        Err(_) => Err("the index was not signed by this store's key"),
    }
}

/// The names of an index that may be damaged or signed by anybody; none when it is unreadable.
pub(crate) fn read_unchecked(path: &Path) -> Names {
    let bytes = files::read_at_most(path, FILE_BYTES_MAX).ok().flatten().unwrap_or_default();
    let signed = serde_json::from_slice::<Signed>(&bytes);
    signed.map(|signed| signed.index.names).unwrap_or_default()
}

/// Signs and writes an index.
pub(crate) fn write(path: &Path, key: &SigningKey, names: Names) -> Result<(), StoreError> {
    files::replace(path, &to_bytes(key, names), FILE_MODE)
}

/// The bytes of a signed index.
pub(crate) fn to_bytes(key: &SigningKey, names: Names) -> Vec<u8> {
    let index = Index::new(names);
    let signature = key.sign(&index.digest().0).to_bytes();
    let (r, s) = signature.split_at(32);
    let half = |bytes: &[u8]| Digest(bytes.try_into().expect("half of 64 bytes"));
    // 64 bytes in the text form of two digests.
    Signed { index, signature: format!("{}{}", half(r), half(s)) }.to_bytes()
}

fn signature(text: &str) -> Option<Signature> {
    let (r, s) = text.split_at_checked(64)?;
    let (r, s): (Digest, Digest) = (r.parse().ok()?, s.parse().ok()?);
    Some(Signature::from_components(r.0, s.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let id = |byte| PackageId(Digest([byte; 32]));
        [("a", id(1)), ("b", id(2))].map(|(name, id)| (name.parse().unwrap(), id)).into()
    }

    fn key(byte: u8) -> SigningKey {
        SigningKey::from_bytes(&[byte; 32])
    }

    #[test]
    fn an_index_comes_back_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.json");
        write(&path, &key(7), names()).unwrap();
        assert_eq!(read(&path, &key(7)).unwrap(), names());
        assert_eq!(read_unchecked(&path), names());
    }

    #[test]
    fn every_change_and_every_other_key_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.json");
        let rule = |key: &SigningKey| match read(&path, key) {
            Err(StoreError::Index { rule, .. }) => rule,
            other => panic!("{other:?}"),
        };
        assert_eq!(rule(&key(7)), "the index is missing");
        write(&path, &key(7), names()).unwrap();
        assert_eq!(rule(&key(8)), "the index was not signed by this store's key");
        let good = std::fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&path, &bad).unwrap();
            assert!(rule(&key(7)).starts_with("the "), "byte {at}");
        }
        std::fs::write(&path, [&good[..], b" "].concat()).unwrap();
        assert_eq!(rule(&key(7)), "the index is not in its canonical form");
        std::fs::write(&path, b"{").unwrap();
        assert_eq!(rule(&key(7)), "the index is damaged");
        assert_eq!(read_unchecked(&path), Names::new());
    }
}
