//! The exchange itself: SPAKE2 over ed25519 as the crate `spake2` has it, with the keys that the
//! connection proved as names of both ends. Spec 03, 10.1.

use shoal_wire::NodeId;
use spake2::{Ed25519Group, Identity, Password, Spake2};

const GUEST: &str = "shoal/pairing/guest/v1";
const HOST: &str = "shoal/pairing/host/v1";

/// One end, until it has heard the other.
pub(super) struct Side(Spake2<Ed25519Group>);

impl Side {
    /// The one who typed the code, and what it says.
    pub(super) fn guest(code: &str, guest: NodeId, host: NodeId) -> (Self, Vec<u8>) {
        let [guest, host] = names(guest, host);
        let (state, message) = Spake2::start_a(&Password::new(code), &guest, &host);
        (Self(state), message)
    }

    /// The one who shows it, and what it says.
    pub(super) fn host(code: &str, guest: NodeId, host: NodeId) -> (Self, Vec<u8>) {
        let [guest, host] = names(guest, host);
        let (state, message) = Spake2::start_b(&Password::new(code), &guest, &host);
        (Self(state), message)
    }

    /// `None`: what the other end said is nothing of this exchange.
    pub(super) fn finish(self, message: &[u8]) -> Option<Keys> {
        self.0.finish(message).ok()?.try_into().ok().map(Keys)
    }
}

fn names(guest: NodeId, host: NodeId) -> [Identity; 2] {
    [Identity::new(&guest.0), Identity::new(&host.0)]
}

/// What both ends have when both know the code.
pub(super) struct Keys([u8; 32]);

impl Keys {
    fn proof(&self, of: &str) -> blake3::Hash {
        blake3::keyed_hash(&self.0, of.as_bytes())
    }

    pub(super) fn guest(&self) -> [u8; blake3::OUT_LEN] {
        *self.proof(GUEST).as_bytes()
    }

    pub(super) fn host(&self) -> [u8; blake3::OUT_LEN] {
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
