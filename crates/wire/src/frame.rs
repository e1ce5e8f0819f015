//! Frames: what stages exchange for each token. Spec 03, 6.
//!
//! A header of 64 bytes, then a prefix root and rows of the residual in bf16. The header says the
//! length twice, as rows and as bytes; they must agree before memory is taken.

use shoal_base::{Digest, Lane, SharedBytes};

use crate::codec::{choice, record};
use crate::limits::{FRAME_PAYLOAD_BYTES_MAX, FRAME_ROWS_MAX, POSITION_MAX, THROUGH, WIDTH_MAX};
use crate::{Epoch, Field, GenerationId, RequestId, RingId, Version, WireError};

/// Bytes of an element of a row.
const ELEMENT_BYTES: u64 = 2;
/// Bytes of a prefix root.
const ROOT_BYTES: u64 = 32;

/// Bits of [`FrameHeader::flags`].
pub mod flags {
    /// A copy for a shadow: computed and kept, never passed on, never answered.
    pub const SHADOW: u16 = 1;
    /// Sent again to a stage that takes over.
    pub const REPLAY: u16 = 2;
    /// Every bit with a meaning.
    pub const ALL: u16 = SHADOW | REPLAY;
}

choice! {
    /// What a frame is.
    pub enum FrameKind: u8 {
        /// Rows of a prompt, or rows that are computed again.
        Prefill = 1,
        /// Rows of tokens that were sampled or guessed.
        Decode = 2,
        /// The last stage to the head: the rows it asked for, after the last layer.
        Reply = 3,
        /// Positions below `committed` are final. No rows.
        Commit = 4,
        /// The sequence is `position` long. No rows.
        Rewind = 5,
        /// The request is over; forget it. No rows.
        Cancel = 6,
    }
}

impl FrameKind {
    /// Whether a root follows the header, and rows may.
    #[must_use]
    pub fn has_root(self) -> bool {
        matches!(self, Self::Prefill | Self::Decode | Self::Reply)
    }
}

choice! {
    /// How rows are sent.
    pub enum PayloadFormat: u8 {
        /// The upper 16 bits of each f32, little-endian.
        Bf16 = 1,
    }
}

record! {
    /// The 64 bytes before each payload.
    #[derive(Copy)]
    pub struct FrameHeader {
        /// What it is.
        pub kind: FrameKind,
        /// The version agreed on.
        pub version: Version,
        /// See [`flags`].
        pub flags: u16,
        /// The ring.
        pub ring: RingId,
        /// The lease.
        pub generation: GenerationId,
        /// The request.
        pub request: RequestId,
        /// Frames of lower epochs are dead.
        pub epoch: Epoch,
        /// The position of the first row; it cuts the sequence there. For a frame without rows,
        /// the length of the sequence.
        pub position: u32,
        /// How many rows follow.
        pub rows: u16,
        /// How many rows, the last ones, the head wants back.
        pub reply_rows: u16,
        /// Elements of a row; 0 without rows.
        pub width: u32,
        /// Positions below this one will not be cut again.
        pub committed: u32,
        /// Counts the frames of one request on one edge in one generation from 0.
        pub sequence: u32,
        /// Bytes after the header.
        pub payload_bytes: u32,
        /// The stage the frame is for; of a reply, the stage that sends it.
        pub stage: u8,
        /// The stage that does not pass it on, or [`THROUGH`].
        pub last_stage: u8,
        /// Whose frames come first.
        pub lane: Lane,
        /// How rows are sent.
        pub payload: PayloadFormat,
    }
    check FrameHeader::check;
}

impl FrameHeader {
    /// The length that follows from kind, rows and width.
    #[must_use]
    pub fn payload_bytes_of(kind: FrameKind, rows: u16, width: u32) -> u64 {
        let root = if kind.has_root() { ROOT_BYTES } else { 0 };
        root + u64::from(rows) * u64::from(width) * ELEMENT_BYTES
    }

    /// Refuses a frame of a version that was not agreed on.
    ///
    /// # Errors
    /// When it is another one.
    pub fn expect_version(&self, agreed: Version) -> Result<(), WireError> {
        if self.version != agreed {
            return Err(WireError::Version { got: self.version.0, agreed: agreed.0 });
        }
        Ok(())
    }

