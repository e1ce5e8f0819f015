//! The committed package: what its bytes mean, and that importing the same model again makes them.
//! Spec 02.

use shoal_base::Digest;
use shoal_model::package::{
    BlobPlan, InputFormat, LeafHasher, Manifest, StoredFormat, merkle_root,
};
use shoal_testkit::{TinyModel, import, tiny_architecture};
use shoal_vectors::package::{Expected, files, folder};

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).expect("the package is committed")
}

#[test]
fn importing_the_model_again_makes_the_committed_package() {
    let made = files();
    for (name, bytes) in &made {
        assert!(read(name) == *bytes, "{name}");
    }
    let committed = std::fs::read_dir(folder()).expect("the package is committed");
    let names = committed.map(|entry| entry.expect("a file").file_name());
    assert_eq!(names.filter(|name| name != "DIGESTS").count(), made.len());
}

#[test]
fn digests_and_roots_follow_from_the_bytes() {
    let expected: Expected = serde_json::from_slice(&read("expected.json")).expect("it is JSON");
    let bytes = read("manifest.json");
    let manifest = Manifest::parse(&bytes).expect("the manifest is valid");
    assert_eq!(manifest.id().to_string(), expected.id);
    assert_eq!(Digest::of(&bytes).to_string(), expected.id);
    for entry in &manifest.blobs {
        let blob = read(&entry.blake3.to_string());
        assert_eq!(Digest::of(&blob), entry.blake3, "{}", entry.kind);
        let plan = BlobPlan::new(&manifest.architecture, entry).expect("the entry is valid");
        let hasher = LeafHasher::default();
        let leaves: Vec<Digest> =
            plan.leaves().map(|(_, range)| hasher.leaf(&blob[range])).collect();
        assert_eq!(merkle_root(&leaves), entry.tiles, "{}", entry.kind);
    }
}

/// Whoever changes one of these changes the format: packages made before get other ids.
#[test]
fn ids_of_small_models_are_fixed() {
    let id = |weights| {
        let model = TinyModel::new(tiny_architecture(), 1);
        import(&model, weights, InputFormat::A8).id().to_string()
    };
    let formats = [StoredFormat::I8, StoredFormat::I4, StoredFormat::I4Offset];
    assert_eq!(
        formats.map(id),
        [
            "dc1ab7b0dd7752c1b98e32c0ada0612f59b52b67b98b8ce1a8bdac5a6b0b1d09",
            "a80a328211281d47a73a087ac80e04198b627c588f5ae20676d2ac5f1a5ca124",
            "7c9a1cf434fb454ebff9e250736e1b5d1030b8a031a3ee605037ac82503abbae"
        ]
    );
}

#[test]
fn floats_of_manifests_have_one_text() {
    let text = |x: f64| serde_json::to_string(&x).expect("a number");
    let short = |x: f32| serde_json::to_string(&x).expect("a number");
    let doubles = [10_000.0, 1e12, 0.1, 1e-3, 1e-4, 1e-5, 1e-6, 1.5e-9, 32.0, 123_456.789];
    assert_eq!(
        doubles.map(text),
        [
            "10000.0",
            "1000000000000.0",
            "0.1",
            "0.001",
            "0.0001",
            "0.00001",
            "1e-6",
            "1.5e-9",
            "32.0",
            "123456.789",
        ]
    );
    assert_eq!(
        [1e-5_f32, 1e-6, 1e-12, 1.0, 0.1, 1e-7].map(short),
        ["0.00001", "0.000001", "1e-12", "1.0", "0.1", "1e-7"]
    );
}
