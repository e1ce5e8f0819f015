//! Attention, from projections to outputs. Spec 01 §6.1, §6.2, §7.

use serde::{Deserialize, Serialize};
use shoal_arith::reference::attention::{KeyValue, attend, quantize_head};
use shoal_arith::reference::norm::rms_norm;
use shoal_arith::reference::rope::rotate;
use shoal_arith::scalar::LOG2_E;

use crate::hex::Hex;
use crate::numbers::{Numbers, two};
use crate::rope::pairing;

/// A sequence of `prefix` positions, then a tree of tokens; one query and one key/value head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttentionCase {
    /// What is special about it.
    pub name: String,
    /// `K`
    pub head_width: usize,
    /// The package's.
    pub score_scale: Hex<f32>,
    /// Positions that a query sees, its own included.
    pub window: Option<usize>,
    /// Positions before the tree.
    pub prefix: usize,
    /// The token that each token of the tree follows; `None`: the last one before the tree. A
    /// chain is a tree in which each follows the one before.
    pub parents: Vec<Option<usize>>,
    /// Weights of the head norms of query and key, or empty.
    pub query_norm: Hex<f32>,
    /// As `query_norm`.
    pub key_norm: Hex<f32>,
    /// Of the head norms.
    pub epsilon: Hex<f32>,
    /// Which elements pair up.
    pub interleaved: bool,
    /// Rotated pairs.
    pub pairs: usize,
    /// Cosines: first the positions before the tree, then each token of it; `pairs` each.
    pub cos: Hex<f32>,
    /// Sines.
    pub sin: Hex<f32>,
    /// Queries of the tokens of the tree, `K` each, before norm and rotation.
    pub queries: Hex<f32>,
    /// Keys of all, in the order of the cosines.
    pub keys: Hex<f32>,
    /// Values of all.
    pub values: Hex<f32>,
    /// Outputs of the tokens of the tree; `None` where query, key or value of the token faults.
    pub outputs: Vec<Option<Hex<f32>>>,
}

impl AttentionCase {
    /// Position of a token of the tree.
    #[must_use]
    pub fn position(&self, node: usize) -> usize {
        self.parents[node].map_or(self.prefix, |parent| self.position(parent) + 1)
    }

    /// A token of the tree and its ancestors.
    #[must_use]
    pub fn path(&self, node: usize) -> Vec<usize> {
        let mut path = self.parents[node].map_or_else(Vec::new, |parent| self.path(parent));
        path.push(node);
        path
    }

    /// Places in `keys` that a token of the tree sees, with their positions.
    #[must_use]
    pub fn seen(&self, node: usize) -> Vec<(usize, usize)> {
        let window = self.window.unwrap_or(usize::MAX);
        let first = (self.position(node) + 1).saturating_sub(window);
        let before = (0..self.prefix).map(|position| (position, position));
        let tree = self.path(node).into_iter();
        let tree = tree.map(|node| (self.prefix + node, self.position(node)));
        before.chain(tree).filter(|&(_, position)| position >= first).collect()
    }

