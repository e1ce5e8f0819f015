//! A head's right to a stage. Spec 03, 5.

use shoal_base::{Lane, PackageId};

use crate::codec::{choice, record};
use crate::frame::{FrameHeader, FrameKind, PayloadFormat};
use crate::limits::{
    FRAME_PAYLOAD_BYTES_MAX, FRAME_ROWS_MAX, LEASE_TTL_MS_MAX, POSITION_MAX, WIDTH_MAX,
};
use crate::{
    Epoch, Field, GenerationId, LayerRange, Reader, RequestId, RingId, Route, WireError, Writer,
};

impl Field for Lane {
    const BYTES_MIN: usize = 1;

    fn write(&self, out: &mut Writer) {
        let number: u8 = match self {
            Self::Interactive => 1,
            Self::Batch => 2,
        };
        number.write(out);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, WireError> {
        let field = input.name();
        match u8::read(input)? {
            1 => Ok(Self::Interactive),
            2 => Ok(Self::Batch),
            got => Err(WireError::Unknown { field, got: got.into() }),
        }
    }
}

record! {
    /// What both ends of a lease must agree on to the last bit. The stage returns it; a head that
    /// gets back another one closes the ring before a token is computed.
    #[derive(Copy, Hash)]
    pub struct Admission {
        /// The model.
        pub package: PackageId,
        /// The layers of this stage.
        pub layers: LayerRange,
        /// Version of the arithmetic (spec 01).
        pub arithmetic: u16,
        /// Elements of a row.
        pub width: u32,
        /// How rows are sent.
        pub payload: PayloadFormat,
        /// Longest sequence.
        pub context_tokens: u32,
        /// Tokens of all requests together that the stage keeps for this ring.
        pub cache_tokens: u32,
        /// Most rows in a frame.
        pub frame_rows: u16,
        /// Most requests under way at once.
        pub requests: u16,
        /// Frames that may be on the way to the stage at once, from the one before it.
        pub credit_frames: u16,
        /// Bytes of payload that may be on the way, at least those of the largest frame.
        pub credit_bytes: u32,
    }
    check Admission::check;
}

impl Admission {
    fn check(&self) -> Result<(), WireError> {
        in_range("width", self.width.into(), WIDTH_MAX.into())?;
        in_range("context_tokens", self.context_tokens.into(), POSITION_MAX.into())?;
        in_range("cache_tokens", self.cache_tokens.into(), u64::from(u32::MAX))?;
        in_range("frame_rows", self.frame_rows.into(), FRAME_ROWS_MAX.into())?;
        in_range("requests", self.requests.into(), u64::from(u16::MAX))?;
        in_range("credit_frames", self.credit_frames.into(), u64::from(u16::MAX))?;
        let frame = FrameHeader::payload_bytes_of(FrameKind::Prefill, self.frame_rows, self.width);
        if frame > FRAME_PAYLOAD_BYTES_MAX.into() || u64::from(self.credit_bytes) < frame {
            return Err(WireError::Rule { field: "credit_bytes", rule: "room for a full frame" });
        }
        Ok(())
    }
}

/// 1 to `limit`.
fn in_range(field: &'static str, got: u64, limit: u64) -> Result<(), WireError> {
    if got > limit {
        return Err(WireError::Limit { field, got, limit });
    }
    if got == 0 {
        return Err(WireError::Rule { field, rule: "at least 1" });
    }
    Ok(())
}

fn check_ttl(ttl_ms: u32) -> Result<(), WireError> {
    in_range("ttl_ms", ttl_ms.into(), LEASE_TTL_MS_MAX.into())
}

choice! {
    /// What a leased node does for the ring.
    pub enum Duty: u8 {
        /// Computes each frame and passes it on.
        Primary = 1,
        /// Computes each frame and keeps the result to itself.
        Shadow = 2,
        /// Holds weights and memory, and computes nothing yet.
        Warm = 3,
    }
}

record! {
    /// A head asks for a stage.
    pub struct LeaseRequest {
        /// The ring.
        pub ring: RingId,
        /// Above every generation the head has used for this ring.
        pub generation: GenerationId,
        /// How long without a renewal, on the receiver's clock.
        pub ttl_ms: u32,
        /// What is to be computed.
        pub admission: Admission,
        /// The whole ring, so that a stage knows who is before and after it.
        pub route: Route,
        /// The place of this stage in the route.
        pub stage: u8,
        /// What the node does there.
        pub duty: Duty,
        /// Whose frames come first.
        pub lane: Lane,
    }
    check LeaseRequest::check;
}

impl LeaseRequest {
    fn check(&self) -> Result<(), WireError> {
        check_ttl(self.ttl_ms)?;
        in_range("generation", self.generation.0.into(), u64::from(u32::MAX))?;
        let stage = self.route.stages.get(usize::from(self.stage));
        if stage.is_none_or(|stage| stage.layers != self.admission.layers) {
            return Err(WireError::Rule { field: "stage", rule: "its layers are the admission's" });
        }
        Ok(())
    }
}

record! {
    /// A stage accepts.
    #[derive(Copy)]
    pub struct LeaseGrant {
        /// The ring.
        pub ring: RingId,
        /// That of the request.
        pub generation: GenerationId,
        /// The place of this stage in the route.
        pub stage: u8,
        /// That of the request, as the stage would compute it.
        pub admission: Admission,
        /// How long without a renewal; at most what was asked.
        pub ttl_ms: u32,
    }
    check LeaseGrant::check;
}

impl LeaseGrant {
    fn check(&self) -> Result<(), WireError> {
        check_ttl(self.ttl_ms)
    }
}

choice! {
    /// Why a stage does not accept.
    pub enum RefusalReason: u8 {
        /// It does not hold the layers.
        NotHeld = 1,
        /// Weights are being loaded.
        Loading = 2,
        /// Not enough memory for the cache.
        Memory = 3,
        /// The head's share of this node is used up.
        Quota = 4,
        /// A higher generation of the ring is known.
        Generation = 5,
        /// Another arithmetic, width or format.
        Mismatch = 6,
        /// The head's certificate does not allow it.
        Forbidden = 7,
        /// The owner's limits: hours, battery, upload.
        Owner = 8,
        /// The node is leaving.
        Leaving = 9,
    }
}

record! {
    /// A stage refuses.
    #[derive(Copy)]
    pub struct LeaseRefusal {
        /// The ring.
        pub ring: RingId,
        /// That of the request.
        pub generation: GenerationId,
        /// Why.
        pub reason: RefusalReason,
        /// The highest generation of this ring it knows; 0 for none.
        pub generation_seen: GenerationId,
        /// When asking again may help; 0 when it will not.
        pub retry_after_ms: u32,
    }
}

record! {
    /// A head is still there. Also how it learns that the stage is.
    #[derive(Copy)]
    pub struct LeaseRenew {
        /// The ring.
        pub ring: RingId,
        /// The lease.
        pub generation: GenerationId,
        /// How long from now, on the receiver's clock.
        pub ttl_ms: u32,
    }
    check LeaseRenew::check;
}

impl LeaseRenew {
    fn check(&self) -> Result<(), WireError> {
        check_ttl(self.ttl_ms)
    }
}

record! {
    /// The stage's answer.
    #[derive(Copy)]
    pub struct LeaseRenewed {
        /// The ring.
        pub ring: RingId,
        /// The lease.
        pub generation: GenerationId,
        /// Frames waiting to be computed for this ring.
        pub queued_frames: u16,
        /// Tokens kept for this ring.
        pub cached_tokens: u32,
    }
}

record! {
    /// A head gives a stage back. Its caches for this ring go.
    #[derive(Copy)]
    pub struct LeaseRelease {
        /// The ring.
        pub ring: RingId,
        /// The lease.
        pub generation: GenerationId,
    }
}

choice! {
    /// Why a stage ends a lease.
    pub enum EndReason: u8 {
        /// Not renewed in time.
        Expired = 1,
        /// The node is leaving; it serves until a successor is in place or the lease ends.
        Leaving = 2,
        /// The owner's limits.
        Owner = 3,
        /// The head broke a rule of the protocol.
        Protocol = 4,
        /// Something failed on the node.
        Internal = 5,
        /// The head's certificate ran out or was revoked.
        Forbidden = 6,
    }
}

record! {
    /// A stage tells the head that a lease is over, or will be.
    #[derive(Copy)]
    pub struct LeaseEnd {
        /// The ring.
        pub ring: RingId,
        /// The lease.
        pub generation: GenerationId,
        /// Why.
        pub reason: EndReason,
        /// How long it still serves; 0: it is over.
        pub drain_ms: u32,
    }
}

record! {
    /// A stage has computed and forgotten frames: its predecessor may send as many more.
    #[derive(Copy)]
    pub struct Credit {
        /// The ring.
        pub ring: RingId,
        /// The lease.
        pub generation: GenerationId,
        /// Frames.
        pub frames: u16,
        /// Bytes of payload.
        pub bytes: u32,
    }
}

record! {
    /// A head asks the stage before a new one to send again what it sent to the old one.
    #[derive(Copy)]
    pub struct Replay {
        /// The ring.
        pub ring: RingId,
        /// The new generation.
        pub generation: GenerationId,
        /// The request.
        pub request: RequestId,
        /// For the frames that are sent again.
        pub epoch: Epoch,
        /// The first position to send.
        pub from: u32,
        /// The first position not to send.
        pub end: u32,
        /// The last of the new stages: the rows go no further.
        pub last_stage: u8,
    }
    check Replay::check;
}

impl Replay {
    fn check(&self) -> Result<(), WireError> {
        if self.end > POSITION_MAX {
            let limit = POSITION_MAX.into();
            return Err(WireError::Limit { field: "end", got: self.end.into(), limit });
        }
        if self.from >= self.end {
            return Err(WireError::Rule { field: "replay", rule: "at least one row" });
        }
        Ok(())
    }
}
