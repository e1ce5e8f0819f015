//! Packages of which only some blobs are here, and blobs on their way.

use std::fs;
use std::os::unix::fs::FileExt as _;

use shoal_base::{Digest, PackageId};
use shoal_model::package::{BlobEntry, BlobKind, Package, PackageError};
use shoal_store::{LayerDownload, Store, StoreError};
use shoal_testkit::skip;
use shoal_wire::limits::LEAF_BYTES;
use shoal_wire::{blob_root, leaf_bytes, leaf_count, leaf_digest};

use crate::support::Home;

/// A whole package and an empty store.
fn homes() -> (Home, Home, PackageId) {
    let full = Home::new();
    let id = full.import(1, Some("it")).id;
    (full, Home::new(), id)
}

fn manifest(home: &Home, id: PackageId) -> Vec<u8> {
    fs::read(home.store.manifest_path(id)).unwrap()
}

fn leaves(bytes: &[u8]) -> Vec<Digest> {
    let length = bytes.len() as u64;
    let leaf = |(index, leaf): (usize, &[u8])| leaf_digest(length, index as u32, leaf);
    match bytes {
        [] => vec![Digest::of(&[])],
        _ => bytes.chunks(LEAF_BYTES as usize).enumerate().map(leaf).collect(),
    }
}

/// Copies blobs of these kinds, leaf by leaf.
fn copy(download: &LayerDownload, package: &Package, from: &Package, kinds: &[BlobKind]) {
    for entry in download.missing(package, kinds).unwrap() {
        let bytes = from.bytes(entry.kind).unwrap();
        let mut blob = download.begin(&entry, leaves(&bytes)).unwrap();
        for (leaf, bytes) in bytes.chunks(LEAF_BYTES as usize).enumerate() {
            assert!(blob.write(leaf as u32, bytes).unwrap());
        }
        blob.finish().unwrap();
    }
}

#[test]
fn a_package_becomes_whole_blob_by_blob() {
    let (full, home, id) = homes();
    let from = full.store.package(id).unwrap();
    let download = home.store.begin_layers(id).unwrap();
    assert!(download.package().unwrap().is_none());
    let wrong = download.keep_manifest(b"{}").unwrap_err();
    assert!(matches!(wrong, StoreError::Manifest { .. }), "{wrong}");
    let package = download.keep_manifest(&manifest(&full, id)).unwrap();
    copy(&download, &package, &from, &[BlobKind::Tables, BlobKind::Layer(1)]);
    let busy = home.again().begin_layers(id).unwrap_err();
    assert!(matches!(busy, StoreError::Busy { .. }), "{busy}");
    let removed = home.store.remove(id).unwrap_err();
    assert!(matches!(removed, StoreError::Busy { .. }), "{removed}");
    download.finish().unwrap();

    home.store.sweep().unwrap();
    let holding = home.again().holding(id).unwrap();
    assert_eq!(holding.held, [BlobKind::Tables, BlobKind::Layer(1)]);
    assert!(holding.is_partial && holding.absent.contains(&BlobKind::Layer(0)));
    let health = home.store.health().unwrap();
    assert_eq!((health.packages, health.partial, health.damaged.len()), (1, 1, 0));
    assert_eq!(health.package_bytes, holding.bytes);
    let listed = home.store.list().unwrap();
    assert_eq!(listed.packages[0].holding, holding);
    let verified = home.store.verify(id, 2, &|_| true).unwrap();
    assert_eq!((verified.bytes, verified.damage.len()), (holding.bytes, 0));
    assert_eq!(verified.absent, holding.absent);
    assert!(!verified.stopped);
    let absent = home.store.package(id).unwrap().layer(0).unwrap_err();
    assert!(matches!(absent, PackageError::Missing { kind: BlobKind::Layer(0), .. }), "{absent}");

    let download = home.store.begin_layers(id).unwrap();
    let kinds: Vec<BlobKind> = from.manifest().blobs.iter().map(|blob| blob.kind).collect();
    copy(&download, &package, &from, &kinds);
    download.finish().unwrap();
    let holding = home.store.holding(id).unwrap();
    assert!(holding.absent.is_empty() && !holding.is_partial);
    assert!(home.names("partial").is_empty());
    assert!(home.store.verify(id, 2, &|_| true).unwrap().damage.is_empty());
    // A blob that is lost now is damage, and can be fetched again.
    let lost = package.manifest().blob(BlobKind::Layer(0)).unwrap().blake3;
    fs::remove_file(home.path("blobs").join(lost.to_string())).unwrap();
    assert!(!home.store.holding(id).unwrap().is_partial);
    assert_eq!(home.store.verify(id, 1, &|_| true).unwrap().damage.len(), 1);
    let download = home.store.begin_layers(id).unwrap();
    copy(&download, &package, &from, &kinds);
    download.finish().unwrap();
    assert!(home.store.verify(id, 1, &|_| true).unwrap().damage.is_empty());
    home.store.remove(id).unwrap();
    assert!(home.names("blobs").is_empty());
}

