//! What a member may fetch: blobs of the packages that its certificate names.

use std::path::Path;
use std::time::Duration;

use shoal_base::{Digest, PackageId};
use shoal_node::{FetchParts, Node, NodeError, SwarmRole, create_swarm, join_swarm};
use shoal_store::{NodeFolder, Store};

use crate::support::{Home, LAYERS, assert_sound, fetch, id, local, parts};

fn folder(path: &Path) -> NodeFolder {
    NodeFolder::take(path).expect("the folder can be used").expect("it is free")
}

fn member(path: &Path, store: Store) -> Node {
    Node::start_member(folder(path), local(), Some(store), None, Vec::new(), None)
        .expect("it starts")
}

#[test]
fn a_member_fetches_blobs_of_the_models_in_its_certificate_and_no_others() {
    let (full, empty) = (Home::full(), Home::new());
    let folders: Vec<_> = (0..2).map(|_| tempfile::tempdir().expect("a folder")).collect();
    create_swarm(&folder(folders[0].path()), "").expect("a swarm");
    let owner = member(folders[0].path(), full.store.clone());
    let join = |models: &[PackageId]| {
        let ticket = owner.invite(SwarmRole::Serve, models, Duration::from_secs(60));
        let joiner = folder(folders[1].path());
        joiner.forget().expect("it can be forgotten");
        join_swarm(&joiner, &ticket.expect("the owner may"), "", local(), &[], None)
            .expect("the ticket is good");
        drop(joiner);
        member(folders[1].path(), empty.store.clone())
    };
    let from = [owner.address().clone()];
    let other = PackageId(Digest::of(b"another model"));
    let (refused, _) = fetch(&join(&[other]), parts(0, LAYERS), &from);
    assert!(matches!(refused, Err(NodeError::Fetch { .. })), "{refused:?}");
    assert!(empty.store.package(id()).is_err(), "not even its manifest");
    let both = join(&[other, id()]);
    let all = FetchParts { layers: None, with_head: true };
    fetch(&both, all, &from).0.expect("its certificate names it");
    assert_sound(&empty);
}