    fn head<'a>(&self, heads: &'a Hex<f32>, index: usize) -> &'a [f32] {
        &heads.0[index * self.head_width..(index + 1) * self.head_width]
    }

    /// Norm and rotation of the head of `place`.
    fn prepared(&self, head: &[f32], norm: &[f32], place: usize) -> Option<Vec<f32>> {
        let mut head = head.to_vec();
        if !norm.is_empty() {
            let mut normed = vec![0.0; head.len()];
            rms_norm(&head, norm, self.epsilon.0[0], &mut normed).ok()?;
            head = normed;
        }
        let angles = place * self.pairs..(place + 1) * self.pairs;
        let (cos, sin) = (&self.cos.0[angles.clone()], &self.sin.0[angles]);
        rotate(&mut head, cos, sin, pairing(self.interleaved));
        Some(head)
    }

    fn output(&self, node: usize) -> Option<Hex<f32>> {
        let query = self.head(&self.queries, node);
        let query = self.prepared(query, &self.query_norm.0, self.prefix + node)?;
        let query = quantize_head(&query).ok()?;
        let mut seen = Vec::new();
        for (place, position) in self.seen(node) {
            let key = self.prepared(self.head(&self.keys, place), &self.key_norm.0, place)?;
            seen.push(KeyValue {
                position,
                key: quantize_head(&key).ok()?,
                value: quantize_head(self.head(&self.values, place)).ok()?,
            });
        }
        Some(Hex(attend(&query, &seen, self.score_scale.0[0])))
    }

    fn solved(mut self) -> Self {
        self.outputs = (0..self.parents.len()).map(|node| self.output(node)).collect();
        self
    }
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<AttentionCase> {
    let chain = |count: usize| (0..count).map(|i: usize| i.checked_sub(1)).collect::<Vec<_>>();
    let tree = vec![None, Some(0), Some(0), Some(1), Some(1), Some(2), Some(3), Some(6), None];
    let mut zeros = make("values of zeros", 4, None, 2, chain(1), 0);
    zeros.values.0.fill(0.0);
    let mut near = make("scores far apart", 4, None, 70, chain(1), 0);
    near.queries.0.iter_mut().for_each(|x| *x *= 60.0);
    let mut sizes = make("values of every size", 4, None, 200, chain(1), 0);
    for (i, value) in sizes.values.0.chunks_exact_mut(4).enumerate() {
        value.iter_mut().for_each(|x| *x *= two((i / 64) as i32 * 20 - 60));
    }
    let mut fault = make("a fault", 4, None, 1, chain(2), 0);
    fault.queries.0[5] = two(40);
    let mut sound = make("largest of a head", 4, None, 1, chain(1), 0);
    sound.keys.0[1] = -two(40).next_down();
    let mut normed = make("head norms and rotation", 8, None, 66, chain(3), 4);
    normed.query_norm.0 = Numbers(60).floats(8, 2.0);
    normed.key_norm.0 = Numbers(61).floats(8, 2.0);
    let cases = vec![
        make("one position", 2, None, 0, chain(1), 0),
        make("a chain over a chunk's end", 8, None, 62, chain(4), 4),
        make("three chunks", 6, None, 150, chain(1), 2),
        make("a window", 4, Some(70), 130, chain(3), 1),
        make("a window of one", 4, Some(1), 5, chain(2), 1),
        make("a tree over a chunk's end", 8, None, 61, tree.clone(), 4),
        make("a tree in a window", 4, Some(4), 10, tree, 2),
        zeros,
        near,
        sizes,
        fault,
        sound,
        normed,
    ];
    cases.into_iter().map(AttentionCase::solved).collect()
}

fn make(
    name: &str,
    head_width: usize,
    window: Option<usize>,
    prefix: usize,
    parents: Vec<Option<usize>>,
    pairs: usize,
) -> AttentionCase {
    let mut numbers = Numbers((head_width * 1000 + prefix) as u64);
    let (nodes, places) = (parents.len(), prefix + parents.len());
    // Any numbers will do as angles.
    let (cos, sin) = (numbers.floats(places * pairs, 1.0), numbers.floats(places * pairs, 1.0));
    AttentionCase {
        name: name.to_owned(),
        head_width,
        score_scale: Hex(vec![LOG2_E / (head_width as f32).sqrt()]),
        window,
        prefix,
        parents,
        query_norm: Hex::default(),
        key_norm: Hex::default(),
        epsilon: Hex(vec![1e-5]),
        interleaved: head_width != 8,
        pairs,
        cos: Hex(cos),
        sin: Hex(sin),
        queries: Hex(numbers.floats(nodes * head_width, 2.0)),
        keys: Hex(numbers.floats(places * head_width, 2.0)),
        values: Hex(numbers.floats(places * head_width, 3.0)),
        outputs: Vec::new(),
    }
}
