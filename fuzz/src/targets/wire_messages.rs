//! Bytes to the body of one kind of message; a target for each kind. What is accepted has one
//! form.

use shoal_wire::limits::ENVELOPE_BYTES;
use shoal_wire::{Kind, Message, Version, examples};

use crate::{MEMORY_BYTES, Target};

/// One target for each kind.
macro_rules! kinds {
    ($($kind:ident = $name:literal),* $(,)?) => {
        pub(super) const TARGETS: &[Target] = &[$(Target {
            name: $name,
            seeds: || seeds(Kind::$kind),
            memory_bytes: MEMORY_BYTES,
            run: |bytes| run(Kind::$kind, bytes),
        }),*];
    };
}

kinds! {
    Hello = "wire_hello",
    Welcome = "wire_welcome",
    Fault = "wire_fault",
    Ping = "wire_ping",
    Pong = "wire_pong",
    LeaseRequest = "wire_lease_request",
    LeaseGrant = "wire_lease_grant",
    LeaseRefusal = "wire_lease_refusal",
    LeaseRenew = "wire_lease_renew",
    LeaseRenewed = "wire_lease_renewed",
    LeaseRelease = "wire_lease_release",
    LeaseEnd = "wire_lease_end",
    Credit = "wire_credit",
    Replay = "wire_replay",
    Prepare = "wire_prepare",
    PrepareStatus = "wire_prepare_status",
    BlobQuery = "wire_blob_query",
    BlobLeaves = "wire_blob_leaves",
    BlobRequest = "wire_blob_request",
    BlobData = "wire_blob_data",
    BlobAbsent = "wire_blob_absent",
    Descriptor = "wire_descriptor",
    MembersQuery = "wire_members_query",
    MembersReply = "wire_members_reply",
    JoinRequest = "wire_join_request",
    JoinReply = "wire_join_reply",
    RenewRequest = "wire_renew_request",
    Revocation = "wire_revocation",
    Pairing = "wire_pairing",
}

fn body(message: &Message) -> Vec<u8> {
    message.encode(Version(1)).expect("examples are short")[ENVELOPE_BYTES..].to_vec()
}

fn seeds(kind: Kind) -> Vec<Vec<u8>> {
    let all = examples::messages();
    all.iter().filter(|message| message.kind() == kind).map(body).collect()
}

fn run(kind: Kind, bytes: &[u8]) {
    if let Ok(message) = Message::from_body(kind, bytes) {
        assert_eq!(message.labelled().0, bytes, "a message has one form");
        if let Message::BlobLeaves(leaves) = message {
            let _ = leaves.is_genuine();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_message_has_a_target() {
        assert_eq!(TARGETS.len(), Kind::ALL.len());
    }
}
