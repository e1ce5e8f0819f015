//! A range of layers: residual rows in, residual rows out. Spec 01 §8, §10.

mod layer;
mod plan;

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shoal_arith::tables::RopeTables;
use shoal_kernels::attention::{HeadsShape, KvPool, KvSlot, PageId, Queries};
use shoal_kernels::{Kernels, Quantized};
use shoal_model::Architecture;
use shoal_model::package::{BlobKind, Package};

use self::layer::LayerStep;
use crate::LoadError;
use crate::calibrate::Probe;
use crate::kv::{KvCache, KvError, SequenceId};
use crate::weights::{Layer, load_layers};

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
}

pub(crate) fn heads_shape(architecture: &Architecture) -> HeadsShape {
    HeadsShape {
        head_count: architecture.head_count as usize,
        kv_head_count: architecture.kv_head_count as usize,
        head_width: architecture.head_width as usize,
    }
}
