//! What a run needs to go on, as bytes; and the hash of that state. Spec 05 §9.
//!
//! Does not own where the bytes go. Invariant: a checkpoint that decodes is whole (its digest is
//! its last 32 bytes) and belongs to the run it was asked for.

use shoal_base::Digest;

use crate::parameters::Parameters;
use crate::trainer::Trainer;

const MAGIC: &[u8; 8] = b"shoalrun";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 8 + 2 + 32 + 8 + 8 + 8 + 8;
const DIGEST_BYTES: usize = 32;
const DOMAIN: &str = "shoal/train/checkpoint/v1";
const STATE_DOMAIN: &str = "shoal/train/state/v1";
const FLOATS_DOMAIN: &str = "shoal/train/floats/v1";
/// Elements turned into bytes at a time.
const CHUNK: usize = 16 << 10;

/// Where a run is in its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    /// Times the data was begun again.
    pub epoch: u64,
    /// The next sample of the epoch.
    pub sample: u64,
}

/// Why a checkpoint was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Not a checkpoint, or one of another version.
    #[error("not a checkpoint of version {VERSION}")]
    Format,
    /// Shorter or longer than its header says.
    #[error("checkpoint of {got} bytes, {expected} expected")]
    Length {
        /// Bytes given.
        got: u64,
        /// Bytes its header asks for.
        expected: u64,
    },
    /// The digest does not fit the bytes.
    #[error("checkpoint is damaged, its digest differs")]
    Damaged,
    /// It belongs to another run: other settings, other data, another base model.
    #[error("checkpoint of run {got}, this is run {expected}")]
    OtherRun {
        /// Run of the checkpoint.
        got: Digest,
        /// The run asked for.
        expected: Digest,
    },
    /// It holds another number of parameters.
    #[error("checkpoint of {got} parameters, the model has {expected}")]
    OtherModel {
        /// Parameters it holds.
        got: u64,
        /// Parameters that are trained.
        expected: u64,
    },
    /// A moment or parameter that is no finite number.
    #[error("checkpoint holds a number that is not finite")]
    NotFinite,
}

impl Trainer {
    /// The hash of (run, step, cursor, parameters, first moments, second moments): what two who
    /// replay the same step compare. Its three parts are [`floats_digest`]s.
    #[must_use]
    pub fn state_digest(&self, run: Digest, cursor: Cursor) -> Digest {
        let mut bytes = Vec::with_capacity(32 * 4 + 24);
        bytes.extend_from_slice(&run.0);
        for number in [self.step, cursor.epoch, cursor.sample] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for floats in self.state() {
            bytes.extend_from_slice(&floats_digest(floats.all()).0);
        }
        Digest::tagged(STATE_DOMAIN, &bytes)
    }

    /// Everything the run needs to go on.
    #[must_use]
    pub fn checkpoint(&self, run: Digest, cursor: Cursor) -> Vec<u8> {
        let count = self.model.trainable().all().len();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + count * 12 + DIGEST_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&run.0);
        for number in [self.step, cursor.epoch, cursor.sample, count as u64] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        for floats in self.state() {
            floats.all().iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        }
        let digest = Digest::tagged(DOMAIN, &bytes);
        bytes.extend_from_slice(&digest.0);
        bytes
    }

    /// Goes on from a checkpoint of `run`; nothing changes when it is refused.
    ///
    /// # Errors
    /// The bytes are no whole checkpoint of this run and model.
    pub fn restore(&mut self, run: Digest, bytes: &[u8]) -> Result<Cursor, CheckpointError> {
        let expected = self.model.trainable().all().len();
        let (step, cursor, floats) = decode(run, expected, bytes)?;
        let parts = [self.model.trainable_mut(), &mut self.first_moments, &mut self.second_moments];
        for (part, bytes) in parts.into_iter().zip(floats.chunks_exact(expected.max(1) * 4)) {
            read_floats(bytes, part.all_mut());
        }
        self.step = step;
        Ok(cursor)
    }

    fn state(&self) -> [&Parameters; 3] {
        [self.model.trainable(), &self.first_moments, &self.second_moments]
    }
}

/// The digest of numbers as little-endian bytes.
#[must_use]
pub fn floats_digest(floats: &[f32]) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key(FLOATS_DOMAIN);
    let mut bytes = Vec::with_capacity(CHUNK * 4);
    for chunk in floats.chunks(CHUNK) {
        bytes.clear();
        chunk.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
        hasher.update(&bytes);
    }
    Digest(*hasher.finalize().as_bytes())
}

fn decode(
    run: Digest,
    expected: usize,
    bytes: &[u8],
) -> Result<(u64, Cursor, &[u8]), CheckpointError> {
    let header = bytes.get(..HEADER_BYTES).ok_or(CheckpointError::Format)?;
    if header[..8] != *MAGIC || header[8..10] != VERSION.to_le_bytes() {
        return Err(CheckpointError::Format);
    }
    let number =
        |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
    let count = number(HEADER_BYTES - 8);
    let length = count.saturating_mul(12).saturating_add((HEADER_BYTES + DIGEST_BYTES) as u64);
    if bytes.len() as u64 != length {
        return Err(CheckpointError::Length { got: bytes.len() as u64, expected: length });
    }
    let (content, digest) = bytes.split_at(bytes.len() - DIGEST_BYTES);
    if Digest::tagged(DOMAIN, content).0 != *digest {
        return Err(CheckpointError::Damaged);
    }
    let got = Digest(header[10..42].try_into().expect("32 bytes"));
    if got != run {
        return Err(CheckpointError::OtherRun { got, expected: run });
    }
    if count != expected as u64 {
        return Err(CheckpointError::OtherModel { got: count, expected: expected as u64 });
    }
    let floats = &content[HEADER_BYTES..];
    if !floats.chunks_exact(4).all(|b| f32_of(b).is_finite()) {
        return Err(CheckpointError::NotFinite);
    }
    let cursor = Cursor { epoch: number(50), sample: number(58) };
    Ok((number(42), cursor, floats))
}

fn read_floats(bytes: &[u8], out: &mut [f32]) {
    for (out, bytes) in out.iter_mut().zip(bytes.chunks_exact(4)) {
        *out = f32_of(bytes);
    }
}

fn f32_of(bytes: &[u8]) -> f32 {
    f32::from_le_bytes(bytes.try_into().expect("chunks of four bytes"))
}
