//! What is signed, and over which bytes. Spec 03, 3.3. The arithmetic of signatures is not here.

use shoal_base::Digest;

use crate::{Field, NodeId, Reader, WireError, Writer};

/// A record that is signed under a domain of its own.
pub trait Signable: Field {
    /// The domain tag.
    const DOMAIN: &'static str;
}

/// An ed25519 signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signature(pub [u8; 64]);

impl Field for Signature {
    const BYTES_MIN: usize = 64;

    fn write(&self, out: &mut Writer) {
        out.put(&self.0);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        input.array().map(Self)
    }
}

/// A record, who signed it, and the signature. Reading one does not check the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    /// The record.
    pub body: T,
    /// Who signed.
    pub signer: NodeId,
    /// Over [`Signed::digest_of`].
    pub signature: Signature,
}

impl<T: Signable> Signed<T> {
    /// The 32 bytes that are signed.
    #[must_use]
    pub fn digest_of(body: &T, signer: NodeId) -> Digest {
        let mut bytes = body.to_bytes();
        bytes.extend(signer.0);
        Digest::tagged(T::DOMAIN, &bytes)
    }

    /// The 32 bytes that were signed, if the signature is genuine.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Self::digest_of(&self.body, self.signer)
    }
}

impl<T: Field> Field for Signed<T> {
    const BYTES_MIN: usize = T::BYTES_MIN + 32 + 64;

    fn write(&self, out: &mut Writer) {
        out.field("body", &self.body);
        out.field("signer", &self.signer);
        out.field("signature", &self.signature);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(Self {
            body: input.field("body")?,
            signer: input.field("signer")?,
            signature: input.field("signature")?,
        })
    }
}
