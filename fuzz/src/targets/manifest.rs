//! Bytes to a package's manifest. What is accepted has one form and bounded blobs.

use shoal_model::Family;
use shoal_model::package::{BlobPlan, InputFormat, Manifest, StoredFormat};
use shoal_testkit::{TinyModel, import, tiny_architecture};

use crate::{MEMORY_BYTES, Target, seeds};

pub(super) const TARGET: Target = Target {
    name: "manifest",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let bytes = |model: &TinyModel, weights| {
        import(model, weights, InputFormat::A8).manifest().to_bytes()
    };
    let template = TinyModel::new(tiny_architecture(), 1).with_template("{{ messages }}\n");
    vec![
        bytes(&seeds::model(Family::Qwen2), StoredFormat::I8),
        bytes(&template, StoredFormat::I4Offset),
    ]
}

fn run(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(bytes) else {
        return;
    };
    assert_eq!(manifest.to_bytes(), bytes, "a manifest has one form");
    let mut total = 0_u64;
    for entry in &manifest.blobs {
        let plan = BlobPlan::new(&manifest.architecture, entry).expect("it was checked");
        assert_eq!(plan.bytes as u64, entry.bytes);
        total = total.checked_add(entry.bytes).expect("shapes are bounded");
    }
    assert_eq!(manifest.blob_bytes(), total);
}
