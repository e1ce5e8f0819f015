//! Causal attention over the documents of a sample, forward and backward. Spec 05 §4.4.
//!
//! A document sees itself only. The weights of a query are made again in the backward pass from two
//! numbers per query and head, so that nothing of size `[T, T]` is kept.
//!
//! The members of the team share out pairs of a document and a key/value head. Within a pair the
//! query heads come in ascending order and their queries in blocks, first to last; so the chains of
//! the key and value gradients run over ascending (head, query).

use std::ops::Range;

use shoal_arith::reference::float;

use crate::gemm::{MatrixMut, MatrixRef, Start, multiply};
use crate::per_isa::per_isa;
use crate::shared::SharedMut;
use crate::{Isa, Kernels};

/// Queries computed at a time.
const BLOCK: usize = 64;

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

/// Rows of a block: `[block, columns]` scores of the queries from `first` on, numbered within their
/// document.
#[derive(Clone, Copy)]
struct Rows {
    first: usize,
    columns: usize,
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
    let blocks = scores.chunks_exact_mut(rows.columns).zip(softmax);
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
    let blocks = scores.chunks_exact_mut(rows.columns).zip(softmax);
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
    let blocks = p.chunks_exact(rows.columns).zip(dp.chunks_exact_mut(rows.columns));
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
        self.share_groups(shape, &|group| {
            let mut scores = vec![0.0; BLOCK * group.document.len()];
            let mut pairs = [(0.0, 0.0); BLOCK];
            group.each_block(&mut |head, block, rows| {
                let queries = block.len();
                let scores = &mut scores[..queries * rows.columns];
                group.scores(pass.q, pass.k, head, &block, scores);
                let pairs = &mut pairs[..queries];
                softmax_rows(group.isa, scores, rows, pairs);
                let p = MatrixRef::new(scores, queries, rows.columns);
                let v = group.keys(pass.v, rows.columns);
                // SAFETY: a head of a document belongs to one member.
                unsafe { group.multiply_into(p, v, out, shape.heads, head, &block) };
                for (t, &mut pair) in block.zip(pairs) {
                    // SAFETY: as above.
                    unsafe { softmax.range(t * shape.heads + head, 1)[0] = pair };
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
        self.share_groups(shape, &|group| {
            let (len, width) = (group.document.len(), shape.head_width);
            let mut p = vec![0.0; BLOCK * len];
            let mut dp = vec![0.0; BLOCK * len];
            let mut sums = vec![0.0; 2 * len * width];
            let (dk_sums, dv_sums) = sums.split_at_mut(len * width);
            group.each_block(&mut |head, block, rows| {
                let (queries, columns) = (block.len(), rows.columns);
                let (p, dp) = (&mut p[..queries * columns], &mut dp[..queries * columns]);
                group.scores(pass.q, pass.k, head, &block, p);
                let pair = |t: usize| pass.softmax[t * shape.heads + head];
                let pairs: Vec<_> = block.clone().map(pair).collect();
                softmax_rows_again(group.isa, p, rows, &pairs);
                let d_out = group.queries(pass.d_out, head, &block);
                let v = group.keys(pass.v, columns).transposed();
                let product = MatrixMut::new(dp, queries, columns);
                multiply(group.isa, None, d_out, v, product, Start::Zero);
                let p_columns = MatrixRef::new(p, queries, columns).transposed();
                let sums = MatrixMut::new(dv_sums, columns, width);
                multiply(group.isa, None, p_columns, d_out, sums, Start::Output);
                backward_rows(group.isa, p, dp, rows);
                let ds = MatrixRef::new(dp, queries, columns);
                let q = group.queries(pass.q, head, &block);
                let sums = MatrixMut::new(dk_sums, columns, width);
                multiply(group.isa, None, ds.transposed(), q, sums, Start::Output);
                let k = group.keys(pass.k, columns);
                // SAFETY: a head of a document belongs to one member.
                unsafe { group.multiply_into(ds, k, dq, shape.heads, head, &block) };
            });
            // SAFETY: as above, for the key/value head.
            unsafe {
                group.store(dk_sums, dk);
                group.store(dv_sums, dv);
            }
        });
    }

    fn share_groups(&self, shape: AttentionShape<'_>, job: &(dyn Fn(Group<'_>) + Sync)) {
        let count = shape.documents.len() * shape.kv_heads;
        self.team().share(count, &|index| {
            let document = shape.documents[index / shape.kv_heads].clone();
            let kv_head = index % shape.kv_heads;
            if !document.is_empty() {
                job(Group { isa: self.isa(), shape, document, kv_head });
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
                let columns = (first + BLOCK).min(self.document.len());
                let block = self.document.start + first..self.document.start + columns;
                job(head, block, Rows { first, columns, window: self.shape.window, scale });
            }
        }
    }

    /// Rows of one query head.
    fn queries<'b>(&self, x: &'b [f32], head: usize, block: &Range<usize>) -> MatrixRef<'b> {
        let (stride, width) = (self.shape.heads * self.shape.head_width, self.shape.head_width);
        MatrixRef::strided(&x[block.start * stride + head * width..], block.len(), width, stride)
    }

    /// The first `count` rows of this key/value head.
    fn keys<'b>(&self, x: &'b [f32], count: usize) -> MatrixRef<'b> {
        let (stride, width) = (self.shape.kv_heads * self.shape.head_width, self.shape.head_width);
        let at = self.document.start * stride + self.kv_head * width;
        MatrixRef::strided(&x[at..], count, width, stride)
    }

    fn scores(&self, q: &[f32], k: &[f32], head: usize, block: &Range<usize>, out: &mut [f32]) {
        let columns = out.len() / block.len();
        let (q, k) = (self.queries(q, head, block), self.keys(k, columns).transposed());
        let scores = MatrixMut::new(out, block.len(), columns);
        multiply(self.isa, None, q, k, scores, Start::Zero);
    }

    /// `out[block, head] = a b`.
    ///
    /// # Safety
    /// No other thread uses these rows of this head.
    unsafe fn multiply_into(
        &self,
        a: MatrixRef<'_>,
        b: MatrixRef<'_>,
        out: SharedMut<'_, f32>,
        heads: usize,
        head: usize,
        block: &Range<usize>,
    ) {
        let width = self.shape.head_width;
        let mut space = vec![0.0; block.len() * width];
        let product = MatrixMut::new(&mut space, block.len(), width);
        multiply(self.isa, None, a, b, product, Start::Zero);
        for (t, row) in block.clone().zip(space.chunks_exact(width)) {
            // SAFETY: the caller's promise.
            unsafe { out.range((t * heads + head) * width, width) }.copy_from_slice(row);
        }
    }

    /// Copies the sums of this key/value head to their rows.
    ///
    /// # Safety
    /// No other thread uses the rows of this head.
    unsafe fn store(&self, sums: &[f32], out: SharedMut<'_, f32>) {
        let width = self.shape.head_width;
        for (t, row) in self.document.clone().zip(sums.chunks_exact(width)) {
            let at = (t * self.shape.kv_heads + self.kv_head) * width;
            // SAFETY: the caller's promise.
            unsafe { out.range(at, width) }.copy_from_slice(row);
        }
    }
}
