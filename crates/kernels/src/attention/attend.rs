//! Scores, weights and outputs of the queries of one key/value head.

use std::cell::RefCell;
use std::ops::Range;

use shoal_arith::limits::{CHUNK, CHUNK_SUM_BITS, CHUNK_WEIGHT_BITS, DENOMINATOR_BITS};
use shoal_arith::scalar::power_of_two;

use super::pool::PageHead;
use super::product::{Product, product};
use super::{HeadsShape, KvPool, PageId, Queries, softmax};
use crate::Kernels;
use crate::shared::SharedMut;

/// What one row sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttentionRow {
    /// First position seen in the pages of the sequence.
    pub first: usize,
    /// One past the last position seen in the pages of the sequence.
    pub end: usize,
    /// Slots of the tree page that are seen: the row's own token and its ancestors.
    pub ancestors: u64,
}

/// The page that holds the draft tokens of a tree.
#[derive(Clone, Copy, Debug)]
pub struct TreePage<'a> {
    /// The page.
    pub page: PageId,
    /// Position of each slot in use.
    pub positions: &'a [usize],
}

/// Rows of one sequence.
#[derive(Clone, Debug)]
pub struct Span<'a> {
    /// Rows of the step, in `rows` of [`Kernels::attend`].
    pub rows: Range<usize>,
    /// Page of each chunk of the sequence.
    pub pages: &'a [PageId],
    /// Draft tokens, when the rows are those of a tree.
    pub tree: Option<TreePage<'a>>,
}

/// Queries handled at once; bounds the scratch memory.
const QUERIES_AT_ONCE: usize = 16;

/// Blocks of keys or values between the one that is read and the one that is asked for. With the
/// next one, whoever reads catches up with what was asked for and waits with hardly anything else
/// under way.
const BLOCKS_AHEAD: usize = 2;

