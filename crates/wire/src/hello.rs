//! The first words on a connection, and whether the other side is still there. Spec 03, 4.
//!
//! These kinds keep the form of version 1 in every version, so that nodes of any age can tell each
//! other that they share no version.

use crate::codec::record;
use crate::limits::TEXT_BYTES_MAX;
use crate::{CertificateChain, Text, Version, VersionRange};

record! {
    /// Sent by both sides as soon as the transport is up.
    pub struct Hello {
        /// What the sender speaks.
        pub versions: VersionRange,
        /// Name and version of the program, for people.
        pub software: Text<TEXT_BYTES_MAX>,
        /// Whether the sender may take part in a swarm. The transport has proved its key.
        pub certificate: Option<CertificateChain>,
        /// The highest revocation the sender has seen; 0 for none.
        pub revocation: u64,
    }
}

record! {
    /// What the receiver of a hello chose.
    pub struct Welcome {
        /// The newest version both speak.
        pub version: Version,
        /// The highest revocation the sender has seen; 0 for none.
        pub revocation: u64,
    }
}

record! {
    /// Asks for a [`Pong`].
    #[derive(Copy)]
    pub struct Ping {
        /// To be returned.
        pub nonce: u64,
    }
}

record! {
    /// The answer to a [`Ping`], sent before anything that is queued.
    #[derive(Copy)]
    pub struct Pong {
        /// That of the ping.
        pub nonce: u64,
        /// How long a new decode frame would wait to be computed, in microseconds.
        pub queue_us: u32,
    }
}
