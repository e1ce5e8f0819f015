//! Making, finding, checking and removing packages, and what is left when that is cut short.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use shoal_model::package::{BlobKind, InputFormat, PackageError};
use shoal_store::{Removed, Store, StoreError, Swept};

use crate::support::{Home, no_id, write};

#[test]
fn a_package_is_there_once_it_is_committed() {
    let home = Home::new();
    let import = home.store.begin_import(1 << 20).unwrap();
    let manifest = write(&import, 1).finish(|_, _| InputFormat::A8);
    assert!(home.store.list().unwrap().packages.is_empty());
    assert_eq!(home.blob_count(), 0);
    assert_eq!(home.store.health().unwrap().imports, 1);
    let id = import.commit(&manifest, None).unwrap().id;
    assert_eq!(id, manifest.id());
    let package = home.again().package(id).unwrap();
    assert_eq!(package.manifest(), &manifest);
    for blob in &manifest.blobs {
        let bytes = package.bytes(blob.kind).unwrap();
        assert_eq!((bytes.len() as u64, bytes.as_ptr().addr() % 64), (blob.bytes, 0));
    }
    let verified = home.store.verify(id, 2, &|_| true).unwrap();
    assert_eq!((verified.bytes, verified.damage.len()), (manifest.blob_bytes(), 0));
    assert_eq!(home.names("staging"), [""; 0]);
    // Only this user reads or writes it.
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&home.path("blobs")), 0o700);
    assert_eq!(mode(&home.store.manifest_path(id)), 0o400);
}

#[test]
fn an_import_that_is_given_up_leaves_nothing() {
    let home = Home::new();
    let import = home.store.begin_import(1 << 20).unwrap();
    write(&import, 1);
    drop(import);
    assert_eq!((home.names("staging").len(), home.names("blobs").len()), (0, 0));
    let error = home.store.begin_import(u64::MAX).unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { .. }) && error.is_out_of_space(), "{error}");
}

#[test]
fn a_manifest_with_blobs_that_were_not_written_is_refused() {
    let home = Home::new();
    let first = home.store.begin_import(1 << 20).unwrap();
    let manifest = write(&first, 1).finish(|_, _| InputFormat::A8);
    let other = home.store.begin_import(1 << 20).unwrap();
    write(&other, 2);
    let refused = other.commit(&manifest, None).unwrap_err();
    let StoreError::Package { source: PackageError::Missing { .. }, .. } = refused else {
        panic!("{refused}");
    };
    assert!(home.store.list().unwrap().packages.is_empty());
    first.commit(&manifest, None).unwrap();
}

#[test]
fn what_a_dead_process_left_is_swept_when_the_store_is_opened() {
    let home = Home::new();
    let kept = home.import(1, Some("kept"));
    // A process that died while it wrote blobs has no lock any more.
    let dead = home.path("staging/import-dead");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("lock"), "").unwrap();
    fs::write(dead.join("blob-x"), vec![0; 1000]).unwrap();
    // One that died after its blobs were moved left some that nobody names.
    let orphan = home.path("blobs").join("ab".repeat(32));
    fs::write(&orphan, vec![0; 500]).unwrap();
    fs::write(home.path("packages/.new-x"), "{").unwrap();
    // One that lives keeps its folder.
    let living = home.store.begin_import(1 << 20).unwrap();
    let manifest = write(&living, 2).finish(|_, _| InputFormat::A8);
    home.again();
    assert!(!dead.exists() && !orphan.exists());
    assert_eq!(home.names("packages"), [format!("{}.json", kept.id)]);
    living.commit(&manifest, None).unwrap();
    assert_eq!(home.store.sweep().unwrap(), Swept::default());
    assert!(home.store.verify(kept.id, 1, &|_| true).unwrap().damage.is_empty());
}

#[test]
fn shared_blobs_stay_until_the_last_package_goes() {
    let home = Home::new();
    let first = home.import(1, Some("first")).id;
    // The same weights with other inputs: another package of the same blobs.
    let import = home.store.begin_import(1 << 20).unwrap();
    let manifest = write(&import, 1).finish(|_, _| InputFormat::A12);
    let second = import.commit(&manifest, None).unwrap().id;
    assert_ne!(first, second);
    let count = home.blob_count();
    let Removed { names, bytes, .. } = home.store.remove(first).unwrap();
    assert_eq!((names.len(), bytes, home.blob_count()), (1, 0, count));
    assert!(home.store.verify(second, 1, &|_| true).unwrap().damage.is_empty());
    assert!(home.store.remove(second).unwrap().bytes > manifest.blob_bytes());
    assert_eq!(home.names("blobs"), [""; 0]);
    assert!(matches!(home.store.remove(second), Err(StoreError::NotFound { .. })));
}

#[test]
fn a_removed_package_stays_usable_for_whoever_has_it_open() {
    let home = Home::new();
    let id = home.import(1, None).id;
    let bytes = home.store.package(id).unwrap().bytes(BlobKind::Layer(0)).unwrap();
    let before = shoal_base::Digest::of(&bytes);
    home.store.remove(id).unwrap();
    assert_eq!(shoal_base::Digest::of(&bytes), before);
}

