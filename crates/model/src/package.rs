//! Packages: a model in the form the engine runs, cut into blobs that peers can hold one by one.
//!
//! Spec 02. A package is a manifest and the blobs it names by digest: tables, embedding, one per
//! layer, head, tokenizer. Its id is the digest of the manifest's bytes, so it names every weight,
//! every token and the arithmetic. Owns: the manifest, the layout of blobs, their Merkle trees,
//! validation. Does not own: where the bytes are kept (`shoal-store`), how they are made
//! (`crate::import`).

mod error;
mod manifest;
mod memory;
mod merkle;
mod open;
mod plan;
mod verify;

pub use error::PackageError;
pub use manifest::{
    BlobEntry, BlobKind, InputFormat, LinearEntry, LinearSlot, Manifest, PACKAGE_VERSION,
    StoredFormat,
};
pub use memory::MemoryBlobs;
pub use merkle::{LeafHasher, merkle_path, merkle_root, root_of_path};
pub(crate) use open::ELEMENT_LARGEST;
pub use open::{BlobSource, LayerWeights, LinearWeights, Package};
pub use plan::{BlobPlan, Section, SectionKind};
pub use verify::{VerifyReport, verify_blob};
