//! How fast layers travel between nodes on loopback, next to the bare link of the same run.
//!
//! The bare link is a connection of the same transport that carries leaves of the same size and
//! throws them away: nothing is asked for, hashed or written. Arguments: MiB of layers (1024), and
//! how often (5).
#![expect(clippy::print_stdout, reason = "the numbers are the result")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use shoal_base::{Digest, PackageId};
use shoal_model::import::{BlobSink as _, import_blobs};
use shoal_model::package::{
    BlobEntry, BlobKind, BlobPlan, InputFormat, LeafHasher, Manifest, StoredFormat, merkle_root,
};
use shoal_net::{Endpoint, EndpointConfig, PeerAddress, SecretKey};
use shoal_node::{FetchParts, Node, NodeConfig};
use shoal_store::Store;
use shoal_testkit::{TinyModel, byte_tokenizer, tiny_architecture};
use shoal_wire::limits::LEAF_BYTES;
use shoal_wire::{BlobData, Bytes};

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// The entries of a small model with the same maps.
fn entries() -> Vec<BlobEntry> {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path()).expect("a store");
    let import = store.begin_import(1 << 20).expect("there is room");
    let tokenizer = byte_tokenizer().to_bytes().expect("it is valid");
    let model = TinyModel::new(tiny_architecture(), 1);
    let blobs = import_blobs(&model, StoredFormat::I4, &tokenizer, 1, &import, &|_| true);
    blobs.expect("it imports").finish(|_, _| InputFormat::A8).blobs
}

/// A package with layers of random bytes: of the right shape, and of no use.
fn package(store: &Store, layers: u32) -> PackageId {
    let mut architecture = tiny_architecture();
    (architecture.model_width, architecture.mlp_width) = (2048, 8192);
    (architecture.head_count, architecture.kv_head_count) = (32, 8);
    (architecture.head_width, architecture.rope.dims) = (64, 64);
    architecture.layer_count = layers;
    let small = entries();
    let import = store.begin_import(u64::from(layers) * (40 << 20)).expect("there is room");
    let mut blobs = Vec::new();
    for kind in Manifest::kinds(&architecture) {
        let alike = |entry: &&BlobEntry| match (entry.kind, kind) {
            (BlobKind::Layer(_), BlobKind::Layer(_)) => true,
            (a, b) => a == b,
        };
        let mut entry = small.iter().find(alike).expect("every kind is there").clone();
        entry.kind = kind;
        let bytes = match kind {
            BlobKind::Tokenizer => byte_tokenizer().to_bytes().expect("it is valid"),
            _ => {
                let plan = BlobPlan::new(&architecture, &entry).expect("the shapes are valid");
                random(plan.bytes, blobs.len() as u64)
            }
        };
        entry.bytes = bytes.len() as u64;
        entry.blake3 = Digest::of(&bytes);
        let plan = BlobPlan::new(&architecture, &entry).expect("the shapes are valid");
        let hasher = LeafHasher::default();
        let leaves: Vec<Digest> = plan.leaves().map(|(_, r)| hasher.leaf(&bytes[r])).collect();
        entry.tiles = merkle_root(&leaves);
        let writer = import.create(entry.bytes).expect("there is room");
        writer.write_at(0, &bytes).expect("it is written");
        writer.keep(entry.blake3, &leaves).expect("it is kept");
        blobs.push(entry);
    }
    let manifest = Manifest {
        format: "shoal-package".to_owned(),
        version: 1,
        arithmetic: 1,
        architecture,
        score_scale_bits: (std::f32::consts::LOG2_E / 8.0).to_bits(),
        chat_template: None,
        blobs,
        proposers: Vec::new(),
        commitments: Vec::new(),
        template: None,
    };
    import.commit(&manifest, None).expect("the manifest is valid").id
}

fn random(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(count + 8);
    while bytes.len() < count {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(count);
    bytes
}

/// Bytes per second of a connection that carries `count` leaves and nothing else.
fn bare_link(count: u64) -> f64 {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(4).enable_all().build().expect("it starts");
    runtime.block_on(async {
        let bind = async |seed: u8| {
            let config = EndpointConfig::new(SecretKey::new(&[seed; 32]), local());
            Endpoint::bind(config).await.expect("loopback has free ports")
        };
        let (a, b) = (bind(1).await, bind(2).await);
        let to = b.address();
        let accepted = async { b.accept().await.expect("it is open").greet().await };
        let (ours, theirs) = tokio::join!(a.connect(&to), accepted);
        let (sender, _kept) = ours.expect("it connects").split();
        let (_held, mut receiver) = theirs.expect("it accepts").split();
        let bytes = Bytes::try_new(random(LEAF_BYTES as usize, 1)).expect("a leaf");
        let started = Instant::now();
        let sending = tokio::spawn(async move {
            for leaf in 0..count {
                let blob = Digest([1; 32]);
                let data = BlobData { blob, leaf: leaf as u32, bytes: bytes.clone() };
                sender.send_leaf(data).await.expect("it is open");
            }
            sender
        });
        for _ in 0..count {
            receiver.next().await.expect("all arrive");
        }
        let rate = (count * LEAF_BYTES) as f64 / started.elapsed().as_secs_f64();
        drop(sending.await);
        rate
    })
}

fn start(seed: u8, store: &Store) -> Node {
    let heads = vec![SecretKey::new(&[9; 32]).id()];
    let config = NodeConfig::new([seed; 32], local());
    Node::start(NodeConfig { heads, store: Some(store.clone()), ..config }).expect("it starts")
}

/// Bytes per second of a fetch into an empty store.
fn fetched(id: PackageId, from: &[&Node]) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("home")).expect("a store");
    let node = start(9, &store);
    let from: Vec<PeerAddress> = from.iter().map(|node| node.address().clone()).collect();
    let started = Instant::now();
    let parts = FetchParts { layers: None, with_head: false };
    node.fetch(id, parts, &from, &mut |_| true).expect("it is there");
    let took = started.elapsed().as_secs_f64();
    let rate = store.holding(id).expect("it is here").bytes as f64 / took;
    let verified = store.verify(id, 2, &|_| true).expect("it is here");
    assert!(verified.damage.is_empty(), "{:?}", verified.damage);
    rate
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|word| word.parse::<u64>().ok());
    let (mib, rounds) = (numbers.next().unwrap_or(1024), numbers.next().unwrap_or(5));
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(&folder.path().join("home")).expect("a store");
    let started = Instant::now();
    // A layer of these shapes has about 33 MiB.
    let id = package(&store, (mib / 33).max(1) as u32);
    let bytes = store.holding(id).expect("it is here").bytes;
    println!("{} MB, made in {:?}", bytes / 1_000_000, started.elapsed());
    println!("MB/s: link before, one peer, two peers, link after, share of the link");
    for _ in 0..rounds {
        let before = bare_link(bytes / LEAF_BYTES);
        let (a, b) = (start(1, &store), start(2, &store));
        let (one, two) = (fetched(id, &[&a]), fetched(id, &[&a, &b]));
        let after = bare_link(bytes / LEAF_BYTES);
        let link = (before + after) / 2.0;
        let [before, one_m, two_m, after] = [before, one, two, after].map(|rate| rate / 1e6);
        println!(
            "{before:.0} {one_m:.0} {two_m:.0} {after:.0} {:.2} {:.2}",
            one / link,
            two / link
        );
    }
}
