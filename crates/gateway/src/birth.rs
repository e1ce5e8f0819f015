//! What an answer takes from chance and from the clock, drawn once before it is begun.
//!
//! Invariant: the same request, package and birth give the same answer, its ids included. So an
//! answer that a crash interrupted can be made again as it was. Not of a birth, but of the machine
//! that computes, are the numbers of cached tokens, times, and in which order the answers of one
//! stream take turns.

use std::sync::Arc;

use serde_json::{Value, json};
use shoal_base::PackageId;

use crate::app::unix_s;
use crate::error::ApiError;

/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;

/// Seed, time and ids of one answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Birth {
    pub(crate) seed: u64,
    pub(crate) created_unix_s: u64,
    nonce: [u8; 32],
}

impl Birth {
    /// Now, with this seed.
    pub(crate) fn new(seed: u64) -> Self {
        let mut nonce = [0; 32];
        // Without a source of randomness ids repeat, which harms nothing but logs.
        let _ = getrandom::fill(&mut nonce);
        Self { seed, created_unix_s: unix_s(), nonce }
    }

    /// The id of a part of the answer: of the `place`-th of its kind in the choice.
    pub(crate) fn id(&self, kind: &str, choice: usize, place: usize) -> String {
        let part = format!("{kind} {choice} {place}");
        let hash = blake3::keyed_hash(&self.nonce, part.as_bytes()).to_hex();
        format!("{kind}_{}", &hash[..ID_DIGITS])
    }

    /// The id of a call of a tool.
    pub(crate) fn call_id(&self, choice: usize, place: usize) -> String {
        self.id("call", choice, place)
    }

    /// As it is written down.
    pub(crate) fn to_json(&self) -> Value {
        let nonce = blake3::Hash::from_bytes(self.nonce);
        json!({
            "seed": self.seed, "created_unix_s": self.created_unix_s,
            "nonce": nonce.to_hex().as_str(),
        })
    }

    /// Reads what was written down.
    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let nonce = blake3::Hash::from_hex(value["nonce"].as_str()?).ok()?;
        Some(Self {
            seed: value["seed"].as_u64()?,
            created_unix_s: value["created_unix_s"].as_u64()?,
            nonce: *nonce.as_bytes(),
        })
    }
}

/// Writes births down, before anything is computed.
pub(crate) trait Register: Send + Sync {
    /// The birth of an answer by this package: the one written down for its key, or else the given
    /// one, which is written down now. May block.
    fn settle(&self, package: PackageId, birth: Birth) -> Result<Birth, ApiError>;
}

/// How a request was admitted: with a key, its birth is written down.
#[derive(Clone, Default)]
pub(crate) struct Admission(pub(crate) Option<Arc<dyn Register>>);

impl Admission {
    /// The birth of an answer with this seed. May block.
    pub(crate) fn birth(&self, package: PackageId, seed: u64) -> Result<Birth, ApiError> {
        let birth = Birth::new(seed);
        match &self.0 {
            Some(register) => register.settle(package, birth),
            None => Ok(birth),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_birth_that_was_written_down_gives_the_same_ids() {
        let birth = Birth::new(u64::MAX);
        let again = Birth::from_json(&birth.to_json()).unwrap();
        assert_eq!(again, birth);
        assert_eq!(again.call_id(1, 2), birth.call_id(1, 2));
        assert_ne!(birth.call_id(1, 2), birth.call_id(2, 1));
        assert_ne!(birth.call_id(1, 2), Birth::new(birth.seed).call_id(1, 2));
        assert_eq!(birth.id("msg", 0, 0).len(), 4 + ID_DIGITS);
        assert_eq!(Birth::from_json(&json!({ "seed": 1 })), None);
    }
}
