//! Packages and names that were changed behind the program's back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::support::Home;

/// Files of the store are read-only; damage does not care.
fn overwrite(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The blob of a kind, such as `{"layer": 0}`.
fn blob(home: &Home, kind: &serde_json::Value) -> PathBuf {
    let names = home.names("packages");
    let manifest = fs::read(home.data("packages").join(&names[0])).unwrap();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let blobs = manifest["blobs"].as_array().unwrap();
    let found = blobs.iter().find(|blob| &blob["kind"] == kind).unwrap();
    home.data("blobs").join(found["blake3"].as_str().unwrap())
}

#[test]
fn a_flipped_bit_is_found_and_its_tile_is_named() {
    let home = Home::with_tiny();
    let path = blob(&home, &serde_json::json!({ "layer": 1 }));
    overwrite(&path, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let verified = home.run(&["model", "verify", "tiny"]);
    verified.failed(4, "blob layer-1: leaf ");
    assert!(verified.stderr.contains(") is damaged"), "{verified:?}");
    let json = home.run(&["model", "verify", "--all", "--json"]);
    json.failed(4, "bad_input");
    assert_eq!(json.json()["packages"][0]["sound"], false);
    // Importing the model again repairs it.
    home.import_tiny();
    home.run(&["model", "verify", "tiny"]).succeeded();
}

#[test]
fn a_blob_that_is_cut_or_gone_is_refused() {
    let home = Home::with_tiny();
    let path = blob(&home, &"embedding".into());
    overwrite(&path, |bytes| bytes.truncate(bytes.len() - 64));
    home.run(&["run", "-m", "tiny", "x"]).failed(4, "blob embedding");
    home.run(&["doctor", "--quick"]);
    fs::remove_file(&path).unwrap();
    home.run(&["run", "-m", "tiny", "x"]).failed(4, "is missing");
    let doctor = home.run(&["doctor", "--quick", "--json"]);
    assert_eq!(doctor.code, Some(4));
    assert!(doctor.json()["problems"][0].as_str().unwrap().contains("embedding"), "{doctor:?}");
}

#[test]
fn a_manifest_that_was_changed_is_refused() {
    let home = Home::with_tiny();
    let path = home.data("packages").join(&home.names("packages")[0]);
    overwrite(&path, |bytes| bytes.push(b' '));
    home.run(&["run", "-m", "tiny", "x"]).failed(4, "its manifest is damaged");
    let listed = home.run(&["model", "list", "--json"]).succeeded().json();
    assert_eq!(listed["damaged"].as_array().unwrap().len(), 1);
    home.run(&["model", "verify", "--all"]).failed(4, "manifest");
    home.run(&["model", "remove", "tiny"]).succeeded();
    home.run(&["model", "list"]).succeeded();
}

#[test]
fn names_that_somebody_else_wrote_are_not_believed() {
    let home = Home::with_tiny();
    overwrite(&home.data("index.json"), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap().replace("\"tiny\"", "\"mine\"");
        *bytes = text.into_bytes();
    });
    home.run(&["run", "-m", "mine", "x"]).failed(4, "doctor --rebuild-index");
    home.run(&["model", "list"]).failed(4, "index");
    let doctor = home.run(&["doctor", "--quick"]);
    assert_eq!(doctor.code, Some(4), "{doctor:?}");
    home.run(&["doctor", "--quick", "--rebuild-index", "--keep-names"]).succeeded();
    home.run(&["run", "-m", "mine", "-n", "2", "x"]).succeeded();
    home.run(&["doctor", "--quick", "--rebuild-index"]).succeeded();
    home.run(&["run", "-m", "mine", "x"]).failed(3, "mine");
}

#[test]
fn a_folder_that_is_no_store_is_left_alone() {
    let home = Home::new();
    fs::create_dir_all(home.data("")).unwrap();
    fs::write(home.data("thesis.tex"), "important").unwrap();
    home.run(&["model", "list"]).failed(1, "thesis.tex");
    assert_eq!(home.names(""), ["thesis.tex"]);
}
