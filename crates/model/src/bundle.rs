//! A package as one file: to carry it, to keep it, to have it inside a program. Spec 02 §10.
//!
//! A magic word, a version, the manifest, then every blob in the order of the manifest. Nothing is
//! taken over before it has the digests that the manifest says.

use std::io::{self, Read, Write};

use shoal_base::{Blame, Digest};

use crate::import::BlobSink;
use crate::package::{
    BlobEntry, BlobKind, BlobPlan, LeafHasher, Manifest, Package, PackageError, merkle_root,
};

/// The first bytes of the file.
pub const BUNDLE_MAGIC: [u8; 8] = *b"shoalpkg";
/// The version of this layout.
pub const BUNDLE_VERSION: u32 = 1;
/// Bytes before the manifest: magic, version and the length of the manifest.
pub const BUNDLE_HEADER_BYTES: usize = 16;

/// Bytes copied at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// Why a package in one file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// The file or the place it goes to.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is no package.
    #[error("not a package in one file: it does not begin with \"shoalpkg\"")]
    Magic,
    /// A layout that this program does not know.
    #[error("layout version {got} of a package in one file; this program reads version 1")]
    Version {
        /// What the file says.
        got: u32,
    },
    /// The file ends early or goes on.
    #[error("{got} bytes, where the manifest says {expected}: the file is not whole")]
    Length {
        /// Bytes of the file.
        got: u64,
        /// Bytes it should have.
        expected: u64,
    },
    /// The manifest or a blob.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The place a blob is written to.
    #[error("writing {kind}: {error}")]
    Sink {
        /// Which blob.
        kind: BlobKind,
        /// The system's answer.
        error: io::Error,
    },
    /// The caller said so.
    #[error("stopped")]
    Stopped,
}

impl BundleError {
    /// Who is to blame.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Io(_) | Self::Sink { .. } => Blame::Local,
            Self::Stopped => Blame::Caller,
            Self::Package(error) => error.blame(),
            Self::Magic | Self::Version { .. } | Self::Length { .. } => Blame::Peer,
        }
    }
}

/// Writes a package as one file. `progress` is told the bytes written and says whether to go on.
///
/// # Errors
/// The first error of package or output; what was written is then of no use.
pub fn write_bundle<W: Write>(
    package: &Package,
    mut out: W,
    progress: &dyn Fn(u64) -> bool,
) -> Result<W, BundleError> {
    let manifest = package.manifest();
    let bytes = manifest.to_bytes();
    out.write_all(&BUNDLE_MAGIC)?;
    out.write_all(&BUNDLE_VERSION.to_le_bytes())?;
    let length = u32::try_from(bytes.len()).expect("a manifest has at most 8 MiB");
    out.write_all(&length.to_le_bytes())?;
    out.write_all(&bytes)?;
    let mut done = 0;
    for entry in &manifest.blobs {
        for chunk in package.bytes(entry.kind)?.chunks(CHUNK_BYTES) {
            out.write_all(chunk)?;
            done += chunk.len() as u64;
            if !progress(done) {
                return Err(BundleError::Stopped);
            }
        }
    }
    Ok(out)
}

/// A package in one file, being read.
#[derive(Debug)]
pub struct Bundle<R> {
    manifest: Manifest,
    from: R,
}

impl<R: Read> Bundle<R> {
    /// Reads the manifest. `bytes`: the length of the file.
    ///
    /// # Errors
    /// The file is no package, or has another length than its manifest says.
    pub fn open(mut from: R, bytes: u64) -> Result<Self, BundleError> {
        let mut header = [0; BUNDLE_HEADER_BYTES];
        let short = || BundleError::Length { got: bytes, expected: BUNDLE_HEADER_BYTES as u64 };
        from.read_exact(&mut header).map_err(|error| cut(error, short))?;
        let (magic, rest) = header.split_first_chunk::<8>().expect("the header has 16 bytes");
        let (version, rest) = rest.split_first_chunk::<4>().expect("8 bytes are left");
        let length = rest.first_chunk::<4>().expect("4 bytes are left");
        if *magic != BUNDLE_MAGIC {
            return Err(BundleError::Magic);
        }
        match u32::from_le_bytes(*version) {
            BUNDLE_VERSION => {}
            got => return Err(BundleError::Version { got }),
        }
        let length = u32::from_le_bytes(*length) as usize;
        Manifest::check_length(length)?;
        let before = (BUNDLE_HEADER_BYTES + length) as u64;
        if bytes < before {
            return Err(BundleError::Length { got: bytes, expected: before });
        }
        let mut text = vec![0; length];
        let short = || BundleError::Length { got: bytes, expected: before };
        from.read_exact(&mut text).map_err(|error| cut(error, short))?;
        let manifest = Manifest::parse(&text)?;
        let expected = before.saturating_add(manifest.blob_bytes());
        if bytes != expected {
            return Err(BundleError::Length { got: bytes, expected });
        }
        Ok(Self { manifest, from })
    }

    /// What the package is.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Writes every blob to `sink` and checks it. `progress` is told the bytes done and says
    /// whether to go on.
    ///
    /// # Errors
    /// The first error of file or sink, or a blob that is not the one of the manifest; what was
    /// written is then of no use.
    pub fn unpack(
        mut self,
        sink: &dyn BlobSink,
        progress: &dyn Fn(u64) -> bool,
    ) -> Result<Manifest, BundleError> {
        let mut done = 0;
        let mut chunk = vec![0; CHUNK_BYTES];
        for entry in &self.manifest.blobs {
            let sink_error = |error| BundleError::Sink { kind: entry.kind, error };
            let writer = sink.create(entry.bytes).map_err(sink_error)?;
            let mut at = 0;
            while at < entry.bytes {
                let count = (entry.bytes - at).min(CHUNK_BYTES as u64) as usize;
                self.from.read_exact(&mut chunk[..count])?;
                writer.write_at(at, &chunk[..count]).map_err(sink_error)?;
                at += count as u64;
                done += count as u64;
                if !progress(done) {
                    return Err(BundleError::Stopped);
                }
            }
            let leaves = leaves(&self.manifest, entry, &writer.view().map_err(sink_error)?)?;
            writer.keep(entry.blake3, &leaves).map_err(sink_error)?;
        }
        Ok(self.manifest)
    }
}

/// What it means that a file ends early.
fn cut(error: io::Error, short: impl FnOnce() -> BundleError) -> BundleError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => short(),
        _ => BundleError::Io(error),
    }
}

/// The digests of the leaves of a blob that is what the manifest says.
fn leaves(
    manifest: &Manifest,
    entry: &BlobEntry,
    bytes: &[u8],
) -> Result<Vec<Digest>, PackageError> {
    let plan = BlobPlan::new(&manifest.architecture, entry)?;
    let hasher = LeafHasher::default();
    let leaves: Vec<Digest> = plan.leaves().map(|(_, range)| hasher.leaf(&bytes[range])).collect();
    match merkle_root(&leaves) == entry.tiles && Digest::of(bytes) == entry.blake3 {
        true => Ok(leaves),
        false => Err(PackageError::Blob { kind: entry.kind }),
    }
}
