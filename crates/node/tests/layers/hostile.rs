//! Peers that lie about layers: they are named, and the others finish the work.

use std::time::{Duration, Instant};

use shoal_base::Digest;
use shoal_net::{Connection, Endpoint, EndpointConfig, Incoming, PeerAddress, SecretKey, Sender};
use shoal_node::{Misdeed, NodeError, PeerState};
use shoal_store::Store;
use shoal_testkit::skip;
use shoal_wire::{
    BlobData, BlobLeaves, BlobQuery, BlobRange, BlobRequest, Bytes, FaultCode, LeafSet, List,
    Message,
};
use tokio::runtime::Runtime;

use crate::support::{Home, LAYERS, assert_sound, bytes_of, fetch, id, local, node, parts};

/// What a peer does instead of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evil {
    /// Other bytes than those of the leaf.
    Garbage,
    /// Says that it has leaves and does not send them.
    Silent,
    /// Another length for each blob.
    Length,
    /// Another manifest than the one with this id.
    Manifest,
    /// Leaves nobody asked for.
    Pushy,
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().expect("it starts")
}

async fn bind(seed: u8) -> Endpoint {
    let config = EndpointConfig::new(SecretKey::new(&[seed; 32]), local());
    Endpoint::bind(config).await.expect("loopback has free ports")
}

fn liar(runtime: &Runtime, seed: u8, evil: Evil, store: &Store) -> PeerAddress {
    let endpoint = runtime.block_on(bind(seed));
    let address = endpoint.address();
    let store = store.clone();
    runtime.spawn(async move {
        while let Some(arrival) = endpoint.accept().await {
            if let Ok(connection) = arrival.greet().await {
                tokio::spawn(deceive(connection, evil, store.clone()));
            }
        }
    });
    address
}

async fn deceive(connection: Connection, evil: Evil, store: Store) {
    let (sender, mut receiver) = connection.split();
    while let Ok(incoming) = receiver.next().await {
        let Incoming::Message(message) = incoming else { continue };
        match *message {
            Message::BlobQuery(query) => {
                let leaves = list(evil, &store, query.blob);
                if sender.send(&Message::BlobLeaves(leaves)).is_err() {
                    return;
                }
            }
            Message::BlobRequest(request) => serve(&sender, evil, &store, &request).await,
            _ => {}
        }
    }
}

fn list(evil: Evil, store: &Store, blob: Digest) -> BlobLeaves {
    let (mut bytes, mut leaves) = store.leaves_of(blob).expect("it reads").expect("it is whole");
    match evil {
        Evil::Length => bytes -= 1,
        Evil::Manifest if blob == id().0 => {
            let other = b"{ \"format\": \"shoal-package\" }\n";
            (bytes, leaves) = (other.len() as u64, vec![Digest::of(other)]);
        }
        _ => {}
    }
    let held = LeafSet::full(leaves.len() as u32).ranges();
    BlobLeaves { blob, bytes, leaves: List::try_new(leaves).expect("short"), held }
}

async fn serve(sender: &Sender, evil: Evil, store: &Store, request: &BlobRequest) {
    let blob = request.blob;
    // The manifest is honest, so that it comes to layers at all.
    let is_honest = blob == id().0;
    for leaf in request.ranges.iter().flat_map(|r| r.first..r.first + r.count) {
        let bytes = store.read_leaf(blob, leaf).expect("it reads").expect("it is here");
        let (leaf, bytes) = match evil {
            Evil::Garbage if !is_honest => (leaf, vec![0xee; bytes.len()]),
            Evil::Silent if !is_honest => continue,
            Evil::Pushy if !is_honest => (leaf + 1000, bytes),
            _ => (leaf, bytes),
        };
        let bytes = Bytes::try_new(bytes).expect("at most a leaf");
        let _ = sender.send_leaf(BlobData { blob, leaf, bytes }).await;
    }
}

#[test]
fn a_peer_that_lies_is_named_and_the_others_finish() {
    let (full, runtime) = (Home::full(), runtime());
    for (seed, evil) in
        [Evil::Garbage, Evil::Length, Evil::Manifest, Evil::Pushy].iter().enumerate()
    {
        let empty = Home::new();
        let liar = liar(&runtime, 50 + seed as u8, *evil, &full.store);
        let honest = node(1, &full, &[2]);
        let b = node(2, &empty, &[]);
        let mut named = None;
        let from = [liar.clone(), honest.address().clone()];
        let result = b.fetch(id(), parts(0, LAYERS), &from, &mut |progress| {
            let peer = progress.peers.iter().find(|peer| peer.node == liar.node);
            if let Some(PeerState::Banned(misdeed)) = peer.map(|peer| peer.state) {
                named = Some(misdeed);
            }
            true
        });
        result.unwrap_or_else(|error| panic!("{evil:?}: {error}"));
        assert_sound(&empty);
        let holding = empty.store.holding(id()).expect("it is here");
        assert_eq!(holding.bytes, bytes_of(0, LAYERS), "{evil:?}");
        // A fetch may be over before it is told, but then the liar was not in its way.
        if let Some(misdeed) = named {
            let fits = match evil {
                Evil::Garbage => matches!(misdeed, Misdeed::Leaf { .. }),
                Evil::Pushy => matches!(misdeed, Misdeed::Unasked { .. }),
                _ => matches!(misdeed, Misdeed::Leaves { .. } | Misdeed::Leaf { .. }),
            };
            assert!(fits, "{evil:?}: {misdeed}");
        }
    }
}

