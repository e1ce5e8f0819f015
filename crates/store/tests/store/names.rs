//! Names: what they mean, and who may say so.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use shoal_store::{PackageName, StoreError};

use crate::support::{Home, no_id};

fn name(text: &str) -> PackageName {
    text.parse().unwrap()
}

#[test]
fn a_name_means_the_package_it_was_given_last() {
    let home = Home::new();
    let first = home.import(1, Some("story")).id;
    let second = home.import(2, Some("story"));
    assert_eq!(second.renamed_from, Some(first));
    assert_eq!(home.again().find("story").unwrap(), second.id);
    assert_eq!(home.store.name(&name("story"), first).unwrap(), Some(second.id));
    assert_eq!(home.store.name(&name("other"), first).unwrap(), None);
    assert_eq!(home.store.names_of(first).unwrap(), [name("other"), name("story")]);
    let refused = home.store.name(&name("x"), no_id()).unwrap_err();
    assert!(matches!(refused, StoreError::NotFound { .. }), "{refused}");
    home.store.remove(first).unwrap();
    assert!(home.store.find("story").is_err());
}

#[test]
fn an_index_that_cannot_be_trusted_is_refused_until_it_is_made_anew() {
    let home = Home::new();
    let id = home.import(1, Some("story")).id;
    let index = home.path("index.json");
    let forged = fs::read_to_string(&index).unwrap().replace("story", "other");
    fs::write(&index, forged).unwrap();
    for refused in [
        home.store.find("other").unwrap_err(),
        home.store.list().unwrap_err(),
        home.store.begin_import(1).unwrap_err(),
        home.store.name(&name("x"), id).unwrap_err(),
        home.store.remove(id).unwrap_err(),
    ] {
        assert!(matches!(refused, StoreError::Index { .. }), "{refused}");
    }
    // Ids need no names.
    assert_eq!(home.store.find(&id.to_string()).unwrap(), id);
    assert!(home.store.package(id).is_ok());
    assert!(home.store.health().unwrap().index.is_some());
    assert_eq!(home.store.rebuild_index(true).unwrap(), [name("other")]);
    assert_eq!(home.store.find("other").unwrap(), id);
    assert_eq!(home.store.rebuild_index(false).unwrap(), []);
    assert!(home.store.health().unwrap().index.is_none());
}

#[test]
fn a_lost_key_or_index_is_damage_and_no_beginning() {
    let home = Home::new();
    let id = home.import(1, Some("story")).id;
    for lost in ["index.key", "index.json"] {
        fs::remove_file(home.path(lost)).unwrap();
        let store = home.again();
        assert!(matches!(store.find("story"), Err(StoreError::Index { .. })), "{lost}");
        store.rebuild_index(true).unwrap();
        store.name(&name("story"), id).unwrap();
        assert_eq!(store.find("story").unwrap(), id);
    }
    fs::write(home.path("index.key"), "short").ok();
    fs::set_permissions(home.path("index.key"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(home.path("index.key"), "short").unwrap();
    assert!(matches!(home.store.find("story"), Err(StoreError::Index { .. })));
    assert_eq!(home.store.rebuild_index(true).unwrap(), [name("story")]);
}

#[test]
fn a_key_that_others_can_read_is_told() {
    let home = Home::new();
    assert!(!home.store.health().unwrap().key_open_to_others);
    fs::set_permissions(home.path("index.key"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(home.store.health().unwrap().key_open_to_others);
}
