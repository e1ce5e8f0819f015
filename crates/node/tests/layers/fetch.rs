//! Honest peers: from one, from several, in pieces, with a limit.

use std::time::{Duration, Instant};

use shoal_base::{Flow, Generate, Prompt, Request, TokenEvent};
use shoal_engine::{EngineOptions, LocalEngine};
use shoal_model::package::BlobKind;
use shoal_node::{
    FetchParts, HeadOptions, Node, NodeError, PlannedStage, PrepareOptions, ServeOptions,
    StaticPlan,
};

use crate::support::{
    Home, LAYERS, assert_sound, bytes_of, fetch, id, node, node_id, node_with, parts, range,
};

fn answer(generate: &dyn Generate) -> String {
    let (sender, events) = std::sync::mpsc::channel();
    let mut request = Request::new(Prompt::Text("once upon a time".to_owned()));
    request.sampling.temperature = 0.7;
    request.stop.tokens_max = Some(12);
    request.stop.ignore_end_of_turn = true;
    let sink = move |event| match sender.send(event) {
        Ok(()) => Flow::Continue,
        Err(_) => Flow::Stop,
    };
    generate.submit(request, Box::new(sink)).expect("it is accepted");
    let mut ids = Vec::new();
    loop {
        match events.recv_timeout(Duration::from_secs(60)).expect("events arrive") {
            TokenEvent::Started { .. } => {}
            TokenEvent::Token { id, .. } => ids.push(id.0),
            TokenEvent::Finished { .. } => return format!("{ids:?}"),
            TokenEvent::Failed(error) => panic!("{error}"),
        }
    }
}

fn serve(node: &Node, home: &Home, first: u16, end: u16) -> PlannedStage {
    let package = home.store.package(id()).expect("its manifest is here");
    let options = ServeOptions { threads: 1, ..ServeOptions::default() };
    node.serve(&package, range(first, end), options).expect("the layers are here");
    PlannedStage { peer: node.address().clone(), layers: range(first, end) }
}

#[test]
fn layers_fetched_from_a_peer_compute_the_same_answers() {
    let (full, empty) = (Home::full(), Home::new());
    let (a, b) = (node(1, &full, &[2, 9]), node(2, &empty, &[9]));
    let (result, last) = fetch(&b, parts(1, 3), &[a.address().clone()]);
    result.expect("the peer has them");
    assert!(last.trouble.is_empty(), "{last:?}");
    let holding = empty.store.holding(id()).expect("its manifest is here");
    assert_eq!(holding.held, [BlobKind::Tables, BlobKind::Layer(1), BlobKind::Layer(2)]);
    assert_eq!((holding.bytes, holding.is_partial), (bytes_of(1, 3), true));
    assert_sound(&empty);
    let package = empty.store.package(id()).expect("its manifest is here");
    let refused = b.serve(&package, range(0, 3), ServeOptions::default());
    assert!(refused.unwrap_err().to_string().contains("layer-0"), "it names what is absent");

    let c = node(3, &full, &[9]);
    let stages = vec![serve(&a, &full, 0, 1), serve(&b, &empty, 1, 3), serve(&c, &full, 3, 4)];
    let plan = StaticPlan::try_new(LAYERS, stages, vec![]).expect("a plan");
    let leader = node(9, &full, &[]);
    let package = full.store.package(id()).expect("it is whole");
    let options = HeadOptions { threads: 1, ..HeadOptions::default() };
    let head = leader.head(&package, "it", plan, options).expect("it leads");
    let alone = EngineOptions { threads: 1, ..EngineOptions::default() };
    let alone = LocalEngine::open(&package, "it", None, alone).expect("it opens");
    assert_eq!(answer(&head), answer(&alone));
}

#[test]
fn a_node_serves_what_it_fetched_and_a_package_can_become_whole() {
    let (full, half, empty) = (Home::full(), Home::new(), Home::new());
    let a = node(1, &full, &[2, 3]);
    let b = node(2, &half, &[3]);
    fetch(&b, parts(0, 2), &[a.address().clone()]).0.expect("the peer has them");
    let c = node(3, &empty, &[]);
    // One has half of it, the other one all.
    let from = [b.address().clone(), a.address().clone()];
    fetch(&c, parts(0, 1), &from[..1]).0.expect("half is enough");
    let (result, last) = fetch(&c, parts(2, 3), &from[..1]);
    let NodeError::Fetch { failure, .. } = result.unwrap_err() else { panic!("{last:?}") };
    assert!(failure.to_string().contains("no peer has blob"), "{failure}");
    let all = FetchParts { layers: None, with_head: true };
    fetch(&c, all, &from).0.expect("together they have all");
    let holding = empty.store.holding(id()).expect("it is here");
    assert!(holding.absent.is_empty() && !holding.is_partial, "{holding:?}");
    assert!(!empty.path(&format!("partial/{}", id())).exists());
    assert_sound(&empty);
    // What is there is not fetched again.
    fetch(&c, all, &[]).0.expect("nothing is missing");
}

