//! The committed package gives the committed logits on every instruction set. Spec 01 §10.

use std::sync::Arc;

use shoal_base::{Digest, SharedBytes, TokenId};
use shoal_engine::{Head, Segment, SegmentKind, SequenceId, Stage};
use shoal_kernels::{Isa, Kernels};
use shoal_model::package::{BlobSource, Package};
use shoal_testkit::skip;
use shoal_vectors::hex::bits;
use shoal_vectors::package::{Expected, folder};

/// The blobs of the folder.
struct Committed;

impl BlobSource for Committed {
    fn blob(&self, digest: Digest) -> std::io::Result<SharedBytes> {
        std::fs::read(folder().join(digest.to_string())).map(|bytes| SharedBytes::aligned(&bytes))
    }
}

fn read(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).expect("the package is committed")
}

/// Logits of the whole sequence, `rows` positions at a time.
fn logits(package: &Package, isa: Isa, tokens: &[TokenId], rows: usize) -> Vec<f32> {
    let kernels = Arc::new(Kernels::new(isa, 2).expect("it is available"));
    let layers = package.manifest().architecture.layer_count;
    let mut stage = Stage::load(Arc::clone(&kernels), package, 0..layers, 4).expect("it loads");
    let mut head = Head::load(kernels, package).expect("it loads");
    let sequence = SequenceId(1);
    stage.cache_mut().begin(sequence, &[]);
    stage.cache_mut().reserve(sequence, tokens.len()).expect("room");
    let mut all = Vec::new();
    for (step, tokens) in tokens.chunks(rows).enumerate() {
        let mut states = head.embed(tokens);
        let kind = SegmentKind::Chain { rows: tokens.len() };
        let segment = Segment { sequence, position: step * rows, kind };
        let faults = stage.forward(&[segment], &mut states).expect("room");
        assert!(faults.iter().all(Option::is_none));
        let mut logits = Vec::new();
        assert!(head.logits(&states, &mut logits).iter().all(|unsound| !unsound));
        all.extend(logits);
    }
    all
}

#[test]
fn the_committed_package_gives_the_committed_logits() {
    let expected: Expected = serde_json::from_slice(&read("expected.json")).expect("it is JSON");
    let manifest = read("manifest.json");
    let package = Package::open(&manifest, Arc::new(Committed)).expect("the manifest is valid");
    let tokens: Vec<TokenId> = expected.tokens.iter().copied().map(TokenId).collect();
    for isa in Isa::ALL {
        if !isa.is_available() {
            skip(&format!("no {isa} on this machine"));
            continue;
        }
        for rows in [1, 5, 12] {
            let got = logits(&package, isa, &tokens, rows);
            assert!(bits(&got) == bits(&expected.logits.0), "{isa}, {rows} rows at a time");
        }
    }
}
