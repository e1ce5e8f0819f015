//! Signatures: the one place that knows their arithmetic.

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use shoal_wire::{NodeId, Signable, Signature, Signed};

/// A signature that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The signer's id is no key.
    #[error("the signer's id is no key")]
    NoKey,
    /// The signature is not that of the signer over these bytes.
    #[error("the signature does not fit")]
    Forged,
}

/// The secret key of a node. Wiped from memory when dropped.
pub struct NodeKey(SigningKey);

impl std::fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeKey({})", self.id())
    }
}

impl NodeKey {
    /// From 32 secret bytes.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(secret))
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// Signs a record.
    #[must_use]
    pub fn sign<T: Signable>(&self, body: T) -> Signed<T> {
        let signer = self.id();
        let digest = Signed::digest_of(&body, signer);
        let signature = Signature(self.0.sign(&digest.0).to_bytes());
        Signed { body, signer, signature }
    }
}

/// Checks the signature of a record. Who may sign it is another question.
///
/// # Errors
/// When it does not hold.
pub fn verify<T: Signable>(signed: &Signed<T>) -> Result<(), KeyError> {
    let key = VerifyingKey::from_bytes(&signed.signer.0).map_err(|_| KeyError::NoKey)?;
    let signature = ed25519_dalek::Signature::from_bytes(&signed.signature.0);
    key.verify_strict(&signed.digest().0, &signature).map_err(|_| KeyError::Forged)
}