thread_local! {
    /// Each member's scratch; grows to the longest sequence and stays.
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

impl Kernels {
    /// Attention outputs of all rows of a step, `out`: `[T, H * K]`.
    ///
    /// Every span and key/value head is one piece of work; spans of a few rows balance best.
    ///
    /// # Panics
    /// When a shape does not fit, or a row sees a position that was never written.
    pub fn attend(
        &self,
        pool: &KvPool,
        layer: usize,
        queries: &Queries,
        rows: &[AttentionRow],
        spans: &[Span<'_>],
        out: &mut [f32],
    ) {
        let shape = pool.shape();
        let width = shape.head_count * shape.head_width;
        assert_eq!(out.len(), rows.len() * width, "T rows");
        assert_eq!(queries.query.codes.len(), out.len(), "queries of T rows");
        let shared = SharedMut::new(out);
        self.team().share(spans.len() * shape.kv_head_count, &|index| {
            let span = &spans[index / shape.kv_head_count];
            let head = index % shape.kv_head_count;
            SCRATCH.with_borrow_mut(|scratch| {
                let rows_at_once = (QUERIES_AT_ONCE / shape.ratio()).max(1);
                for first in span.rows.clone().step_by(rows_at_once) {
                    let range = first..span.rows.end.min(first + rows_at_once);
                    let part = Part { shape, pool, layer, head, queries, rows, span, range };
                    part.attend(self, scratch, shared);
                }
            });
        });
    }
}

/// Some rows of a span and the query heads of one key/value head.
struct Part<'a> {
    shape: HeadsShape,
    pool: &'a KvPool,
    layer: usize,
    head: usize,
    queries: &'a Queries,
    rows: &'a [AttentionRow],
    span: &'a Span<'a>,
    range: Range<usize>,
}

struct Scratch {
    /// `[queries, keys]`: scores, then weights times value scales.
    scores: Vec<f32>,
    /// `[queries, keys]`: integer weights.
    weights: Vec<i16>,
    /// `[queries, chunks]`: exponent of each chunk's weights.
    exponents: Vec<Option<i32>>,
    /// `[queries, lanes]`
    sums: Vec<i32>,
    /// `[queries, padded K]`
    totals: Vec<f64>,
    /// `[queries, K]`
    codes: Vec<i16>,
    /// `[queries]`
    denominators: Vec<i64>,
}

impl Scratch {
    const fn new() -> Self {
        Self {
            scores: Vec::new(),
            weights: Vec::new(),
            exponents: Vec::new(),
            sums: Vec::new(),
            totals: Vec::new(),
            codes: Vec::new(),
            denominators: Vec::new(),
        }
    }
}

/// The chunks a part touches: those of the pages it sees, and those its tree's positions fall into.
struct Chunks {
    /// Chunks of the pages.
    pages: Range<usize>,
    /// All chunks.
    all: Range<usize>,
}

impl Part<'_> {
    fn attend(&self, kernels: &Kernels, scratch: &mut Scratch, out: SharedMut<'_, f32>) {
        let isa = kernels.isa();
        let chunks = self.chunks();
        let queries = self.range.len() * self.shape.ratio();
        let pages = chunks.pages.len() + usize::from(self.span.tree.is_some());
        let keys = pages * CHUNK;
        scratch.resize(queries, keys, chunks.all.len(), self.shape);
        self.gather_queries(&mut scratch.codes);
        for (index, page) in self.pages(&chunks).enumerate() {
            let next = self.block(&chunks, index + BLOCKS_AHEAD);
            self.score_page(isa, index, page, next, keys, scratch);
        }
        self.weigh(isa, &chunks, keys, scratch);
        let largest: Vec<Option<i32>> = (0..queries)
            .map(|q| scratch.query_exponents(q, chunks.all.len()).iter().copied().flatten().max())
            .collect();
        scratch.totals.fill(0.0);
        for chunk in chunks.all.clone() {
            self.add_chunk(isa, &chunks, chunk, keys, &largest, scratch);
        }
        for (q, &largest) in largest.iter().enumerate() {
            let (t, h) = self.place(q);
            let at = (t * self.shape.head_count + h) * self.shape.head_width;
            // SAFETY: this part is the only one with this row and head.
            let out = unsafe { out.range(at, self.shape.head_width) };
            let Some(exponent) = largest else {
                out.fill(0.0);
                continue;
            };
            let bits = DENOMINATOR_BITS - CHUNK_WEIGHT_BITS - CHUNK_SUM_BITS;
            let width = self.shape.padded_width();
            let total = &scratch.totals[q * width..q * width + out.len()];
            let denominator = scratch.denominators[q] as f32;
            softmax::finish(isa, total, denominator, power_of_two(exponent + bits), out);
        }
    }

    /// Row and query head of query `q` of this part.
    fn place(&self, q: usize) -> (usize, usize) {
        let ratio = self.shape.ratio();
        (self.range.start + q / ratio, self.head * ratio + q % ratio)
    }

    fn chunks(&self) -> Chunks {
        let rows = &self.rows[self.range.clone()];
        let seen = rows.iter().filter(|row| row.first < row.end);
        let first = seen.clone().map(|row| row.first / CHUNK).min();
        let end = seen.map(|row| row.end.div_ceil(CHUNK)).max();
        let pages = first.unwrap_or(0)..end.unwrap_or(0);
        let positions = self.span.tree.map_or(&[][..], |tree| tree.positions);
        let tree_chunks = positions.iter().map(|position| position / CHUNK);
        let all = match (tree_chunks.clone().min(), tree_chunks.max()) {
            (Some(low), Some(high)) if pages.is_empty() => low..high + 1,
            (Some(low), Some(high)) => pages.start.min(low)..pages.end.max(high + 1),
            _ => pages.clone(),
        };
        Chunks { pages, all }
    }

    /// The pages of this part: those of the sequence, then the tree's.
    fn pages(&self, chunks: &Chunks) -> impl Iterator<Item = PageHead<'_>> {
        let sequence = self.span.pages[chunks.pages.clone()].iter().copied();
        let tree = self.span.tree.map(|tree| tree.page);
        sequence.chain(tree).map(|page| self.pool.head(page, self.layer, self.head))
    }

    /// What is read as the `index`th: the keys of all pages, then the values of all chunks.
    fn block(&self, chunks: &Chunks, index: usize) -> &[i16] {
        let pages = &self.span.pages[chunks.pages.clone()];
        let tree = self.span.tree.map(|tree| tree.page);
        match index.checked_sub(pages.len() + usize::from(tree.is_some())) {
            None => {
                let page = pages.get(index).copied().or(tree);
                page.map_or(&[], |page| self.pool.head(page, self.layer, self.head).keys)
            }
            Some(chunk) => self.values(chunks, chunks.all.start + chunk),
        }
    }

    /// Values of a chunk of the sequence; empty when no page of this part holds it.
    fn values(&self, chunks: &Chunks, chunk: usize) -> &[i16] {
        match chunks.pages.contains(&chunk) {
            true => self.pool.head(self.span.pages[chunk], self.layer, self.head).values,
            false => &[],
        }
    }

    fn gather_queries(&self, codes: &mut [i16]) {
        let width = self.shape.head_width;
        for (q, codes) in codes.chunks_exact_mut(width).enumerate() {
            let (t, h) = self.place(q);
            let at = (t * self.shape.head_count + h) * width;
            codes.copy_from_slice(&self.queries.query.codes[at..at + width]);
        }
    }

    /// Scores of all queries with the 64 keys of page `index` of this part.
    fn score_page(
        &self,
        isa: crate::Isa,
        index: usize,
        page: PageHead<'_>,
        next: &[i16],
        keys: usize,
        scratch: &mut Scratch,
    ) {
        let queries = self.range.len() * self.shape.ratio();
        let task = Product {
            a: page.keys,
            next,
            lanes: CHUNK,
            pairs: self.shape.head_width / 2,
            x: &scratch.codes,
            x_stride: self.shape.head_width,
            rows: queries,
        };
        product::<false>(isa, task, &mut scratch.sums);
        for q in 0..queries {
            let (t, h) = self.place(q);
            let query_scale = self.queries.query.scales[t * self.shape.head_count + h];
            let scores = &mut scratch.scores[q * keys + index * CHUNK..][..CHUNK];
            let dots = &scratch.sums[q * CHUNK..][..CHUNK];
            softmax::scale_scores(isa, dots, page.key_scales, query_scale, scores);
        }
    }

    /// Scores to weights: masks, maxima, powers, denominators, the exponent of each chunk,
    /// integers.
    fn weigh(&self, isa: crate::Isa, chunks: &Chunks, keys: usize, scratch: &mut Scratch) {
        let queries = self.range.len() * self.shape.ratio();
        let value_scales: Vec<&[f32]> = self.pages(chunks).map(|page| page.value_scales).collect();
        for q in 0..queries {
            let scores = &mut scratch.scores[q * keys..(q + 1) * keys];
            self.mask(self.rows[self.place(q).0], chunks, scores);
            let top = softmax::largest(isa, scores);
            let mut denominator = 0;
            for (scores, scales) in scores.chunks_exact_mut(CHUNK).zip(&value_scales) {
                let scores: &mut [f32; CHUNK] = scores.try_into().expect("a chunk of scores");
                let scales: &[f32; CHUNK] = (*scales).try_into().expect("a chunk of scales");
                denominator += softmax::weigh(isa, scores, scales, top);
            }
            scratch.denominators[q] = denominator;
            let count = chunks.all.len();
            let exponents = &mut scratch.exponents[q * count..(q + 1) * count];
            let weights = &mut scratch.weights[q * keys..(q + 1) * keys];
            self.integers(isa, chunks, scores, exponents, weights);
        }
    }

    /// Minus infinity for what `row` does not see.
    fn mask(&self, row: AttentionRow, chunks: &Chunks, scores: &mut [f32]) {
        let start = chunks.pages.start * CHUNK;
        let (pages, tree) = scores.split_at_mut(chunks.pages.len() * CHUNK);
        let first = row.first.saturating_sub(start).min(pages.len());
        let end = row.end.saturating_sub(start).clamp(first, pages.len());
        pages[..first].fill(f32::NEG_INFINITY);
        pages[end..].fill(f32::NEG_INFINITY);
        for (slot, score) in tree.iter_mut().enumerate() {
            if row.ancestors >> slot & 1 == 0 {
                *score = f32::NEG_INFINITY;
            }
        }
    }

    /// Integer weights of one query, and the exponents of its chunks.
    fn integers(
        &self,
        isa: crate::Isa,
        chunks: &Chunks,
        u: &[f32],
        exponents: &mut [Option<i32>],
        weights: &mut [i16],
    ) {
        let positions = self.span.tree.map_or(&[][..], |tree| tree.positions);
        let (page_u, tree_u) = u.split_at(chunks.pages.len() * CHUNK);
        let (page_weights, tree_weights) = weights.split_at_mut(page_u.len());
        for (exponent, chunk) in exponents.iter_mut().zip(chunks.all.clone()) {
            let page =
                chunk.checked_sub(chunks.pages.start).filter(|_| chunks.pages.contains(&chunk));
            let places = page.map(|page| page * CHUNK..(page + 1) * CHUNK);
            let mut largest =
                places.clone().map_or(0.0, |places| softmax::largest(isa, &page_u[places]));
            let in_chunk = |slot: usize| positions[slot] / CHUNK == chunk;
            for slot in (0..positions.len()).filter(|&slot| in_chunk(slot)) {
                largest = largest.max(tree_u[slot]);
            }
            *exponent = softmax::exponent(largest);
            let Some(exponent) = *exponent else {
                continue;
            };
            if let Some(places) = places {
                let weights = &mut page_weights[places.clone()];
                softmax::to_integers(isa, &page_u[places], exponent, weights);
            }
            for slot in (0..positions.len()).filter(|&slot| in_chunk(slot)) {
                let slot = slot..slot + 1;
                softmax::to_integers(isa, &tree_u[slot.clone()], exponent, &mut tree_weights[slot]);
            }
        }
    }

    /// Adds the outputs of one chunk to the totals of all queries.
    fn add_chunk(
        &self,
        isa: crate::Isa,
        chunks: &Chunks,
        chunk: usize,
        keys: usize,
        largest: &[Option<i32>],
        scratch: &mut Scratch,
    ) {
        let width = self.shape.padded_width();
        let queries = largest.len();
        let task = |page: PageId, x| Product {
            a: self.pool.head(page, self.layer, self.head).values,
            next: self.values(chunks, chunk + BLOCKS_AHEAD),
            lanes: width,
            pairs: CHUNK / 2,
            x,
            x_stride: keys,
            rows: queries,
        };
        if chunks.pages.contains(&chunk) {
            let x = &scratch.weights[(chunk - chunks.pages.start) * CHUNK..];
            product::<false>(isa, task(self.span.pages[chunk], x), &mut scratch.sums);
        } else {
            scratch.sums[..queries * width].fill(0);
        }
        let in_chunk = |&position: &usize| position / CHUNK == chunk;
        if let Some(tree) = self.span.tree.filter(|tree| tree.positions.iter().any(in_chunk)) {
            let mut x = vec![0_i16; (queries - 1) * keys + CHUNK];
            let tree_at = chunks.pages.len() * CHUNK;
            for q in 0..queries {
                for (slot, _) in tree.positions.iter().enumerate().filter(|(_, p)| in_chunk(p)) {
                    x[q * keys + slot] = scratch.weights[q * keys + tree_at + slot];
                }
            }
            product::<true>(isa, task(tree.page, &x), &mut scratch.sums);
        }
        let index = chunk - chunks.all.start;
        for (q, largest) in largest.iter().enumerate() {
            let exponent = scratch.exponents[q * chunks.all.len() + index];
            if let (Some(exponent), Some(largest)) = (exponent, largest) {
                let sums = &scratch.sums[q * width..(q + 1) * width];
                let total = &mut scratch.totals[q * width..(q + 1) * width];
                softmax::add_chunk(isa, sums, CHUNK_SUM_BITS + exponent - largest, total);
            }
        }
    }
}

impl Scratch {
    fn resize(&mut self, queries: usize, keys: usize, chunks: usize, shape: HeadsShape) {
        let lanes = shape.padded_width().max(CHUNK);
        self.scores.resize(queries * keys, 0.0);
        self.weights.clear();
        self.weights.resize(queries * keys, 0);
        self.exponents.resize(queries * chunks, None);
        self.sums.resize(queries * lanes, 0);
        self.totals.resize(queries * shape.padded_width(), 0.0);
        self.codes.resize(queries * shape.head_width, 0);
        self.denominators.resize(queries, 0);
    }

    fn query_exponents(&self, q: usize, chunks: usize) -> &[Option<i32>] {
        &self.exponents[q * chunks..(q + 1) * chunks]
    }
}
