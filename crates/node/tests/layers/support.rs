//! Stores with a package, and nodes that have them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use shoal_base::PackageId;
use shoal_model::import::import_blobs;
use shoal_model::package::{BlobKind, InputFormat, Manifest, StoredFormat};
use shoal_node::{
    FetchParts, FetchProgress, LayerRange, Node, NodeConfig, NodeError, NodeId, PeerAddress,
};
use shoal_store::Store;
use shoal_testkit::{TinyModel, byte_tokenizer, tiny_architecture};

pub(crate) const LAYERS: u16 = 4;

pub(crate) fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// A folder with a store in it.
pub(crate) struct Home {
    folder: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("home")).expect("a store");
        Self { folder, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("home").join(name)
    }

    /// A store that has the whole package.
    pub(crate) fn full() -> Self {
        let home = Self::new();
        copy(original().0.path(), &home.path(""));
        home
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        let to = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &to),
            // What is read-only is replaced and not written to.
            false => {
                let _ = std::fs::remove_file(&to);
                std::fs::copy(&path, &to).map(drop).expect("it is copied");
            }
        }
    }
}

/// A package whose layers have several leaves, made once for all tests.
fn original() -> &'static (tempfile::TempDir, PackageId) {
    static ORIGINAL: OnceLock<(tempfile::TempDir, PackageId)> = OnceLock::new();
    ORIGINAL.get_or_init(|| {
        let mut architecture = tiny_architecture();
        architecture.model_width = 256;
        architecture.mlp_width = 4096;
        architecture.layer_count = LAYERS.into();
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path()).expect("a store");
        let import = store.begin_import(1 << 20).expect("there is room");
        let tokenizer = byte_tokenizer().to_bytes().expect("it is valid");
        let model = TinyModel::new(architecture, 1);
        let blobs = import_blobs(&model, StoredFormat::I8, &tokenizer, 2, &import, &|_| true);
        let manifest = blobs.expect("it imports").finish(|_, _| InputFormat::A8);
        let id = import.commit(&manifest, None).expect("it is kept").id;
        (folder, id)
    })
}

pub(crate) fn id() -> PackageId {
    original().1
}

pub(crate) fn manifest() -> Manifest {
    let store = Store::open(original().0.path()).expect("a store");
    store.package(id()).expect("it is there").manifest().clone()
}

/// Bytes of what [`parts`] names.
pub(crate) fn bytes_of(first: u16, end: u16) -> u64 {
    let manifest = manifest();
    let is_wanted = |kind: BlobKind| match kind {
        BlobKind::Tables => true,
        BlobKind::Layer(layer) => (u32::from(first)..end.into()).contains(&layer),
        _ => false,
    };
    manifest.blobs.iter().filter(|blob| is_wanted(blob.kind)).map(|blob| blob.bytes).sum()
}

pub(crate) fn node_id(seed: u8) -> NodeId {
    shoal_net::SecretKey::new(&[seed; 32]).id()
}

/// A node with a store, open to the nodes of these seeds.
pub(crate) fn node(seed: u8, home: &Home, heads: &[u8]) -> Node {
    node_with(seed, home, heads, None)
}

pub(crate) fn node_with(seed: u8, home: &Home, heads: &[u8], upload: Option<u64>) -> Node {
    let heads = heads.iter().map(|seed| node_id(*seed)).collect();
    let store = Some(home.store.clone());
    let config = NodeConfig::new([seed; 32], local());
    Node::start(NodeConfig { heads, store, upload_bytes_per_s: upload, ..config })
        .expect("it starts")
}

pub(crate) fn range(first: u16, end: u16) -> LayerRange {
    LayerRange::try_new(first, end).expect("a range")
}

pub(crate) fn parts(first: u16, end: u16) -> FetchParts {
    FetchParts { layers: Some(range(first, end)), with_head: false }
}

/// Fetches to the end; says what was last told.
pub(crate) fn fetch(
    node: &Node,
    parts: FetchParts,
    from: &[PeerAddress],
) -> (Result<(), NodeError>, FetchProgress) {
    let mut last = FetchProgress::default();
    let result = node.fetch(id(), parts, from, &mut |progress| {
        last = progress.clone();
        true
    });
    (result, last)
}

/// Every blob of the package that is here is right.
pub(crate) fn assert_sound(home: &Home) {
    let verified = home.store.verify(id(), 2, &|_| true).expect("the package is there");
    assert!(verified.damage.is_empty(), "{:?}", verified.damage);
}
