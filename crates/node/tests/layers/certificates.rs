//! What a member may fetch: blobs of the packages that its certificate names. And what it fetches
//! and loads because a head asks.

use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use shoal_base::{Digest, Flow, Generate as _, PackageId, Prompt, Request, TokenEvent};
use shoal_node::{
    FetchParts, HeadOptions, MemberOptions, Node, NodeError, PrepareOptions, RingHead,
    ServeOptions, SwarmRole, SwarmView, create_swarm, join_swarm,
};
use shoal_store::{NodeFolder, Store};

use crate::support::{Home, LAYERS, assert_sound, fetch, id, local, parts, range};

const WAIT_MAX: Duration = Duration::from_secs(30);

fn folder(path: &Path) -> NodeFolder {
    NodeFolder::take(path).expect("the folder can be used").expect("it is free")
}

fn member(path: &Path, store: Store) -> Node {
    member_with(path, store, None)
}

fn member_with(path: &Path, store: Store, prepare: Option<PrepareOptions>) -> Node {
    let options = MemberOptions { store: Some(store), prepare, ..MemberOptions::new(local()) };
    Node::start_member(folder(path), options).expect("it starts")
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

#[test]
fn a_member_loads_what_a_head_asks_for_and_stands_in_for_one_that_is_gone() {
    // The head has nothing to give, and the one that is asked nothing yet.
    let stores: Vec<Home> = vec![Home::new(), Home::full(), Home::new()];
    let folders: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a folder")).collect();
    let path = |index: usize| folders[index].path();
    create_swarm(&folder(path(0)), "").expect("a swarm");
    let head = member(path(0), stores[0].store.clone());
    let serve = ServeOptions { threads: 1, cache_tokens: 256, ..ServeOptions::default() };
    let join = |index: usize, prepare| {
        let ticket = head.invite(SwarmRole::Serve, &[], Duration::from_secs(60));
        join_swarm(&folder(path(index)), &ticket.expect("it may"), "", local(), &[], None)
            .expect("the ticket is good");
        member_with(path(index), stores[index].store.clone(), prepare)
    };
    let package = stores[1].store.package(id()).expect("it is there");
    let stage = join(1, None);
    stage.serve(&package, range(0, LAYERS), serve).expect("it has them");
    let asked = join(2, Some(PrepareOptions { serve, memory_bytes: 256 << 20 }));
    let mut options = HeadOptions { threads: 1, patience: WAIT_MAX, ..HeadOptions::default() };
    (options.policy.context_tokens, options.policy.cache_tokens) = (64, 128);
    let ring = head.lead(&package, "tiny", options).expect("it leads");
    let expected = answer(&ring);
    let loaded = |view: &SwarmView| {
        let member = view.members.iter().find(|member| member.node == asked.address().node);
        let offers = member.into_iter().flat_map(|member| member.offers.iter());
        offers.flat_map(|offer| offer.loaded.iter()).any(|loaded| *loaded == range(0, LAYERS))
    };
    let started = Instant::now();
    while !loaded(&head.swarm().expect("it is a member")) {
        assert!(started.elapsed() < WAIT_MAX, "it stands by");
        // A ring in use asks for somebody who stands by.
        assert_eq!(answer(&ring), expected);
    }
    drop(stage);
    assert_eq!(answer(&ring), expected);
    assert_sound(&stores[2]);
}

fn answer(head: &RingHead) -> String {
    let mut request = Request::new(Prompt::Text("abc".to_owned()));
    request.stop.tokens_max = Some(8);
    let (sender, events) = channel();
    let sink = move |event| {
        // Whoever waits has seen the end.
        let _ = sender.send(event);
        Flow::Continue
    };
    head.submit(request, Box::new(sink)).expect("there is room");
    let mut all = String::new();
    loop {
        match events.recv_timeout(WAIT_MAX).expect("events arrive") {
            TokenEvent::Started { .. } => {}
            TokenEvent::Token { text, .. } => all += &text,
            TokenEvent::Finished { text, .. } => return all + &text,
            TokenEvent::Failed(error) => panic!("{error}"),
        }
    }
}
