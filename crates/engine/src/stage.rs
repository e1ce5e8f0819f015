//! A range of layers: residual rows in, residual rows out. Spec 01 §8, §10.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shoal_arith::ActivationFormat;
use shoal_arith::reference::rope::Pairing;
use shoal_arith::tables::RopeTables;
use shoal_kernels::attention::{
    AttentionRow, HeadNorms, HeadsShape, KvPool, KvSlot, PageId, Projections, Queries, RopeRows,
    Span, TreePage,
};
use shoal_kernels::{Kernels, Linear, QuantizeNeeds, Quantized};
use shoal_model::package::{BlobKind, LinearSlot, Package};
use shoal_model::{Architecture, LinearPart, RopeLayout};

use crate::LoadError;
use crate::calibrate::Probe;
use crate::kv::{KvCache, KvError, SequenceId};
use crate::weights::{Layer, load_layers};

/// Rows of a sequence that share the pages they see; small, so that threads get equal parts.
const SPAN_ROWS: usize = 8;
/// Draft tokens of one tree: what fits a page.
pub(crate) const TREE_TOKENS_MAX: usize = 64;

/// Consecutive rows of a step that belong to one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The sequence.
    pub sequence: SequenceId,
    /// Position of the first row (of a tree: of its roots).
    pub position: usize,
    /// How the rows follow on one another.
    pub kind: SegmentKind,
}

/// How the rows of a segment follow on one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SegmentKind {
    /// One after the other. They become part of the sequence.
    Chain {
        /// How many.
        rows: usize,
    },
    /// Draft tokens: row `i` follows row `parents[i] < i`, or the sequence when `None`. They do not
    /// become part of the sequence until [`Stage::accept`].
    Tree {
        /// Parent of each row.
        parents: Vec<Option<u8>>,
    },
}

impl Segment {
    /// Rows of the segment.
    #[must_use]
    pub fn rows(&self) -> usize {
        match &self.kind {
            SegmentKind::Chain { rows } => *rows,
            SegmentKind::Tree { parents } => parents.len(),
        }
    }
}

/// The first layer in which each row met an unsound number.
pub type StepFaults = Vec<Option<u32>>;

/// A range of layers with the keys and values of the sequences that pass through it.
#[derive(Debug)]
pub struct Stage {
    kernels: Arc<Kernels>,
    architecture: Architecture,
    score_scale: f32,
    tables: RopeTables,
    first_layer: u32,
    layers: Vec<Layer>,
    cache: KvCache,
    scratch: Scratch,
    /// The tree computed last, per sequence.
    trees: Vec<Tree>,
}

/// Draft tokens of a sequence that wait for acceptance.
#[derive(Debug)]
struct Tree {
    sequence: SequenceId,
    page: PageId,
    base: usize,
}

/// Buffers of a step; they grow to the largest step and stay.
#[derive(Debug, Default)]
struct Scratch {
    h: Vec<f32>,
    x: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    quantized: Quantized,
    queries: Queries,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

/// What a step computes, row by row.
struct StepPlan {
    slots: Vec<KvSlot>,
    positions: Vec<usize>,
    rows: Vec<AttentionRow>,
    spans: Vec<SpanPlan>,
}

struct SpanPlan {
    rows: Range<usize>,
    sequence: SequenceId,
    /// Page and positions of the tree the rows belong to.
    tree: Option<(PageId, Vec<usize>)>,
}

impl Stage {
    /// Loads the layers of `range`, with room for `page_count` pages of keys and values.
    ///
    /// # Errors
    /// The package is damaged or does not have these layers.
    pub fn load(
        kernels: Arc<Kernels>,
        package: &Package,
        range: Range<u32>,
        page_count: usize,
    ) -> Result<Self, LoadError> {
        let architecture = package.manifest().architecture.clone();
        let first_layer = range.start;
        let layers = load_layers(&kernels, package, range)?;
        let cache = KvCache::new(heads_shape(&architecture), layers.len(), page_count);
        Ok(Self {
            kernels,
            score_scale: package.manifest().score_scale(),
            tables: package.tables()?,
            architecture,
            first_layer,
            layers,
            cache,
            scratch: Scratch::default(),
            trees: Vec::new(),
        })
    }

    /// Bytes of one page of a stage with `layer_count` layers of `architecture`.
    #[must_use]
    pub fn page_bytes(architecture: &Architecture, layer_count: usize) -> usize {
        KvPool::page_bytes(heads_shape(architecture), layer_count)
    }

    /// Bytes of weights read in every step.
    #[must_use]
    pub fn weight_bytes(&self) -> usize {
        self.layers.iter().map(Layer::bytes).sum()
    }

