//! What is learned from: documents as tokens, their order, how they fill samples. Spec 05 §8.

mod lines;
mod messages;
mod plan;
mod shard;
pub mod text;

use shoal_base::Digest;
use shoal_model::package::{LeafHasher, merkle_path, merkle_root, root_of_path};

use crate::sample::Sample;

pub use lines::{LineError, Lines, read_lines, text_document};
pub use messages::MessagesError;
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
    merkle_root(&leaves(documents))
}

/// Proves that a document has its place in data with a known root. Spec 05 §8, 3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inclusion {
    /// The document's place, from 0.
    pub index: u64,
    /// Documents there are.
    pub count: u64,
    /// Digests beside the way up (spec 02 §6).
    pub path: Vec<Digest>,
}

impl Inclusion {
    /// Of document `index`; `None` when there is none.
    #[must_use]
    pub fn prove<'a>(
        documents: impl IntoIterator<Item = &'a Document>,
        index: usize,
    ) -> Option<Self> {
        let leaves = leaves(documents);
        let path = (index < leaves.len()).then(|| merkle_path(&leaves, index))?;
        Some(Self { index: index as u64, count: leaves.len() as u64, path })
    }

    /// Whether `document` is at this place of the data with this root.
    #[must_use]
    pub fn holds(&self, root: Digest, document: &Document) -> bool {
        let leaf = leaf(&LeafHasher::default(), document);
        root_of_path(leaf, self.index, self.count, &self.path) == Some(root)
    }
}

fn leaves<'a>(documents: impl IntoIterator<Item = &'a Document>) -> Vec<Digest> {
    let hasher = LeafHasher::default();
    documents.into_iter().map(|document| leaf(&hasher, document)).collect()
}

fn leaf(hasher: &LeafHasher, document: &Document) -> Digest {
    let mut bytes = Vec::new();
    shard::put_document(&mut bytes, document);
    hasher.leaf(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_proved_in_its_place() {
        let documents: Vec<Document> =
            (0..5).map(|i| Document { tokens: vec![1, i, 2], weights: Vec::new() }).collect();
        let root = data_root(&documents);
        for (index, document) in documents.iter().enumerate() {
            let proof = Inclusion::prove(&documents, index).expect("it is there");
            assert!(proof.holds(root, document));
            assert!(!proof.holds(root, &documents[(index + 1) % 5]), "another document");
            let weighted = Document { weights: vec![1.0; 3], ..document.clone() };
            assert!(!proof.holds(root, &weighted), "weights count");
            assert!(!proof.holds(data_root(&documents[..4]), document), "other data");
        }
        assert_eq!(Inclusion::prove(&documents, 5), None);
    }
}