#[test]
fn a_fetch_that_was_ended_goes_on_where_it_was() {
    let (full, empty) = (Home::full(), Home::new());
    let a = node_with(1, &full, &[2], Some(4 << 20));
    let from = [a.address().clone()];
    let all = bytes_of(0, LAYERS);
    let mut kept = 0;
    {
        let b = node(2, &empty, &[]);
        let ended = b.fetch(id(), parts(0, LAYERS), &from, &mut |progress| {
            kept = progress.bytes;
            progress.bytes < 4 << 20
        });
        assert!(matches!(ended, Err(NodeError::Cancelled)), "{ended:?}");
        assert!(kept >= 4 << 20 && kept < all, "{kept} of {all}");
    }
    empty.store.sweep().expect("it sweeps");
    drop(a);
    let a = node(1, &full, &[2]);
    let b = node(2, &empty, &[]);
    let (done, last) = fetch(&b, parts(0, LAYERS), &[a.address().clone()]);
    done.expect("the rest is there");
    assert!(last.peers[0].bytes <= all - kept, "{last:?}: {kept} of {all} were kept");
    assert_sound(&empty);
}

#[test]
fn what_leaves_in_a_second_has_a_limit() {
    let (full, empty) = (Home::full(), Home::new());
    let a = node_with(1, &full, &[2], Some(8 << 20));
    let b = node(2, &empty, &[]);
    let started = Instant::now();
    fetch(&b, parts(0, LAYERS), &[a.address().clone()]).0.expect("it is slow and it comes");
    let rate = bytes_of(0, LAYERS) as f64 / started.elapsed().as_secs_f64();
    // A bucket of one second is full at the start at most.
    assert!(rate < f64::from(17 << 20), "{rate} bytes per second");
}

#[test]
fn a_fetch_without_a_store_or_for_layers_that_do_not_exist_is_refused() {
    let (full, empty) = (Home::full(), Home::new());
    let a = node(1, &full, &[2]);
    let b = node(2, &empty, &[]);
    let from = [a.address().clone()];
    let refused = fetch(&b, parts(3, 9), &from).0.unwrap_err();
    assert!(matches!(refused, NodeError::NoSuchLayer { end: 9, .. }), "{refused}");
    let config = shoal_node::NodeConfig::new([3; 32], crate::support::local());
    let bare = Node::start(config).expect("it starts");
    assert!(matches!(fetch(&bare, parts(0, 1), &from).0, Err(NodeError::NoStore)));
    // Nobody lets this one in.
    let other = Home::new();
    let c = node(4, &other, &[]);
    let refused = fetch(&c, parts(0, 1), &from).0.unwrap_err().to_string();
    assert!(
        refused.contains(&node_id(1).to_string()) && refused.contains("Forbidden"),
        "{refused}"
    );
}

#[test]
fn a_head_has_layers_prepared_and_hears_how_far_they_are() {
    use shoal_net::{Endpoint, EndpointConfig, Incoming, SecretKey};
    use shoal_wire::{Message, Prepare, PrepareState};

    let (full, empty) = (Home::full(), Home::new());
    let serve = ServeOptions { threads: 1, cache_tokens: 64, ..ServeOptions::default() };
    let options = PrepareOptions { serve, memory_bytes: 64 << 20 };
    let config = shoal_node::NodeConfig::new([2; 32], crate::support::local());
    let config = shoal_node::NodeConfig {
        heads: vec![node_id(7), node_id(1)],
        store: Some(empty.store.clone()),
        prepare: Some(options),
        ..config
    };
    let stage = Node::start(config).expect("it starts");
    // The blobs are at a head that fetched nothing itself.
    let source = node(1, &full, &[2]);
    fetch(&stage, parts(0, 1), &[source.address().clone()]).0.expect("it has them");
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(1).enable_all().build().expect("it starts");
    let states = runtime.block_on(async {
        let config = EndpointConfig::new(SecretKey::new(&[7; 32]), crate::support::local());
        let endpoint = Endpoint::bind(config).await.expect("loopback has free ports");
        let connection = endpoint.connect(stage.address()).await.expect("it may");
        let (sender, mut receiver) = connection.split();
        let mut states = Vec::new();
        for layers in [range(0, 1), range(0, 1), range(2, 3)] {
            sender.send(&Message::Prepare(Prepare { package: id(), layers })).expect("room");
            loop {
                let Incoming::Message(message) = receiver.next().await.expect("it stays") else {
                    continue;
                };
                match *message {
                    Message::PrepareStatus(status) if status.layers == layers => {
                        states.push(status.state);
                        let is_over =
                            matches!(status.state, PrepareState::Ready | PrepareState::Refused);
                        if is_over {
                            break;
                        }
                    }
                    // This head has nothing to give.
                    Message::BlobQuery(query) => {
                        let absent = shoal_wire::BlobAbsent { blob: query.blob };
                        sender.send(&Message::BlobAbsent(absent)).expect("room");
                    }
                    _ => {}
                }
            }
        }
        states
    });
    use PrepareState::{Fetching, Loading, Ready, Refused};
    assert_eq!(states, [Fetching, Loading, Ready, Ready, Fetching, Refused]);
}