    /// Its pages.
    #[must_use]
    pub const fn cache(&self) -> &KvCache {
        &self.cache
    }

    /// Its pages, to begin, reserve and end sequences.
    pub const fn cache_mut(&mut self) -> &mut KvCache {
        &mut self.cache
    }

    /// Computes all layers on the rows of a step, `[T, D]` bf16, in place.
    ///
    /// Segments of one step belong to different sequences. A row that meets an unsound number is
    /// reported and does not change any other sequence.
    ///
    /// # Errors
    /// A position leaves a gap or has no room; nothing was computed then.
    ///
    /// # Panics
    /// When `rows` does not hold a row per position.
    pub fn forward(
        &mut self,
        segments: &[Segment],
        rows: &mut [u16],
    ) -> Result<StepFaults, KvError> {
        self.compute(segments, rows, 0..self.layers.len(), None)
    }

    /// The same for some of its layers, counted as those of the package. A sequence has to be
    /// computed by the same ones from its beginning.
    ///
    /// # Errors
    /// As for [`Stage::forward`].
    ///
    /// # Panics
    /// When `rows` does not hold a row per position, or a layer is not among those loaded.
    pub fn forward_part(
        &mut self,
        layers: Range<u32>,
        segments: &[Segment],
        rows: &mut [u16],
    ) -> Result<StepFaults, KvError> {
        let first = self.first_layer;
        let end = first + self.layers.len() as u32;
        assert!(layers.start >= first && layers.end <= end, "layers that are loaded");
        let part = (layers.start - first) as usize..(layers.end - first) as usize;
        self.compute(segments, rows, part, None)
    }

    /// The same, with every product shown to `probe`.
    pub(crate) fn forward_probed(
        &mut self,
        segments: &[Segment],
        rows: &mut [u16],
        probe: &Probe,
    ) -> Result<StepFaults, KvError> {
        self.compute(segments, rows, 0..self.layers.len(), Some(probe))
    }

    fn compute(
        &mut self,
        segments: &[Segment],
        rows: &mut [u16],
        part: Range<usize>,
        probe: Option<&Probe>,
    ) -> Result<StepFaults, KvError> {
        let plan = self.plan(segments)?;
        let count = plan.positions.len();
        let width = self.architecture.model_width as usize;
        assert_eq!(rows.len(), count * width, "a row per position");
        self.angles(&plan.positions);
        let flags: Vec<AtomicBool> = (0..count).map(|_| AtomicBool::new(false)).collect();
        let mut faults = vec![None; count];
        let Self { kernels, layers, cache, scratch, architecture, .. } = self;
        for (index, layer) in layers.iter().enumerate().take(part.end).skip(part.start) {
            let step = LayerStep {
                kernels,
                architecture,
                layer,
                next: layers.get(index + 1).filter(|_| index + 1 < part.end),
                index,
                score_scale: self.score_scale,
                plan: &plan,
                faults: &flags,
                probe: probe.map(|probe| (probe, BlobKind::Layer(self.first_layer + index as u32))),
            };
            step.run(cache, scratch, rows);
            for (fault, flag) in faults.iter_mut().zip(&flags) {
                if fault.is_none() && flag.load(Ordering::Relaxed) {
                    *fault = Some(self.first_layer + index as u32);
                }
            }
        }
        Ok(faults)
    }

    /// Makes the draft tokens on `path` (rows of the tree computed last for this sequence, root
    /// first) part of the sequence, and forgets the others.
    ///
    /// # Errors
    /// No tree waits, or there is no room.
    pub fn accept(&mut self, sequence: SequenceId, path: &[u8]) -> Result<(), KvError> {
        let index = self.trees.iter().position(|tree| tree.sequence == sequence);
        let tree = self.trees.swap_remove(index.ok_or(KvError::NoSequence)?);
        let mut copied = Ok(());
        for (i, &node) in path.iter().enumerate() {
            copied = self.cache.append(sequence, tree.base + i).map(|to| {
                let from = KvSlot { page: tree.page, slot: u32::from(node) };
                self.cache.pool.copy_slot(from, to);
            });
            if copied.is_err() {
                break;
            }
        }
        self.cache.give_page(tree.page);
        copied
    }

    fn plan(&mut self, segments: &[Segment]) -> Result<StepPlan, KvError> {
        let mut plan = StepPlan { slots: vec![], positions: vec![], rows: vec![], spans: vec![] };
        for segment in segments {
            match &segment.kind {
                SegmentKind::Chain { rows } => self.plan_chain(segment, *rows, &mut plan)?,
                SegmentKind::Tree { parents } => self.plan_tree(segment, parents, &mut plan)?,
            }
        }
        Ok(plan)
    }

