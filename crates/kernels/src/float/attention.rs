//! Causal attention over the documents of a sample, forward and backward. Spec 05 §4.4.
//!
//! A document sees itself only. The weights of a query are made again in the backward pass from two
//! numbers per query and head, so that nothing of size `[T, T]` is kept.
//!
//! The members of the team share out pairs of a document and a key/value head. Within a pair the
//! query heads come in ascending order and their queries in blocks, first to last; so the chains of
//! the key and value gradients run over ascending (head, query).
//!
//! Products leave out what no query sees, up to whole tiles; there the weights are 0. A term of
//! weight 0 changes nothing but the sign of a chain that is 0, so results of 0 are made +0.

use std::cell::RefCell;
use std::ops::Range;

use shoal_arith::reference::float;

use crate::gemm::{MatrixMut, MatrixRef, Packed, Part, Start, WHOLE_COLUMNS, multiply_packed};
use crate::per_isa::per_isa;
use crate::shared::SharedMut;
use crate::{Isa, Kernels};

/// Queries computed at a time: whole tiles of every instruction set, and few enough that their
/// scores stay in the second cache level.
const BLOCK: usize = 42;

thread_local! {
    /// Kept between operations.
    static SPACE: RefCell<Space> = RefCell::default();
}

/// What a member of the team works in.
#[derive(Debug, Default)]
struct Space {
    /// `[keys, K]` and `[K, keys]` of the key/value head.
    k: Packed,
    v: Packed,
    k_turned: Packed,
    v_turned: Packed,
    /// `[queries, K]` of a block.
    q: Packed,
    d_out: Packed,
    /// `[queries, stride]`
    p: Vec<f32>,
    dp: Vec<f32>,
    /// `[queries, K]`
    rows: Vec<f32>,
    /// `[keys, K]`
    dk: Vec<f32>,
    dv: Vec<f32>,
}

/// Heads and documents of a sample of `T` rows.
#[derive(Clone, Copy, Debug)]
pub struct AttentionShape<'a> {
    /// `H`
    pub heads: usize,
    /// `G`
    pub kv_heads: usize,
    /// `K`
    pub head_width: usize,
    /// A query sees this many last positions of its document.
    pub window: usize,
    /// Rows of each document, ascending, without overlap.
    pub documents: &'a [Range<usize>],
}

/// Inputs and outputs of the forward pass.
#[derive(Debug)]
pub struct AttentionForward<'a> {
    /// `[T, H*K]`, rotated
    pub q: &'a [f32],
    /// `[T, G*K]`, rotated
    pub k: &'a [f32],
    /// `[T, G*K]`
    pub v: &'a [f32],
    /// `[T, H*K]`, overwritten
    pub out: &'a mut [f32],
    /// `[T, H]` of (largest score, 1 / sum), overwritten
    pub softmax: &'a mut [(f32, f32)],
}

/// Inputs and outputs of the backward pass.
#[derive(Debug)]
pub struct AttentionBackward<'a> {
    /// As forward.
    pub q: &'a [f32],
    /// As forward.
    pub k: &'a [f32],
    /// As forward.
    pub v: &'a [f32],
    /// As the forward pass wrote them.
    pub softmax: &'a [(f32, f32)],
    /// `[T, H*K]`
    pub d_out: &'a [f32],
    /// `[T, H*K]`, overwritten
    pub dq: &'a mut [f32],
    /// `[T, G*K]`, overwritten
    pub dk: &'a mut [f32],
    /// `[T, G*K]`, overwritten
    pub dv: &'a mut [f32],
}

per_isa! {
    fn softmax_rows(scores: &mut [f32], rows: Rows, softmax: &mut [(f32, f32)])
        = softmax_rows_generic;
}
per_isa! {
    fn softmax_rows_again(scores: &mut [f32], rows: Rows, softmax: &[(f32, f32)])
        = softmax_rows_again_generic;
}
per_isa! {
    fn backward_rows(p: &[f32], dp: &mut [f32], rows: Rows) = backward_rows_generic;
}

/// Rows of a block: scores of `count` queries from `first` on, numbered within their document;
/// `stride` apart.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    count: usize,
    stride: usize,
    window: usize,
    scale: f32,
}

