//! A whole package and its logits, computed in plain loops. Spec 01 §10, spec 02.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use shoal_arith::reference::attention::{KeyValue, attend, quantize_head};
use shoal_arith::reference::element::{add, add_to_bf16, embed, silu_mul, widen};
use shoal_arith::reference::matmul::output;
use shoal_arith::reference::norm::rms_norm;
use shoal_arith::reference::rope::rotate;
use shoal_arith::tables::RopeTables;
use shoal_arith::{Activation, Fault};
use shoal_model::import::import_blobs;
use shoal_model::package::{
    BlobKind, InputFormat, LayerWeights, LinearSlot, LinearWeights, Manifest, MemoryBlobs, Package,
    StoredFormat,
};
use shoal_model::{Architecture, LinearPart, RopeLayout};
use shoal_testkit::{TinyModel, byte_tokenizer, tiny_architecture};

use crate::files::root;
use crate::hex::Hex;
use crate::rope::pairing;

/// What a package must give.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expected {
    /// The package's id.
    pub id: String,
    /// A sequence.
    pub tokens: Vec<u32>,
    /// The logits after each of its tokens, `V` each.
    pub logits: Hex<f32>,
}

/// `vectors/package/v1/` of the repository.
#[must_use]
pub fn folder() -> PathBuf {
    root().join("vectors/package/v1")
}

/// The files of the package, by name: the manifest, each blob under its digest, what to expect.
///
/// # Panics
/// When the package cannot be made, which tests rule out.
#[must_use]
pub fn files() -> Vec<(String, Vec<u8>)> {
    let package = package();
    let manifest = package.manifest();
    let mut files = vec![("manifest.json".to_owned(), manifest.to_bytes())];
    for entry in &manifest.blobs {
        let bytes = package.bytes(entry.kind).expect("the blob is in memory");
        files.push((entry.blake3.to_string(), bytes.to_vec()));
    }
    let tokens = vec![256, 84, 104, 105, 115, 32, 105, 115, 10, 200, 0, 258];
    let logits = logits(&package, &tokens).expect("the model is sound");
    let expected = Expected { id: package.id().to_string(), tokens, logits: Hex(logits) };
    let text = serde_json::to_string(&expected).expect("it is plain JSON");
    files.push(("expected.json".to_owned(), (text + "\n").into_bytes()));
    files
}

/// A small model with most of what an architecture can have.
fn architecture() -> Architecture {
    let mut architecture = tiny_architecture();
    architecture.model_width = 40;
    architecture.head_count = 2;
    architecture.kv_head_count = 1;
    architecture.head_width = 20;
    architecture.mlp_width = 44;
    architecture.context_tokens = 256;
    architecture.rope.dims = 4;
    architecture.rope.layout = RopeLayout::Half;
    architecture.sliding_window = Some(6);
    architecture.tied_embeddings = false;
    architecture.qkv_bias = true;
    architecture.qk_norm = true;
    architecture
}

/// 4 bits; every other layer's inputs of `down` and the head's are a12.
fn package() -> Package {
    let model = TinyModel::new(architecture(), 7).with_template("{{ messages[0].content }}\n");
    let tokenizer = byte_tokenizer().to_bytes().expect("the specification is valid");
    let blobs = MemoryBlobs::default();
    let imported = import_blobs(&model, StoredFormat::I4, &tokenizer, 1, &blobs, &|_| true);
    let wide = |kind, map| match (kind, map) {
        (BlobKind::Layer(1), LinearSlot::Part(LinearPart::Down)) | (BlobKind::Head, _) => {
            InputFormat::A12
        }
        _ => InputFormat::A8,
    };
    let manifest: Manifest = imported.expect("the model imports").finish(wide);
    Package::open(&manifest.to_bytes(), Arc::new(blobs)).expect("the manifest is valid")
}

/// The logits after each of `tokens`, as spec 01 §10 says, position by position.
fn logits(package: &Package, tokens: &[u32]) -> Result<Vec<f32>, Fault> {
    let architecture = &package.manifest().architecture;
    let sound = "a package of this crate is sound";
    let embedding = package.embedding().expect(sound);
    let (final_norm, head) = package.head().expect(sound);
    let head = head.as_ref().unwrap_or(&embedding);
    let layers: Vec<LayerWeights> =
        (0..architecture.layer_count).map(|index| package.layer(index).expect(sound)).collect();
    let tables = package.tables().expect(sound);
    let mut cache = vec![Vec::new(); layers.len()];
    let mut logits = Vec::new();
    for (position, &token) in tokens.iter().enumerate() {
        let mut row = vec![0; architecture.model_width as usize];
        embed(&embedding.row(token as usize), &mut row);
        for (weights, kept) in layers.iter().zip(&mut cache) {
            let layer = Layer { package, architecture, weights, tables: &tables };
            layer.run(&mut row, position, kept)?;
        }
        let mut h = vec![0.0; row.len()];
        widen(&row, &mut h);
        let state = norm(&h, &final_norm, architecture.norm_epsilon)?;
        logits.extend(multiply(head, &state)?);
    }
    Ok(logits)
}