    fn plan_chain(
        &mut self,
        segment: &Segment,
        rows: usize,
        plan: &mut StepPlan,
    ) -> Result<(), KvError> {
        let start = plan.rows.len();
        for position in segment.position..segment.position + rows {
            plan.slots.push(self.cache.append(segment.sequence, position)?);
            plan.positions.push(position);
            let first = self.first_seen(position);
            plan.rows.push(AttentionRow { first, end: position + 1, ancestors: 0 });
        }
        for first in (start..start + rows).step_by(SPAN_ROWS) {
            let rows = first..(start + rows).min(first + SPAN_ROWS);
            plan.spans.push(SpanPlan { rows, sequence: segment.sequence, tree: None });
        }
        Ok(())
    }

    fn plan_tree(
        &mut self,
        segment: &Segment,
        parents: &[Option<u8>],
        plan: &mut StepPlan,
    ) -> Result<(), KvError> {
        assert!(parents.len() <= TREE_TOKENS_MAX, "a tree fits a page");
        let base = segment.position;
        let len = self.cache.len(segment.sequence).ok_or(KvError::NoSequence)?;
        if base > len {
            return Err(KvError::Gap { got: base, len });
        }
        self.cache.truncate(segment.sequence, base)?;
        self.trees.retain(|tree| {
            let stale = tree.sequence == segment.sequence;
            if stale {
                self.cache.give_page(tree.page);
            }
            !stale
        });
        let page = self.cache.take_page()?;
        self.trees.push(Tree { sequence: segment.sequence, page, base });
        let start = plan.rows.len();
        let mut masks: Vec<u64> = Vec::new();
        let mut positions: Vec<usize> = Vec::new();
        for (slot, parent) in parents.iter().enumerate() {
            let parent = parent.map(usize::from).filter(|&parent| parent < slot);
            let (mask, position) =
                parent.map_or((0, base), |parent| (masks[parent], positions[parent] + 1));
            masks.push(mask | 1 << slot);
            positions.push(position);
            plan.slots.push(KvSlot { page, slot: slot as u32 });
            plan.positions.push(position);
            let first = self.first_seen(position);
            // A window may be shorter than the path: ancestors before it are not seen.
            let seen = (0..=slot)
                .filter(|&s| masks[slot] >> s & 1 == 1 && positions[s] >= first)
                .fold(0, |seen, s| seen | 1 << s);
            let row = AttentionRow { first: first.min(base), end: base, ancestors: seen };
            plan.rows.push(row);
        }
        let rows = start..plan.rows.len();
        let tree = Some((page, positions));
        plan.spans.push(SpanPlan { rows, sequence: segment.sequence, tree });
        Ok(())
    }

    /// The first position that a query at `position` sees.
    fn first_seen(&self, position: usize) -> usize {
        let window = self.architecture.sliding_window.map_or(usize::MAX, |w| w as usize);
        (position + 1).saturating_sub(window)
    }

    fn angles(&mut self, positions: &[usize]) {
        let pairs = self.tables.pairs;
        self.scratch.cos.resize(positions.len() * pairs, 0.0);
        self.scratch.sin.resize(positions.len() * pairs, 0.0);
        let rows =
            self.scratch.cos.chunks_exact_mut(pairs).zip(self.scratch.sin.chunks_exact_mut(pairs));
        for (&position, (cos, sin)) in positions.iter().zip(rows) {
            self.tables.angles(position, cos, sin);
        }
    }
}

/// What multiplies the same rows, in the order of a layer.
const ATTENTION_IN: [LinearPart; 3] = [LinearPart::Query, LinearPart::Key, LinearPart::Value];
const ATTENTION_OUT: [LinearPart; 1] = [LinearPart::AttentionOutput];
const MLP_IN: [LinearPart; 2] = [LinearPart::Gate, LinearPart::Up];
const MLP_OUT: [LinearPart; 1] = [LinearPart::Down];

/// One layer of one step.
struct LayerStep<'a> {
    kernels: &'a Kernels,
    architecture: &'a Architecture,
    layer: &'a Layer,
    /// The layer that follows in this step.
    next: Option<&'a Layer>,
    /// Of the stage.
    index: usize,
    score_scale: f32,
    plan: &'a StepPlan,
    faults: &'a [AtomicBool],
    /// Who looks on, and the name of the layer.
    probe: Option<(&'a Probe, BlobKind)>,
}

impl LayerStep<'_> {
    fn run(&self, cache: &mut KvCache, scratch: &mut Scratch, rows: &mut [u16]) {
        let epsilon = self.architecture.norm_epsilon;
        let Scratch { h, x, .. } = scratch;
        h.resize(rows.len(), 0.0);
        x.resize(rows.len(), 0.0);
        self.kernels.widen(rows, h);
        self.kernels.rms_norm(h, &self.layer.attention_norm, epsilon, x, self.faults);
        self.attention(cache, scratch);
        let Scratch { h, x, .. } = scratch;
        self.kernels.add(h, x);
        self.kernels.rms_norm(h, &self.layer.mlp_norm, epsilon, x, self.faults);
        self.mlp(scratch);
        self.kernels.add_to_bf16(&scratch.h, &scratch.x, rows);
    }