impl Rows {
    /// The keys that query `row` of the block sees.
    #[inline(always)]
    fn visible(self, row: usize) -> Range<usize> {
        let end = self.first + row + 1;
        end.saturating_sub(self.window)..end
    }

    /// The keys that one of these queries sees.
    fn seen_by(self, rows: Range<usize>) -> Range<usize> {
        self.visible(rows.start).start..self.first + rows.end
    }

    /// The queries of the block that see one of these keys.
    fn seeing(self, keys: Range<usize>) -> Range<usize> {
        let end = (keys.end - 1).saturating_add(self.window).saturating_sub(self.first);
        let end = end.min(self.count);
        keys.start.saturating_sub(self.first).min(end)..end
    }

    /// How many keys the queries of the block see.
    const fn keys(self) -> usize {
        self.first + self.count
    }

    /// Scales the scores a query sees.
    #[inline(always)]
    fn scale(self, scores: &mut [f32], seen: Range<usize>) {
        for score in &mut scores[seen] {
            *score *= self.scale;
        }
    }
}

#[inline(always)]
fn softmax_rows_generic(scores: &mut [f32], rows: Rows, softmax: &mut [(f32, f32)]) {
    let blocks = scores.chunks_exact_mut(rows.stride).zip(softmax);
    for (r, (scores, softmax)) in blocks.enumerate() {
        let seen = rows.visible(r);
        rows.scale(scores, seen.clone());
        let (before, rest) = scores.split_at_mut(seen.start);
        let (seen, after) = rest.split_at_mut(seen.len());
        *softmax = float::softmax(seen);
        before.fill(0.0);
        after.fill(0.0);
    }
}

#[inline(always)]
fn softmax_rows_again_generic(scores: &mut [f32], rows: Rows, softmax: &[(f32, f32)]) {
    let blocks = scores.chunks_exact_mut(rows.stride).zip(softmax);
    for (r, (scores, &(max, inverse))) in blocks.enumerate() {
        let seen = rows.visible(r);
        rows.scale(scores, seen.clone());
        let (before, rest) = scores.split_at_mut(seen.start);
        let (seen, after) = rest.split_at_mut(seen.len());
        float::softmax_again(seen, max, inverse);
        before.fill(0.0);
        after.fill(0.0);
    }
}

/// `dp` becomes the gradient of the scores before scaling.
#[inline(always)]
fn backward_rows_generic(p: &[f32], dp: &mut [f32], rows: Rows) {
    let blocks = p.chunks_exact(rows.stride).zip(dp.chunks_exact_mut(rows.stride));
    for (r, (p, dp)) in blocks.enumerate() {
        let seen = rows.visible(r);
        float::softmax_backward(&p[seen.clone()], &mut dp[seen.clone()]);
        rows.scale(dp, seen.clone());
        dp[..seen.start].fill(0.0);
        dp[seen.end..].fill(0.0);
    }
}

/// One key/value head of one document, with the query heads that use it.
struct Group<'a> {
    isa: Isa,
    shape: AttentionShape<'a>,
    document: Range<usize>,
    kv_head: usize,
}

