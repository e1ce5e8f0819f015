//! What is learned from: documents as tokens, their order, how they fill samples. Spec 05 §8.

mod lines;
mod plan;
mod shard;
pub mod text;

use shoal_base::Digest;
use shoal_model::package::{LeafHasher, merkle_root};

use crate::sample::Sample;

pub use lines::{LineError, Lines, read_lines, text_document};
pub use plan::{EpochPlan, Piece};
pub use shard::{ShardError, decode_shard, encode_shard};

/// Tokens of one document and how much each counts as a target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Its tokens, beginning and end tokens included where wanted.
    pub tokens: Vec<u32>,
    /// Weight of each token as a target; empty when all count 1. The first is never a target.
    pub weights: Vec<f32>,
}

impl Document {
    /// Rows it fills: every token but the last is an input.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.tokens.len().saturating_sub(1)
    }
}

/// Puts pieces of documents one after another.
///
/// # Panics
/// When a piece is beyond its document.
#[must_use]
pub fn fill_sample(documents: &[Document], pieces: &[Piece]) -> Sample {
    let mut sample = Sample::default();
    for piece in pieces {
        let document = &documents[piece.document];
        let start = sample.tokens.len();
        let rows = piece.rows.clone();
        let targets = rows.start + 1..rows.end + 1;
        sample.tokens.extend_from_slice(&document.tokens[rows.clone()]);
        sample.targets.extend_from_slice(&document.tokens[targets.clone()]);
        match document.weights.is_empty() {
            true => sample.weights.extend(rows.map(|_| 1.0)),
            false => sample.weights.extend_from_slice(&document.weights[targets]),
        }
        sample.documents.push(start..sample.tokens.len());
    }
    sample
}

/// The root of a Merkle tree with one leaf for each document, so that a batch can be proved to come
/// from the data.
#[must_use]
pub fn data_root<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Digest {
    let hasher = LeafHasher::default();
    let leaf = |document: &Document| {
        let mut bytes = Vec::new();
        shard::put_document(&mut bytes, document);
        hasher.leaf(&bytes)
    };
    let leaves: Vec<Digest> = documents.into_iter().map(leaf).collect();
    merkle_root(&leaves)
}