/// A manifest whose layer 0 has several leaves, and the bytes of that layer.
fn long() -> (Vec<u8>, BlobEntry, Vec<u8>) {
    use shoal_model::import::import_blobs;
    use shoal_model::package::{InputFormat, MemoryBlobs, StoredFormat};
    use shoal_testkit::{TinyModel, byte_tokenizer, tiny_architecture};

    let mut architecture = tiny_architecture();
    (architecture.model_width, architecture.mlp_width) = (256, 2560);
    architecture.layer_count = 1;
    let blobs = MemoryBlobs::default();
    let tokenizer = byte_tokenizer().to_bytes().unwrap();
    let model = TinyModel::new(architecture, 1);
    let imported = import_blobs(&model, StoredFormat::I8, &tokenizer, 1, &blobs, &|_| true);
    let manifest = imported.unwrap().finish(|_, _| InputFormat::A8);
    let package = Package::open(&manifest.to_bytes(), std::sync::Arc::new(blobs)).unwrap();
    let bytes = package.bytes(BlobKind::Layer(0)).unwrap().to_vec();
    let entry = manifest.blob(BlobKind::Layer(0)).unwrap().clone();
    assert!(leaf_count(entry.bytes) >= 3);
    (manifest.to_bytes(), entry, bytes)
}

fn begin(store: &Store, manifest: &[u8]) -> LayerDownload {
    let download = store.begin_layers(PackageId(Digest::of(manifest))).unwrap();
    download.keep_manifest(manifest).unwrap();
    download
}

#[test]
fn what_arrived_is_hashed_again_before_it_counts() {
    let home = Home::new();
    let (manifest, entry, bytes) = long();
    let list = leaves(&bytes);
    assert_eq!(blob_root(&list), Some(entry.blake3));
    let leaf = |leaf: u32| {
        let start = (u64::from(leaf) * LEAF_BYTES) as usize;
        &bytes[start..start + leaf_bytes(entry.bytes, leaf) as usize]
    };
    let download = begin(&home.store, &manifest);
    assert!(download.resume(&entry).unwrap().is_none());
    let mut blob = download.begin(&entry, list.clone()).unwrap();
    assert!(blob.write(0, leaf(0)).unwrap());
    assert!(!blob.write(1, leaf(0)).unwrap(), "the bytes of another leaf");
    assert!(!blob.write(1, &leaf(1)[1..]).unwrap());
    assert!(!blob.write(999, leaf(0)).unwrap());
    assert!(blob.write(2, leaf(2)).unwrap());
    let early = {
        let mut other = download.resume(&entry).unwrap().unwrap();
        assert!(other.held().is_empty(), "the record is written later");
        assert!(other.write(0, leaf(0)).unwrap());
        other.finish().unwrap_err()
    };
    assert!(matches!(early, StoreError::Package { .. }), "{early}");
    drop(blob);
    // The disk lost a leaf that the record names.
    let part = home.path(&format!("partial/{}/{}.part", Digest::of(&manifest), entry.blake3));
    let file = fs::OpenOptions::new().write(true).open(&part).unwrap();
    file.write_all_at(&[0; 100], 5).unwrap();
    drop(download);
    home.store.sweep().unwrap();
    let download = begin(&home.again(), &manifest);
    let mut blob = download.resume(&entry).unwrap().unwrap();
    assert!(blob.held().iter().eq([2]), "{:?}", blob.held());
    assert_eq!(blob.leaves(), list);
    for index in (0..list.len() as u32).filter(|index| *index != 2) {
        assert!(blob.write(index, leaf(index)).unwrap());
    }
    blob.finish().unwrap();
    assert!(!part.exists());
    assert_eq!(home.store.leaves_of(entry.blake3).unwrap(), Some((entry.bytes, list)));
    assert_eq!(home.store.read_leaf(entry.blake3, 2).unwrap().unwrap(), leaf(2));
    assert_eq!(home.store.read_leaf(entry.blake3, 999).unwrap(), None);
    let of_manifest = home.store.read_leaf(Digest::of(&manifest), 0).unwrap();
    assert_eq!(of_manifest.unwrap(), manifest, "a manifest is a blob too");
}

