//! Norms and tables of strangers: what is checked when a blob is opened.
#![forbid(unsafe_code)]

use std::sync::Arc;

use shoal_model::package::{
    BlobKind, InputFormat, MemoryBlobs, Package, PackageError, StoredFormat,
};
use shoal_testkit::{TinyModel, import, tiny_architecture};

/// A package in which some bytes of one blob are others.
fn altered(package: &Package, kind: BlobKind, at: usize, with: &[u8]) -> Package {
    let blobs = MemoryBlobs::default();
    let mut manifest = package.manifest().clone();
    for entry in &mut manifest.blobs {
        let mut bytes = package.bytes(entry.kind).expect("it is whole").to_vec();
        if entry.kind == kind {
            bytes[at..at + with.len()].copy_from_slice(with);
        }
        entry.blake3 = blobs.insert(&bytes, &[]);
    }
    Package::open(&manifest.to_bytes(), Arc::new(blobs)).expect("the manifest is sound")
}

fn refused_at<T>(outcome: Result<T, PackageError>) -> (String, usize) {
    match outcome {
        Err(PackageError::Element { section, index, .. }) => (section, index),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it is taken"),
    }
}

#[test]
fn elements_out_of_range_and_filler_are_refused() {
    let model = TinyModel::new(tiny_architecture(), 1);
    let package = import(&model, StoredFormat::I8, InputFormat::A8);
    let width = package.manifest().architecture.model_width as usize;
    assert_ne!(width * 4 % 64, 0, "its norms have filler");
    let layer = BlobKind::Layer(0);
    assert!(altered(&package, layer, 20, &0.5_f32.to_le_bytes()).layer(0).is_ok());
    for bad in [f32::NAN, f32::INFINITY, 2_097_152.0, -2_097_152.0] {
        let found = altered(&package, layer, 20, &bad.to_le_bytes()).layer(0);
        assert_eq!(refused_at(found), ("attention norm".to_owned(), 5));
    }
    let found = altered(&package, layer, width * 4 + 4, &[1]).layer(0);
    assert_eq!(refused_at(found), ("attention norm".to_owned(), width + 1));
    let found = altered(&package, BlobKind::Head, width * 4 + 3, &[1]).head();
    assert_eq!(refused_at(found), ("final norm".to_owned(), width));
    for bad in [f64::NAN, 1025.0] {
        let found = altered(&package, BlobKind::Tables, 16, &bad.to_le_bytes()).tables();
        assert_eq!(refused_at(found).1, 2);
    }
}