    /// From the normed rows in `x` to the attention output in `x`.
    fn attention(&self, cache: &mut KvCache, scratch: &mut Scratch) {
        let Scratch { x, query, key, value, quantized, queries, cos, sin, .. } = scratch;
        let next = self.layer.linears(&ATTENTION_OUT);
        self.multiply(&ATTENTION_IN, x, quantized, &mut [query, key, value], &next);
        let rope = RopeRows {
            cos,
            sin,
            pairs: self.architecture.rope.dims as usize / 2,
            pairing: match self.architecture.rope.layout {
                RopeLayout::Interleaved => Pairing::Interleaved,
                RopeLayout::Half => Pairing::Half,
            },
        };
        let epsilon = self.architecture.norm_epsilon;
        let norms = self.layer.head_norms.as_ref();
        let norms = norms.map(|(query, key)| HeadNorms { query, key, epsilon });
        self.kernels.prepare_heads(
            Projections { query, key, value },
            norms,
            rope,
            self.score_scale,
            &self.plan.slots,
            self.index,
            &mut cache.pool,
            queries,
            self.faults,
        );
        let spans: Vec<Span<'_>> = self
            .plan
            .spans
            .iter()
            .map(|span| Span {
                rows: span.rows.clone(),
                pages: cache.pages(span.sequence),
                tree: span
                    .tree
                    .as_ref()
                    .map(|(page, positions)| TreePage { page: *page, positions }),
            })
            .collect();
        self.kernels.attend(&cache.pool, self.index, queries, &self.plan.rows, &spans, query);
        let next = self.layer.linears(&MLP_IN);
        self.multiply(&ATTENTION_OUT, query, quantized, &mut [x], &next);
    }

    /// From the normed rows in `x` to the MLP output in `x`.
    fn mlp(&self, scratch: &mut Scratch) {
        let Scratch { x, gate, up, quantized, .. } = scratch;
        let next = self.layer.linears(&MLP_OUT);
        self.multiply(&MLP_IN, x, quantized, &mut [gate, up], &next);
        let width = self.architecture.mlp_width as usize;
        self.kernels.silu_mul(gate, up, width, self.faults);
        let next = self.next.map_or_else(Vec::new, |layer| layer.linears(&ATTENTION_IN));
        self.multiply(&MLP_OUT, gate, quantized, &mut [x], &next);
    }

    /// Multiplies the same rows with several maps; quantizes once per format of inputs. `next`: the
    /// maps that are multiplied next.
    fn multiply(
        &self,
        parts: &[LinearPart],
        x: &[f32],
        quantized: &mut Quantized,
        outputs: &mut [&mut Vec<f32>],
        next: &[&Linear],
    ) {
        let maps = || parts.iter().map(|&part| self.layer.map(part));
        if let Some((probe, kind)) = self.probe {
            for &part in parts {
                let slot = LinearSlot::Part(part);
                probe.compare(self.kernels, (kind, slot), self.layer.map(part), x);
            }
        }
        let rows = self.faults.len();
        for (map, out) in maps().zip(outputs.iter_mut()) {
            out.resize(rows * map.linear.shape().rows, 0.0);
        }
        for format in [ActivationFormat::A8, ActivationFormat::A12] {
            let with_format = || maps().filter(move |map| map.inputs == format);
            let Some(first) = with_format().next() else {
                continue;
            };
            let needs = with_format()
                .map(|map| map.needs(self.kernels))
                .fold(QuantizeNeeds::default(), QuantizeNeeds::and);
            let columns = first.linear.shape().columns;
            self.kernels.quantize(x, columns, format, needs, quantized, self.faults);
            let mut products: Vec<(&Linear, &mut [f32])> = maps()
                .zip(outputs.iter_mut())
                .filter(|(map, _)| map.inputs == format)
                .map(|(map, out)| (&map.linear, &mut out[..]))
                .collect();
            self.kernels.matmul_each(&mut products, quantized, next);
        }
    }
}

pub(crate) fn heads_shape(architecture: &Architecture) -> HeadsShape {
    HeadsShape {
        head_count: architecture.head_count as usize,
        kv_head_count: architecture.kv_head_count as usize,
        head_width: architecture.head_width as usize,
    }
}