impl Kernels {
    /// `out[t, h] = sum over j of softmax(q[t, h] k[j] / sqrt(K))[j] v[j]` within each document.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn attention_forward(&self, shape: AttentionShape<'_>, pass: AttentionForward<'_>) {
        let rows = shape.check(pass.q, pass.k, pass.v);
        assert!(pass.out.len() == pass.q.len(), "out has the shape of q");
        assert_eq!(pass.softmax.len(), rows * shape.heads, "two numbers per query and head");
        let (out, softmax) = (SharedMut::new(pass.out), SharedMut::new(pass.softmax));
        self.share_groups(shape, &|group, space| {
            space.k_turned.pack(group.isa, group.keys(pass.k).transposed());
            space.v.pack(group.isa, group.keys(pass.v));
            group.each_block(&mut |head, block, rows| {
                group.scores(
                    group.queries(pass.q, head, &block),
                    rows,
                    &space.k_turned,
                    &mut space.p,
                );
                let mut pairs = [(0.0, 0.0); BLOCK];
                let pairs = &mut pairs[..rows.count];
                softmax_rows(group.isa, &mut space.p, rows, pairs);
                // SAFETY: a head of a document belongs to one member.
                unsafe {
                    group.sums(&space.p, rows, &space.v, &mut space.rows);
                    group.store(&space.rows, &block, (head, shape.heads), out);
                    for (t, &mut pair) in block.zip(pairs) {
                        softmax.range(t * shape.heads + head, 1)[0] = pair;
                    }
                }
            });
        });
    }

    /// Backward of [`Self::attention_forward`].
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn attention_backward(&self, shape: AttentionShape<'_>, pass: AttentionBackward<'_>) {
        let rows = shape.check(pass.q, pass.k, pass.v);
        assert!(pass.d_out.len() == pass.q.len() && pass.dq.len() == pass.q.len(), "like q");
        assert!(pass.dk.len() == pass.k.len() && pass.dv.len() == pass.v.len(), "like k and v");
        assert_eq!(pass.softmax.len(), rows * shape.heads, "two numbers per query and head");
        let (dq, dk, dv) =
            (SharedMut::new(pass.dq), SharedMut::new(pass.dk), SharedMut::new(pass.dv));
        self.share_groups(shape, &|group, space| {
            let isa = group.isa;
            space.k_turned.pack(isa, group.keys(pass.k).transposed());
            space.v_turned.pack(isa, group.keys(pass.v).transposed());
            space.k.pack(isa, group.keys(pass.k));
            for sums in [&mut space.dk, &mut space.dv] {
                sums.clear();
                sums.resize(group.document.len() * shape.head_width, 0.0);
            }
            group.each_block(&mut |head, block, rows| {
                let q = group.queries(pass.q, head, &block);
                let d_out = group.queries(pass.d_out, head, &block);
                group.scores(q, rows, &space.k_turned, &mut space.p);
                let mut pairs = [(0.0, 0.0); BLOCK];
                for (pair, t) in pairs.iter_mut().zip(block.clone()) {
                    *pair = pass.softmax[t * shape.heads + head];
                }
                softmax_rows_again(isa, &mut space.p, rows, &pairs[..rows.count]);
                group.scores(d_out, rows, &space.v_turned, &mut space.dp);
                space.d_out.pack(isa, d_out);
                group.add_columns(&space.p, rows, &space.d_out, &mut space.dv);
                backward_rows(isa, &space.p, &mut space.dp, rows);
                space.q.pack(isa, q);
                group.add_columns(&space.dp, rows, &space.q, &mut space.dk);
                group.sums(&space.dp, rows, &space.k, &mut space.rows);
                // SAFETY: a head of a document belongs to one member.
                unsafe { group.store(&space.rows, &block, (head, shape.heads), dq) };
            });
            let head = (group.kv_head, shape.kv_heads);
            // SAFETY: as above, for the key/value head.
            unsafe {
                group.store(&space.dk, &group.document, head, dk);
                group.store(&space.dv, &group.document, head, dv);
            }
        });
    }

    fn share_groups(
        &self,
        shape: AttentionShape<'_>,
        job: &(dyn Fn(Group<'_>, &mut Space) + Sync),
    ) {
        let count = shape.documents.len() * shape.kv_heads;
        self.team().share(count, &|index| {
            let document = shape.documents[index / shape.kv_heads].clone();
            let kv_head = index % shape.kv_heads;
            if !document.is_empty() {
                let group = Group { isa: self.isa(), shape, document, kv_head };
                SPACE.with_borrow_mut(|space| job(group, space));
            }
        });
    }
}

impl AttentionShape<'_> {
    /// Checks the inputs and returns `T`.
    fn check(&self, q: &[f32], k: &[f32], v: &[f32]) -> usize {
        let (heads, kv_heads, width) = (self.heads, self.kv_heads, self.head_width);
        assert!(heads.is_multiple_of(kv_heads) && width > 0, "query heads share key heads evenly");
        let rows = k.len() / (kv_heads * width);
        assert!(k.len() == rows * kv_heads * width && v.len() == k.len(), "k and v fit");
        assert_eq!(q.len(), rows * heads * width, "q fits");
        let mut end = 0;
        for document in self.documents {
            assert!(document.start >= end && document.end <= rows, "documents do not overlap");
            end = document.end.max(end);
        }
        rows
    }
}