/// Keys and values of one position, one per key/value head.
type Kept = Vec<Vec<KeyValue>>;

struct Layer<'a> {
    package: &'a Package,
    architecture: &'a Architecture,
    weights: &'a LayerWeights,
    tables: &'a RopeTables,
}

impl Layer<'_> {
    fn run(&self, row: &mut [u16], position: usize, kept: &mut Kept) -> Result<(), Fault> {
        let epsilon = self.architecture.norm_epsilon;
        let mut h = vec![0.0; row.len()];
        widen(row, &mut h);
        let x = norm(&h, &self.weights.attention_norm, epsilon)?;
        let x = self.attention(&x, position, kept)?;
        add(&mut h, &self.map(LinearPart::AttentionOutput, &x)?);
        let x = norm(&h, &self.weights.mlp_norm, epsilon)?;
        let (gate, up) = (self.map(LinearPart::Gate, &x)?, self.map(LinearPart::Up, &x)?);
        let mut gated = vec![0.0; gate.len()];
        silu_mul(&gate, &up, &mut gated)?;
        add_to_bf16(&h, &self.map(LinearPart::Down, &gated)?, row);
        Ok(())
    }

    fn attention(&self, x: &[f32], position: usize, kept: &mut Kept) -> Result<Vec<f32>, Fault> {
        let width = self.architecture.head_width as usize;
        let norms = self.weights.head_norms.as_ref();
        let queries = self.map(LinearPart::Query, x)?;
        let keys = self.map(LinearPart::Key, x)?;
        let values = self.map(LinearPart::Value, x)?;
        let mut heads = Vec::new();
        for (key, value) in keys.chunks_exact(width).zip(values.chunks_exact(width)) {
            let key = self.prepared(key, norms.map(|norms| &norms.1[..]), position)?;
            let (key, value) = (quantize_head(&key)?, quantize_head(value)?);
            heads.push(KeyValue { position, key, value });
        }
        kept.push(heads);
        let window = self.architecture.sliding_window.map_or(usize::MAX, |w| w as usize);
        let first = (position + 1).saturating_sub(window);
        let ratio = (self.architecture.head_count / self.architecture.kv_head_count) as usize;
        let mut out = Vec::new();
        for (h, query) in queries.chunks_exact(width).enumerate() {
            let query = self.prepared(query, norms.map(|norms| &norms.0[..]), position)?;
            let seen: Vec<KeyValue> =
                kept[first..].iter().map(|heads| heads[h / ratio].clone()).collect();
            let scale = self.package.manifest().score_scale();
            out.extend(attend(&quantize_head(&query)?, &seen, scale));
        }
        Ok(out)
    }

    /// Head norm and rotation.
    fn prepared(
        &self,
        head: &[f32],
        weight: Option<&[f32]>,
        position: usize,
    ) -> Result<Vec<f32>, Fault> {
        let mut head = match weight {
            Some(weight) => norm(head, weight, self.architecture.norm_epsilon)?,
            None => head.to_vec(),
        };
        let pairs = self.tables.pairs;
        let (mut cos, mut sin) = (vec![0.0; pairs], vec![0.0; pairs]);
        self.tables.angles(position, &mut cos, &mut sin);
        let interleaved = self.architecture.rope.layout == RopeLayout::Interleaved;
        rotate(&mut head, &cos, &sin, pairing(interleaved));
        Ok(head)
    }

    fn map(&self, part: LinearPart, x: &[f32]) -> Result<Vec<f32>, Fault> {
        multiply(self.weights.linear(part), x)
    }
}

fn norm(x: &[f32], weight: &[f32], epsilon: f32) -> Result<Vec<f32>, Fault> {
    let mut y = vec![0.0; x.len()];
    rms_norm(x, weight, epsilon, &mut y)?;
    Ok(y)
}

fn multiply(map: &LinearWeights, x: &[f32]) -> Result<Vec<f32>, Fault> {
    let x = Activation::quantize(x, map.inputs)?;
    let bias = |row: usize| map.bias.as_ref().map(|bias| bias[row]);
    Ok((0..map.shape.rows).map(|row| output(&map.row(row), &x, bias(row))).collect())
}