#[test]
fn damage_is_named_by_blob_and_leaf() {
    let home = Home::new();
    let id = home.import(1, None).id;
    let package = home.store.package(id).unwrap();
    let digest = package.manifest().blob(BlobKind::Layer(1)).unwrap().blake3;
    let path = home.path("blobs").join(digest.to_string());
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x80;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, &bytes).unwrap();
    let verified = home.store.verify(id, 2, &|_| true).unwrap();
    assert_eq!(verified.damage.len(), 1);
    let PackageError::Leaf { kind, end, .. } = verified.damage[0].error else {
        panic!("{:?}", verified.damage);
    };
    assert_eq!((kind, end), (BlobKind::Layer(1), bytes.len()));
    // Without the list of leaves, the blob is known to be damaged all the same.
    fs::remove_file(home.path("blobs").join(format!("{digest}.leaves"))).unwrap();
    let verified = home.store.verify(id, 2, &|_| true).unwrap();
    assert!(matches!(verified.damage[0].error, PackageError::Blob { .. }));
    let stopped = home.store.verify(id, 1, &|_| false).unwrap();
    assert!(stopped.stopped);
    // The same package again repairs it.
    home.import(1, None);
    assert!(home.store.verify(id, 2, &|_| true).unwrap().damage.is_empty());
}

#[test]
fn a_damaged_manifest_does_not_cost_other_packages_their_blobs() {
    let home = Home::new();
    let id = home.import(1, None).id;
    let other = home.import(2, Some("other")).id;
    let path = home.store.manifest_path(id);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, "{}").unwrap();
    assert!(matches!(home.store.package(id), Err(StoreError::Manifest { .. })));
    let listed = home.store.list().unwrap();
    assert_eq!((listed.packages.len(), listed.damaged.len()), (1, 1));
    let count = home.blob_count();
    home.store.sweep().unwrap();
    assert_eq!(home.blob_count(), count, "its blobs may still be rescued");
    assert_eq!(home.store.health().unwrap().damaged.len(), 1);
    home.store.remove(id).unwrap();
    assert!(home.store.verify(other, 1, &|_| true).unwrap().damage.is_empty());
}

#[test]
fn folders_of_others_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("letter.txt"), "dear").unwrap();
    let refused = Store::open(folder.path()).unwrap_err();
    assert!(matches!(refused, StoreError::Version { .. }), "{refused}");
    fs::remove_file(folder.path().join("letter.txt")).unwrap();
    fs::write(folder.path().join("version"), "shoal-store 2\n").unwrap();
    let refused = Store::open(folder.path()).unwrap_err();
    assert!(refused.to_string().contains("shoal-store 2"), "{refused}");
    fs::remove_file(folder.path().join("version")).unwrap();
    fs::write(folder.path().join("config.toml"), "").unwrap();
    Store::open(folder.path()).unwrap();
}

#[test]
fn ids_are_found_by_any_unique_beginning() {
    let home = Home::new();
    let ids: Vec<_> = (1..4).map(|seed| home.import(seed, None).id).collect();
    for id in &ids {
        let text = id.to_string();
        assert_eq!(home.store.find(&text).unwrap(), *id);
        assert_eq!(home.store.find(&text[..16]).unwrap(), *id);
        assert!(matches!(home.store.find(&text[..3]), Err(StoreError::NotFound { .. })));
    }
    // A second manifest file whose name begins alike.
    let text = ids[0].to_string();
    let alike = format!("{}{}", &text[..32], "f".repeat(32));
    fs::copy(home.store.manifest_path(ids[0]), home.path(&format!("packages/{alike}.json")))
        .unwrap();
    let refused = home.store.find(&text[..32]).unwrap_err();
    assert!(matches!(refused, StoreError::Ambiguous { count: 2, .. }), "{refused}");
    assert!(matches!(home.store.find(&no_id().to_string()), Err(StoreError::NotFound { .. })));
    assert!(matches!(home.store.find("../../etc/passwd"), Err(StoreError::NotFound { .. })));
}

#[test]
fn several_processes_import_at_once() {
    let home = Home::new();
    let before: Vec<_> = std::thread::scope(|scope| {
        let import = |seed: u64| {
            let store = home.again();
            scope.spawn(move || {
                let import = store.begin_import(1 << 20).unwrap();
                let manifest = write(&import, seed % 3).finish(|_, _| InputFormat::A8);
                let name = format!("m{seed}").parse().unwrap();
                import.commit(&manifest, Some(&name)).unwrap().id
            })
        };
        let running: Vec<_> = (0..6).map(import).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let listed = home.store.list().unwrap();
    assert_eq!(listed.packages.len(), 3);
    for (seed, id) in before.iter().enumerate() {
        assert_eq!(home.store.find(&format!("m{seed}")).unwrap(), *id);
        assert!(home.store.verify(*id, 1, &|_| true).unwrap().damage.is_empty());
    }
}