#[test]
fn with_liars_only_a_fetch_fails_and_names_them_and_keeps_nothing_wrong() {
    let (full, runtime) = (Home::full(), runtime());
    for (seed, evil) in
        [Evil::Garbage, Evil::Length, Evil::Manifest, Evil::Pushy].iter().enumerate()
    {
        let empty = Home::new();
        let liar = liar(&runtime, 60 + seed as u8, *evil, &full.store);
        let b = node(2, &empty, &[]);
        let refused = fetch(&b, parts(0, 1), std::slice::from_ref(&liar)).0.unwrap_err();
        assert!(matches!(refused, NodeError::Fetch { .. }), "{evil:?}: {refused}");
        assert!(refused.to_string().contains(&liar.node.to_string()), "{evil:?}: {refused}");
        match empty.store.holding(id()) {
            Ok(holding) => assert_eq!(holding.bytes, 0, "{evil:?}"),
            Err(error) => assert!(*evil != Evil::Garbage, "{evil:?}: {error}"),
        }
    }
}

#[test]
fn a_peer_that_sends_nothing_does_not_hold_up_the_others() {
    let (full, runtime, empty) = (Home::full(), runtime(), Home::new());
    let silent = liar(&runtime, 70, Evil::Silent, &full.store);
    let honest = node(1, &full, &[2]);
    let b = node(2, &empty, &[]);
    let started = Instant::now();
    let from = [silent, honest.address().clone()];
    fetch(&b, parts(0, LAYERS), &from).0.expect("one peer is honest");
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert_sound(&empty);
}

#[test]
fn a_flood_of_requests_is_refused_and_then_ends_the_connection() {
    let (full, runtime, empty) = (Home::full(), runtime(), Home::new());
    let a = node(1, &full, &[2, 80]);
    let (sender, mut receiver) = runtime.block_on(async {
        let endpoint = bind(80).await;
        let connection = endpoint.connect(a.address()).await.expect("it may");
        let split = connection.split();
        // The endpoint lives as long as the runtime.
        tokio::spawn(async move { while endpoint.accept().await.is_some() {} });
        split
    });
    let blob = full.store.package(id()).expect("it is whole").manifest().blobs[2].blake3;
    let all = List::try_new(vec![BlobRange { first: 0, count: 200 }]).expect("one");
    let mut faults = Vec::new();
    let end = runtime.block_on(async {
        for _ in 0..300 {
            let request = BlobRequest { blob, ranges: all.clone() };
            if sender.send(&Message::BlobRequest(request)).is_err() {
                break;
            }
            let _ = sender.send(&Message::BlobQuery(BlobQuery { blob }));
        }
        loop {
            match receiver.next().await {
                Ok(Incoming::Message(message)) => match *message {
                    Message::Fault(fault) => faults.push(fault.code),
                    _ => continue,
                },
                Ok(Incoming::Frame(frame)) => panic!("{frame:?}"),
                Err(error) => return error,
            }
        }
    });
    // What was sent meanwhile may be more than the transport of the one who asked puts up with.
    let is_over = end.to_string().contains("Quota") || !faults.is_empty();
    assert!(is_over, "{end}");
    assert!(faults.iter().all(|code| *code == FaultCode::Quota), "{faults:?}");
    // Nobody else notices.
    let b = node(2, &empty, &[]);
    fetch(&b, parts(0, 1), &[a.address().clone()]).0.expect("it is served");
}

#[test]
fn a_full_disk_is_an_error_that_loses_nothing() {
    let mount = tempfile::tempdir().expect("a folder");
    let tmpfs = |arguments: &[&str]| {
        let status = std::process::Command::new("mount").args(arguments).arg(mount.path()).status();
        status.is_ok_and(|status| status.success())
    };
    if !tmpfs(&["-t", "tmpfs", "-o", "size=6m", "tmpfs"]) {
        return skip("mounting a small file system needs root");
    }
    let result = std::panic::catch_unwind(|| {
        let full = Home::full();
        let store = Store::open(&mount.path().join("home")).expect("a store");
        let a = node(1, &full, &[2]);
        let config = shoal_node::NodeConfig::new([2; 32], local());
        let config = shoal_node::NodeConfig { store: Some(store.clone()), ..config };
        let b = shoal_node::Node::start(config).expect("it starts");
        let from = [a.address().clone()];
        fetch(&b, parts(0, 1), &from).0.expect("one layer fits");
        let refused = fetch(&b, parts(0, LAYERS), &from).0.unwrap_err();
        assert!(
            matches!(&refused, NodeError::Store(error) if error.is_out_of_space()),
            "{refused}"
        );
        let holding = store.holding(id()).expect("it is here");
        assert_eq!(holding.bytes, bytes_of(0, 1), "what was there stays");
        let verified = store.verify(id(), 1, &|_| true).expect("it is here");
        assert!(verified.damage.is_empty(), "{:?}", verified.damage);
    });
    let unmounted = std::process::Command::new("umount").arg("-l").arg(mount.path()).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
