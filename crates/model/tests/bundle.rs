//! Packages in one file. Spec 02 §10.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use shoal_base::Blame;
use shoal_model::bundle::{BUNDLE_HEADER_BYTES, Bundle, BundleError, write_bundle};
use shoal_model::package::{InputFormat, MemoryBlobs, Package, PackageError, StoredFormat};
use shoal_testkit::{TinyModel, import, tiny_architecture};

fn package() -> Package {
    import(&TinyModel::new(tiny_architecture(), 1), StoredFormat::I4, InputFormat::A8)
}

fn bytes_of(package: &Package) -> Vec<u8> {
    write_bundle(package, Vec::new(), &|_| true).unwrap()
}

fn unpack(bytes: &[u8]) -> Result<Package, BundleError> {
    let blobs = MemoryBlobs::default();
    let manifest = Bundle::open(bytes, bytes.len() as u64)?.unpack(&blobs, &|_| true)?;
    Ok(Package::open(&manifest.to_bytes(), Arc::new(blobs))?)
}

#[test]
fn what_is_written_is_read() {
    let package = package();
    let read = unpack(&bytes_of(&package)).unwrap();
    assert_eq!(read.manifest(), package.manifest());
    for entry in &package.manifest().blobs {
        assert_eq!(read.bytes(entry.kind).unwrap()[..], package.bytes(entry.kind).unwrap()[..]);
    }
    assert_eq!(bytes_of(&read), bytes_of(&package));
}

#[test]
fn a_file_that_is_cut_or_goes_on_is_refused() {
    let mut bytes = bytes_of(&package());
    for cut in [0, 1, BUNDLE_HEADER_BYTES - 1, BUNDLE_HEADER_BYTES, 100, bytes.len() - 1] {
        let refused = unpack(&bytes[..cut]).unwrap_err();
        assert!(matches!(refused, BundleError::Length { got, .. } if got == cut as u64));
        assert_eq!(refused.blame(), Blame::Peer);
    }
    // The length that was told is not the length there is.
    let told = bytes.len() as u64;
    let cut = Bundle::open(&bytes[..bytes.len() - 1], told).unwrap();
    let refused = cut.unpack(&MemoryBlobs::default(), &|_| true).unwrap_err();
    assert!(matches!(refused, BundleError::Io(_)), "{refused}");
    bytes.push(0);
    assert!(matches!(unpack(&bytes).unwrap_err(), BundleError::Length { .. }));
}

#[test]
fn other_files_and_versions_are_refused() {
    let bytes = bytes_of(&package());
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes.clone();
        bytes[at] = byte;
        unpack(&bytes).unwrap_err()
    };
    assert!(matches!(with(0, b'S'), BundleError::Magic));
    assert!(matches!(with(8, 2), BundleError::Version { got: 2 }));
    // 4 GiB of manifest are refused before room is made for them.
    let refused = with(15, 0xff);
    assert!(matches!(refused, BundleError::Package(PackageError::ManifestSize { .. })));
}

#[test]
fn a_changed_byte_names_its_blob() {
    let package = package();
    let mut bytes = bytes_of(&package);
    let mut at = bytes.len() - package.manifest().blob_bytes() as usize;
    for entry in &package.manifest().blobs {
        let last = at + entry.bytes as usize - 1;
        bytes[last] ^= 1;
        match unpack(&bytes).unwrap_err() {
            BundleError::Package(PackageError::Blob { kind }) => assert_eq!(kind, entry.kind),
            other => panic!("{other}"),
        }
        bytes[last] ^= 1;
        at = last + 1;
    }
    unpack(&bytes).unwrap();
}

#[test]
fn both_ways_stop_when_told() {
    let package = package();
    let stopped = write_bundle(&package, Vec::new(), &|_| false).unwrap_err();
    assert!(matches!(stopped, BundleError::Stopped));
    let bytes = bytes_of(&package);
    let bundle = Bundle::open(&bytes[..], bytes.len() as u64).unwrap();
    let stopped = bundle.unpack(&MemoryBlobs::default(), &|_| false).unwrap_err();
    assert!(matches!(stopped, BundleError::Stopped));
}