    /// The first position after the rows.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.position.saturating_add(self.rows.into())
    }

    /// Whether the fields agree with each other.
    ///
    /// # Errors
    /// Names the limit or rule that is broken.
    pub fn check(&self) -> Result<(), WireError> {
        let limit = |field, got: u64, limit: u64| match got > limit {
            true => Err(WireError::Limit { field, got, limit }),
            false => Ok(()),
        };
        limit("rows", self.rows.into(), FRAME_ROWS_MAX.into())?;
        limit("width", self.width.into(), WIDTH_MAX.into())?;
        let end = u64::from(self.position) + u64::from(self.rows);
        limit("position", end, POSITION_MAX.into())?;
        limit("payload_bytes", self.payload_bytes.into(), FRAME_PAYLOAD_BYTES_MAX.into())?;
        let rule = |holds: bool, field, rule| match holds {
            true => Ok(()),
            false => Err(WireError::Rule { field, rule }),
        };
        let computes = matches!(self.kind, FrameKind::Prefill | FrameKind::Decode);
        rule(self.flags & !flags::ALL == 0, "flags", "unknown bits are 0")?;
        rule(computes || self.flags == 0, "flags", "0 in frames that compute nothing")?;
        rule(self.rows == 0 || self.kind.has_root(), "rows", "0 in this kind")?;
        rule(self.rows > 0 || !computes, "rows", "at least 1 in this kind")?;
        rule((self.rows == 0) == (self.width == 0), "width", "0 exactly without rows")?;
        rule(self.reply_rows <= self.rows, "reply_rows", "at most rows")?;
        rule(computes || self.reply_rows == 0, "reply_rows", "0 in this kind")?;
        rule(self.committed <= self.position, "committed", "at most position")?;
        rule(computes || self.last_stage == THROUGH, "last_stage", "255 in this kind")?;
        let bytes = Self::payload_bytes_of(self.kind, self.rows, self.width);
        rule(u64::from(self.payload_bytes) == bytes, "payload_bytes", "follows from the rows")
    }
}

/// A header with what follows it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The header.
    pub header: FrameHeader,
    /// Commits to every row of the sequence at this boundary up to and with the last one here.
    pub root: Option<Digest>,
    /// The rows, one after another.
    pub rows: SharedBytes,
}

impl Frame {
    /// Puts a frame together; lengths and counts follow from the rows.
    ///
    /// # Errors
    /// When the result would not be a valid frame.
    pub fn new(
        mut header: FrameHeader,
        root: Option<Digest>,
        rows: SharedBytes,
    ) -> Result<Self, WireError> {
        let root_bytes = if root.is_some() { ROOT_BYTES } else { 0 };
        let bytes = root_bytes + rows.len() as u64;
        header.payload_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        header.check()?;
        if root.is_some() != header.kind.has_root() {
            return Err(WireError::Rule { field: "root", rule: "with rows and replies only" });
        }
        Ok(Self { header, root, rows })
    }

    /// Puts a header and the bytes after it together.
    ///
    /// # Errors
    /// When the bytes are not as many as the header says.
    pub fn assemble(header: FrameHeader, payload: Vec<u8>) -> Result<Self, WireError> {
        let (needed, left) = (header.payload_bytes as usize, payload.len());
        if needed != left {
            return Err(WireError::Short { field: "payload", needed, left });
        }
        if !header.kind.has_root() {
            return Ok(Self { header, root: None, rows: SharedBytes::new(payload) });
        }
        let (root, _) = payload.split_first_chunk::<32>().ok_or(WireError::Short {
            field: "root",
            needed: ROOT_BYTES as usize,
            left,
        })?;
        let root = Digest(*root);
        let payload = SharedBytes::new(payload);
        let rows = payload.slice(ROOT_BYTES as usize..left).expect("a root was split off");
        Ok(Self { header, root: Some(root), rows })
    }

    /// The bytes before the rows: header, and root if there is one.
    #[must_use]
    pub fn head_bytes(&self) -> Vec<u8> {
        let mut bytes = self.header.to_bytes();
        bytes.extend(self.root.iter().flat_map(|root| root.0));
        bytes
    }

    /// All bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.head_bytes();
        bytes.extend_from_slice(&self.rows);
        bytes
    }

    /// Reads a frame that fills the bytes.
    ///
    /// # Errors
    /// Whatever is not one frame, to the last byte.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, WireError> {
        let mut reader = crate::Reader::new(bytes);
        let header = FrameHeader::read(&mut reader)?;
        let payload = reader.take(header.payload_bytes as usize)?.to_vec();
        reader.finish()?;
        Self::assemble(header, payload)
    }
}