#[test]
fn a_damaged_record_or_file_begins_anew() {
    let home = Home::new();
    let (manifest, entry, bytes) = long();
    let download = begin(&home.store, &manifest);
    let folder = home.path(&format!("partial/{}", Digest::of(&manifest)));
    let record = folder.join(format!("{}.record", entry.blake3));
    let begin = || drop(download.begin(&entry, leaves(&bytes)).unwrap());
    begin();
    let sound = fs::read(&record).unwrap();
    assert!(download.resume(&entry).unwrap().is_some());
    for damage in [0, 8, 12, 42, 49, 50, 51, sound.len() - 1] {
        let mut bytes = sound.clone();
        bytes[damage] ^= 0x80;
        fs::write(&record, &bytes).unwrap();
        assert!(download.resume(&entry).unwrap().is_none(), "byte {damage}");
    }
    fs::write(&record, &sound[..sound.len() - 1]).unwrap();
    assert!(download.resume(&entry).unwrap().is_none());
    fs::write(&record, &sound).unwrap();
    fs::write(folder.join(format!("{}.part", entry.blake3)), "short").unwrap();
    assert!(download.resume(&entry).unwrap().is_none());
    begin();
    // Without its manifest nothing can be resumed, and nobody holds it.
    drop(download);
    fs::remove_file(home.store.manifest_path(PackageId(Digest::of(&manifest)))).unwrap();
    home.store.sweep().unwrap();
    assert!(!folder.exists());
}

#[test]
fn blobs_that_do_not_fit_are_refused_before_they_are_begun() {
    let mount = tempfile::tempdir().unwrap();
    let mut command = std::process::Command::new("mount");
    command.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(mount.path());
    if !command.status().is_ok_and(|status| status.success()) {
        return skip("mounting a small file system needs root");
    }
    let result = std::panic::catch_unwind(|| {
        let store = Store::open(&mount.path().join("home")).unwrap();
        let (manifest, entry, bytes) = long();
        let download = begin(&store, &manifest);
        let package = download.package().unwrap().unwrap();
        let refused = download.missing(&package, &[BlobKind::Layer(0)]).unwrap_err();
        assert!(refused.is_out_of_space(), "{refused}");
        let refused = download.begin(&entry, leaves(&bytes)).unwrap_err();
        assert!(refused.is_out_of_space(), "{refused}");
        let small = download.missing(&package, &[BlobKind::Tables]).unwrap();
        assert_eq!(small.len(), 1, "what fits is not refused");
    });
    let unmounted = std::process::Command::new("umount").arg("-l").arg(mount.path()).status();
    assert!(unmounted.unwrap().success());
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
