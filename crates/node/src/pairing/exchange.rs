//! The exchange itself: SPAKE2 over ed25519 as the crate `spake2` has it, with the keys that the
//! connection proved as names of both ends. Spec 03, 10.1.

use shoal_wire::NodeId;
use spake2::{Ed25519Group, Identity, Password, Spake2};

/// Bytes of a proof.
pub(super) const CONFIRMATION_BYTES: usize = 32;
const GUEST: &str = "shoal/pairing/guest/v1";
const HOST: &str = "shoal/pairing/host/v1";

/// The one who typed the code.
pub(super) struct Guest(Spake2<Ed25519Group>);

impl Guest {
    pub(super) fn start(code: &str, guest: NodeId, host: NodeId) -> (Self, Vec<u8>) {
        let (password, [guest, host]) = (Password::new(code), names(guest, host));
        let (state, message) = Spake2::start_a(&password, &guest, &host);
        (Self(state), message)
    }

    /// `None`: what the other end said is nothing of this exchange.
    pub(super) fn finish(self, message: &[u8]) -> Option<Keys> {
        Keys::of(self.0, message)
    }
}

/// The one who shows it.
pub(super) struct Host(Spake2<Ed25519Group>);

impl Host {
    pub(super) fn start(code: &str, guest: NodeId, host: NodeId) -> (Self, Vec<u8>) {
        let (password, [guest, host]) = (Password::new(code), names(guest, host));
        let (state, message) = Spake2::start_b(&password, &guest, &host);
        (Self(state), message)
    }

    /// `None`: what the other end said is nothing of this exchange.
    pub(super) fn finish(self, message: &[u8]) -> Option<Keys> {
        Keys::of(self.0, message)
    }
}

fn names(guest: NodeId, host: NodeId) -> [Identity; 2] {
    [Identity::new(&guest.0), Identity::new(&host.0)]
}

/// What both ends have when both know the code.
pub(super) struct Keys([u8; 32]);

impl Keys {
    fn of(state: Spake2<Ed25519Group>, message: &[u8]) -> Option<Self> {
        state.finish(message).ok()?.try_into().ok().map(Self)
    }

    fn proof(&self, of: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.0, of.as_bytes())
    }

    pub(super) fn guest(&self) -> [u8; CONFIRMATION_BYTES] {
        *self.proof(GUEST).as_bytes()
    }

    pub(super) fn host(&self) -> [u8; CONFIRMATION_BYTES] {
        *self.proof(HOST).as_bytes()
    }

    /// In constant time.
    pub(super) fn is_guest(&self, proof: &[u8]) -> bool {
        proof.try_into().is_ok_and(|proof| self.proof(GUEST) == blake3::Hash::from_bytes(proof))
    }

    /// In constant time.
    pub(super) fn is_host(&self, proof: &[u8]) -> bool {
        proof.try_into().is_ok_and(|proof| self.proof(HOST) == blake3::Hash::from_bytes(proof))
    }
}
