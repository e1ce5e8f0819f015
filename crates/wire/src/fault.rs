//! What went wrong, and who is to blame. Spec 03, 9.

use shoal_base::Blame;

use crate::codec::{choice, record};
use crate::{Field, GenerationId, Reader, RequestId, RingId, WireError, Writer};

impl Field for Blame {
    const BYTES_MIN: usize = 1;

    fn write(&self, out: &mut Writer) {
        let number: u8 = match self {
            Self::Caller => 1,
            Self::Peer => 2,
            Self::Local => 3,
        };
        number.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let field = input.name();
        match u8::read(input)? {
            1 => Ok(Self::Caller),
            2 => Ok(Self::Peer),
            3 => Ok(Self::Local),
            got => Err(WireError::Unknown { field, got: got.into() }),
        }
    }
}

choice! {
    /// What went wrong.
    pub enum FaultCode: u16 {
        /// No version in common. `got`: theirs, `limit`: ours.
        Version = 1,
        /// Bytes that are no message.
        Malformed = 2,
        /// A limit of spec 03 was exceeded.
        Limit = 3,
        /// A message out of place.
        Unexpected = 4,
        /// No certificate, or one that does not allow this.
        Forbidden = 5,
        /// More than the sender's share.
        Quota = 6,
        /// No lease under this ring and generation.
        NoLease = 7,
        /// A position beyond the end of the sequence. `got`: the position, `limit`: the length.
        Gap = 8,
        /// More frames or bytes than there was credit for.
        Credit = 9,
        /// Another sequence number was due. `got`: the number, `limit`: the one that was due.
        Sequence = 10,
        /// The cache of the ring is full.
        CacheFull = 11,
        /// A number that is not finite, or too large, from the stage `got`.
        Arithmetic = 12,
        /// A root that is not that of the rows.
        Root = 13,
        /// The rows to send again are gone.
        LogGone = 14,
        /// The blob or leaf is not held.
        NotFound = 15,
        /// Out of memory or disk.
        Resources = 16,
        /// A defect of this node.
        Internal = 17,
        /// The node behind this edge does not answer. `got`: its stage.
        Unreachable = 18,
        /// The ticket was used, ran out, or is not signed by whom it should be.
        Ticket = 19,
    }
}

record! {
    /// Something went wrong. Never answered with another fault.
    #[derive(Copy)]
    pub struct Fault {
        /// What.
        pub code: FaultCode,
        /// Who, as the sender sees it. Advice: without a signature it convicts nobody.
        pub blame: Blame,
        /// Where, if in a ring.
        pub ring: Option<RingId>,
        /// The lease, 0 for none.
        pub generation: GenerationId,
        /// The request, if one.
        pub request: Option<RequestId>,
        /// What there was.
        pub got: u64,
        /// What is allowed.
        pub limit: u64,
    }
}
