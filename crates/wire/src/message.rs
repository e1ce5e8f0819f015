//! The kinds of messages and the envelope before each. Spec 03, 3 and 4.

use crate::limits::{
    BLOB_MESSAGE_BYTES_MAX, ENVELOPE_BYTES, MESSAGE_BYTES_MAX, MESSAGE_LARGE_BYTES_MAX,
};
use crate::{
    BlobAbsent, BlobData, BlobLeaves, BlobQuery, BlobRequest, Credit, Descriptor, Fault, Field,
    Hello, JoinReply, JoinRequest, LeaseEnd, LeaseGrant, LeaseRefusal, LeaseRelease, LeaseRenew,
    LeaseRenewed, LeaseRequest, MembersQuery, MembersReply, Pairing, Ping, Pong, Prepare,
    PrepareStatus, Reader, RenewRequest, Replay, Revocation, Signed, Version, Welcome, WireError,
};

/// Kinds below this one have the form of version 1 in every version.
const FIXED_BELOW: u16 = 16;
/// The version in the envelopes of those kinds.
const FIXED_VERSION: Version = Version(1);

macro_rules! messages {
    ($($(#[$meta:meta])* $name:ident($type:ty) = $number:literal, $limit:expr;)*) => {
        /// The kind of a message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind { $($(#[$meta])* $name = $number,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kind with a number.
            ///
            /// # Errors
            /// When this version has none.
            pub fn of(number: u16) -> Result<Self, WireError> {
                match number {
                    $($number => Ok(Self::$name),)*
                    _ => Err(WireError::Unknown { field: "kind", got: number.into() }),
                }
            }

            /// The number on the wire.
            #[must_use]
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// The name in the specification.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// Longest body.
            #[must_use]
            pub const fn bytes_max(self) -> usize {
                match self { $(Self::$name => $limit,)* }
            }
        }

        /// A message.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Message { $($(#[$meta])* $name($type),)* }

        impl Message {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => Kind::$name,)* }
            }

            /// The body, and its fields for people who read the bytes.
            #[must_use]
            pub fn labelled(&self) -> (Vec<u8>, Vec<crate::Label>) {
                match self { $(Self::$name(body) => crate::labelled(body),)* }
            }

            fn body_to_bytes(&self) -> Vec<u8> {
                match self { $(Self::$name(body) => body.to_bytes(),)* }
            }

            /// Reads the body that follows an envelope.
            ///
            /// # Errors
            /// Whatever is not a message of this kind, to the last byte.
            pub fn from_body(kind: Kind, body: &[u8]) -> Result<Self, WireError> {
                match kind { $(Kind::$name => <$type>::from_bytes(body).map(Self::$name),)* }
            }
        }
    };
}