impl Group<'_> {
    /// Calls `job` with each query head and block of queries (as rows of the sample).
    fn each_block(&self, job: &mut dyn FnMut(usize, Range<usize>, Rows)) {
        let per_group = self.shape.heads / self.shape.kv_heads;
        let scale = 1.0 / (self.shape.head_width as f32).sqrt();
        for head in self.kv_head * per_group..(self.kv_head + 1) * per_group {
            for first in (0..self.document.len()).step_by(BLOCK) {
                let end = (first + BLOCK).min(self.document.len());
                let (count, stride) = (end - first, end.next_multiple_of(WHOLE_COLUMNS));
                let block = self.document.start + first..self.document.start + end;
                let window = self.shape.window;
                job(head, block, Rows { first, count, stride, window, scale });
            }
        }
    }

    /// Rows of one query head.
    fn queries<'b>(&self, x: &'b [f32], head: usize, block: &Range<usize>) -> MatrixRef<'b> {
        let (stride, width) = (self.shape.heads * self.shape.head_width, self.shape.head_width);
        MatrixRef::strided(&x[block.start * stride + head * width..], block.len(), width, stride)
    }

    /// The rows of this key/value head.
    fn keys<'b>(&self, x: &'b [f32]) -> MatrixRef<'b> {
        let (stride, width) = (self.shape.kv_heads * self.shape.head_width, self.shape.head_width);
        let at = self.document.start * stride + self.kv_head * width;
        MatrixRef::strided(&x[at..], self.document.len(), width, stride)
    }

    /// The products of each query with the keys that it sees; `keys`: `[K, keys]`.
    fn scores(&self, queries: MatrixRef<'_>, rows: Rows, keys: &Packed, out: &mut Vec<f32>) {
        out.resize(rows.count * rows.stride, 0.0);
        let out = MatrixMut::new(out, rows.count, rows.stride);
        let part = |group| Part { columns: rows.seen_by(group), depth: 0..self.shape.head_width };
        multiply_packed(self.isa, queries, keys, out, Start::Zero, part);
    }

    /// The sums over the keys that each query sees, with the weights of its row; `keys`: `[keys,
    /// K]`.
    fn sums(&self, weights: &[f32], rows: Rows, keys: &Packed, out: &mut Vec<f32>) {
        let width = self.shape.head_width;
        out.resize(rows.count * width, 0.0);
        let out = MatrixMut::new(out, rows.count, width);
        let weights = MatrixRef::strided(weights, rows.count, rows.keys(), rows.stride);
        let part = |group| Part { columns: 0..width, depth: rows.seen_by(group) };
        multiply_packed(self.isa, weights, keys, out, Start::Zero, part);
    }

    /// Continues the sums over the queries that see each key, with the weights of its column;
    /// `queries`: `[queries, K]`.
    fn add_columns(&self, weights: &[f32], rows: Rows, queries: &Packed, sums: &mut [f32]) {
        let width = self.shape.head_width;
        let sums = MatrixMut::new(sums, rows.keys(), width);
        let weights = MatrixRef::strided(weights, rows.count, rows.keys(), rows.stride);
        let part = |keys| Part { columns: 0..width, depth: rows.seeing(keys) };
        multiply_packed(self.isa, weights.transposed(), queries, sums, Start::Output, part);
    }

    /// Copies `[rows, K]` to their rows of one of `heads` heads.
    ///
    /// # Safety
    /// No other thread uses these rows of this head.
    unsafe fn store(
        &self,
        from: &[f32],
        rows: &Range<usize>,
        (head, heads): (usize, usize),
        out: SharedMut<'_, f32>,
    ) {
        let width = self.shape.head_width;
        for (t, from) in rows.clone().zip(from.chunks_exact(width)) {
            // SAFETY: the caller's promise.
            let out = unsafe { out.range((t * heads + head) * width, width) };
            for (out, &x) in out.iter_mut().zip(from) {
                // -0 becomes +0.
                *out = x + 0.0;
            }
        }
    }
}
