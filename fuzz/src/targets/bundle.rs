//! A package in one file to a package. What is accepted is written again byte for byte.

use std::sync::Arc;

use shoal_model::Family;
use shoal_model::bundle::{Bundle, write_bundle};
use shoal_model::package::{InputFormat, MemoryBlobs, Package, StoredFormat};
use shoal_testkit::import;

use crate::{MEMORY_BYTES, Target, seeds};

pub(super) const TARGET: Target = Target {
    name: "bundle",
    seeds,
    // A chunk to copy with.
    memory_bytes: MEMORY_BYTES + (1 << 20),
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let package = import(&seeds::model(Family::Qwen3), StoredFormat::I4, InputFormat::A8);
    vec![write_bundle(&package, Vec::new(), &|_| true).expect("it is in memory")]
}

fn run(bytes: &[u8]) {
    let Ok(bundle) = Bundle::open(bytes, bytes.len() as u64) else {
        return;
    };
    assert!(bundle.manifest().blob_bytes() < bytes.len() as u64, "room is bounded by the file");
    let blobs = MemoryBlobs::default();
    let Ok(manifest) = bundle.unpack(&blobs, &|_| true) else {
        return;
    };
    let package = Package::open(&manifest.to_bytes(), Arc::new(blobs)).expect("it was checked");
    let again = write_bundle(&package, Vec::new(), &|_| true).expect("it is in memory");
    assert_eq!(again, bytes);
}