messages! {
    /// The first word of each side.
    Hello(Hello) = 1, MESSAGE_BYTES_MAX;
    /// The version that was chosen.
    Welcome(Welcome) = 2, MESSAGE_BYTES_MAX;
    /// Something went wrong.
    Fault(Fault) = 3, MESSAGE_BYTES_MAX;
    /// Are you there?
    Ping(Ping) = 4, MESSAGE_BYTES_MAX;
    /// Yes.
    Pong(Pong) = 5, MESSAGE_BYTES_MAX;
    /// A head asks for a stage.
    LeaseRequest(LeaseRequest) = 16, MESSAGE_BYTES_MAX;
    /// A stage accepts.
    LeaseGrant(LeaseGrant) = 17, MESSAGE_BYTES_MAX;
    /// A stage refuses.
    LeaseRefusal(LeaseRefusal) = 18, MESSAGE_BYTES_MAX;
    /// A head is still there.
    LeaseRenew(LeaseRenew) = 19, MESSAGE_BYTES_MAX;
    /// So is the stage.
    LeaseRenewed(LeaseRenewed) = 20, MESSAGE_BYTES_MAX;
    /// A head gives a stage back.
    LeaseRelease(LeaseRelease) = 21, MESSAGE_BYTES_MAX;
    /// A stage ends a lease.
    LeaseEnd(LeaseEnd) = 22, MESSAGE_BYTES_MAX;
    /// More may be sent.
    Credit(Credit) = 23, MESSAGE_BYTES_MAX;
    /// Send rows again.
    Replay(Replay) = 24, MESSAGE_BYTES_MAX;
    /// Please hold these layers.
    Prepare(Prepare) = 32, MESSAGE_BYTES_MAX;
    /// How far that is.
    PrepareStatus(PrepareStatus) = 33, MESSAGE_BYTES_MAX;
    /// Which leaves does a blob have?
    BlobQuery(BlobQuery) = 48, MESSAGE_BYTES_MAX;
    /// These.
    BlobLeaves(BlobLeaves) = 49, MESSAGE_LARGE_BYTES_MAX;
    /// Please send leaves.
    BlobRequest(BlobRequest) = 50, MESSAGE_BYTES_MAX;
    /// A leaf.
    BlobData(BlobData) = 51, BLOB_MESSAGE_BYTES_MAX;
    /// Not here.
    BlobAbsent(BlobAbsent) = 52, MESSAGE_BYTES_MAX;
    /// A node about itself.
    Descriptor(Signed<Descriptor>) = 64, MESSAGE_BYTES_MAX;
    /// Who is there?
    MembersQuery(MembersQuery) = 65, MESSAGE_BYTES_MAX;
    /// These.
    MembersReply(MembersReply) = 66, MESSAGE_LARGE_BYTES_MAX;
    /// A ticket for a certificate.
    JoinRequest(JoinRequest) = 80, MESSAGE_BYTES_MAX;
    /// The certificate.
    JoinReply(JoinReply) = 81, MESSAGE_LARGE_BYTES_MAX;
    /// A new certificate, please.
    RenewRequest(RenewRequest) = 82, MESSAGE_BYTES_MAX;
    /// Whom the owner no longer wants.
    Revocation(Signed<Revocation>) = 83, MESSAGE_LARGE_BYTES_MAX;
    /// A step of joining by a short code.
    Pairing(Pairing) = 84, MESSAGE_BYTES_MAX;
}

/// What stands before each body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// What follows.
    pub kind: Kind,
    /// How long it is.
    pub bytes: usize,
}

impl Envelope {
    /// Reads an envelope on a connection with an agreed version; before that, pass the oldest.
    ///
    /// # Errors
    /// An unknown kind, another version, a length above the limit of the kind.
    pub fn read(bytes: &[u8; ENVELOPE_BYTES], agreed: Version) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let kind = Kind::of(reader.field("kind")?)?;
        let version: Version = reader.field("version")?;
        let reserved: u8 = reader.field("reserved")?;
        let length: u32 = reader.field("bytes")?;
        let expected = kind.version(agreed);
        if version != expected {
            return Err(WireError::Version { got: version.0, agreed: expected.0 });
        }
        if reserved != 0 {
            return Err(WireError::Rule { field: "reserved", rule: "0" });
        }
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes > kind.bytes_max() {
            let limit = kind.bytes_max() as u64;
            return Err(WireError::Limit { field: "bytes", got: length.into(), limit });
        }
        Ok(Self { kind, bytes })
    }
}

impl Kind {
    /// The version in the envelope of this kind.
    fn version(self, agreed: Version) -> Version {
        if self.number() < FIXED_BELOW { FIXED_VERSION } else { agreed }
    }
}

impl Message {
    /// Envelope and body.
    ///
    /// # Errors
    /// When the body is longer than its kind may be: lists at their limits can be.
    pub fn encode(&self, agreed: Version) -> Result<Vec<u8>, WireError> {
        let body = self.body_to_bytes();
        let kind = self.kind();
        let limit = kind.bytes_max();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        if body.len() > limit {
            let got = body.len() as u64;
            return Err(WireError::Limit { field: "bytes", got, limit: limit as u64 });
        }
        debug_assert_eq!(Self::from_body(kind, &body).as_ref(), Ok(self), "valid when sent");
        let mut bytes = Vec::with_capacity(ENVELOPE_BYTES + body.len());
        bytes.extend(kind.number().to_le_bytes());
        bytes.extend([kind.version(agreed).0, 0]);
        bytes.extend(length.to_le_bytes());
        bytes.extend(body);
        Ok(bytes)
    }

    /// Reads a message that fills the bytes.
    ///
    /// # Errors
    /// Whatever is not one message, to the last byte.
    pub fn decode(bytes: &[u8], agreed: Version) -> Result<Self, WireError> {
        let mut reader = Reader::new(bytes);
        let envelope = Envelope::read(&reader.array()?, agreed)?;
        let body = reader.take(envelope.bytes)?;
        reader.finish()?;
        Self::from_body(envelope.kind, body)
    }
}
