//! Writing the blobs of a package.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use shoal_arith::limits::{ARITHMETIC_VERSION, BLOCK, TILE_ROWS};
use shoal_arith::tile::{LinearShape, encode_row_group, encode_scales};
use shoal_arith::{WeightFormat, WeightRow};
use shoal_base::{Digest, SharedBytes};

use super::each::each;
use super::level::Leveled;
use super::quantize::{import_codes, quantize_row};
use super::tables::{encode, rope_tables};
use super::{
    BlobSink, BlobWriter, ImportError, ImportProgress, ImportedBlobs, MapReport, OnProgress,
    QuantizeError,
};
use crate::architecture::{Architecture, LinearPart, TensorRole};
use crate::package::{
    BlobEntry, BlobKind, BlobPlan, InputFormat, LeafHasher, LinearEntry, LinearSlot, Manifest,
    SectionKind, StoredFormat, merkle_root,
};
use crate::source::{CodeBlock, ElementType, WeightSource};

/// Row groups a thread converts at a time: bounds its memory and the steps of the progress bar.
const ROW_GROUPS_AT_ONCE: usize = 4;

/// What is the same for all blobs.
struct Import<'a> {
    source: &'a dyn WeightSource,
    architecture: &'a Architecture,
    weights: StoredFormat,
    threads: usize,
    progress: &'a OnProgress<'a>,
    weights_done: AtomicU64,
    weights_total: u64,
}

/// Writes every blob of a package of `source` to `sink`.
///
/// - `weights`: format of all linear maps; with [`StoredFormat::I4`], maps of 4-bit sources whose
///   codes have offsets get [`StoredFormat::I4Offset`], and the map that makes the logits gets
///   [`StoredFormat::I8`] unless the source has it in 4 bits
/// - `tokenizer`: bytes of the tokenizer blob
///
/// # Errors
/// The first error of source or sink; what was written is then of no use.
pub fn import_blobs(
    source: &dyn WeightSource,
    weights: StoredFormat,
    tokenizer: &[u8],
    threads: usize,
    sink: &dyn BlobSink,
    progress: &OnProgress<'_>,
) -> Result<ImportedBlobs, ImportError> {
    let architecture = source.architecture();
    let leveled = Leveled::measure(source, weights, threads, progress)?;
    let mut import = Import::new(&leveled, weights, threads, progress);
    import.weights_total += leveled.weights_read;
    import.weights_done = AtomicU64::new(leveled.weights_read);
    let mut report = Vec::new();
    let mut blobs = Vec::new();
    for kind in Manifest::kinds(architecture) {
        let entry = import.blob(kind, tokenizer, sink, &mut report)?;
        blobs.push(entry);
    }
    let score_scale = std::f64::consts::LOG2_E / f64::from(architecture.head_width).sqrt();
    let manifest = Manifest {
        format: "shoal-package".to_owned(),
        version: crate::package::PACKAGE_VERSION,
        arithmetic: ARITHMETIC_VERSION,
        architecture: architecture.clone(),
        score_scale_bits: (score_scale as f32).to_bits(),
        chat_template: source.chat_template().map(str::to_owned),
        blobs,
        proposers: Vec::new(),
        commitments: Vec::new(),
        template: None,
    };
    Ok(ImportedBlobs { manifest, report })
}

/// Bytes of all blobs that [`import_blobs`] will write; 2^64 - 1 for shapes that it refuses.
#[must_use]
pub fn planned_bytes(
    source: &dyn WeightSource,
    weights: StoredFormat,
    tokenizer_bytes: usize,
) -> u64 {
    let architecture = source.architecture();
    let import = Import::new(source, weights, 1, &|_| true);
    let blobs = Manifest::kinds(architecture).map(|kind| {
        let entry = import.entry(kind, tokenizer_bytes);
        BlobPlan::new(architecture, &entry).map_or(u64::MAX, |plan| plan.bytes as u64)
    });
    blobs.fold(0, u64::saturating_add)
}

impl<'a> Import<'a> {
    fn new(
        source: &'a dyn WeightSource,
        weights: StoredFormat,
        threads: usize,
        progress: &'a OnProgress<'a>,
    ) -> Self {
        let architecture = source.architecture();
        let threads = threads.max(1);
        let weights_total = architecture.tensors().map(|(_, (r, c))| (r * c) as u64).sum();
        let weights_done = AtomicU64::new(0);
        Self { source, architecture, weights, threads, progress, weights_done, weights_total }
    }

    /// The entry of a blob whose bytes are not written yet.
    fn entry(&self, kind: BlobKind, tokenizer_bytes: usize) -> BlobEntry {
        BlobEntry {
            kind,
            bytes: tokenizer_bytes as u64,
            blake3: Digest([0; 32]),
            tiles: Digest([0; 32]),
            linears: self.linears(kind),
        }
    }

    fn blob(
        &self,
        kind: BlobKind,
        tokenizer: &[u8],
        sink: &dyn BlobSink,
        report: &mut Vec<MapReport>,
    ) -> Result<BlobEntry, ImportError> {
        let tables = match kind {
            BlobKind::Tables => encode(&rope_tables(self.architecture)),
            _ => Vec::new(),
        };
        let mut entry = self.entry(kind, tokenizer.len());
        let plan = BlobPlan::new(self.architecture, &entry)
            .expect("the importer lists the maps of the architecture");
        entry.bytes = plan.bytes as u64;
        let sink_error = |error| ImportError::Sink { kind, error };
        let writer = sink.create(entry.bytes).map_err(sink_error)?;
        for section in &plan.sections {
            let at = section.range.start as u64;
            match &section.kind {
                SectionKind::Linear(linear, shape) => {
                    report.push(self.linear(kind, linear, *shape, at, &*writer)?);
                }
                SectionKind::Norm(part, len) => {
                    let role = TensorRole::Norm(layer(kind), *part);
                    self.elements(kind, role, *len, at, &*writer)?;
                }
                SectionKind::FinalNorm(len) => {
                    self.elements(kind, TensorRole::FinalNorm, *len, at, &*writer)?;
                }
                SectionKind::Bias(part, len) => {
                    let role = TensorRole::Bias(layer(kind), *part);
                    self.elements(kind, role, *len, at, &*writer)?;
                }
                SectionKind::Tables { .. } => writer.write_at(at, &tables).map_err(sink_error)?,
                SectionKind::Tokenizer => writer.write_at(at, tokenizer).map_err(sink_error)?,
            }
        }
        let bytes = writer.view().map_err(sink_error)?;
        let leaves = self.leaves(&plan, &bytes);
        entry.blake3 = Digest::of(&bytes);
        entry.tiles = merkle_root(&leaves);
        writer.keep(entry.blake3, &leaves).map_err(sink_error)?;
        Ok(entry)
    }

    /// The maps of a blob and their formats.
    fn linears(&self, kind: BlobKind) -> Vec<LinearEntry> {
        let maps: Vec<LinearSlot> = match kind {
            BlobKind::Tables | BlobKind::Tokenizer => Vec::new(),
            BlobKind::Embedding => vec![LinearSlot::Embedding],
            BlobKind::Head if self.architecture.tied_embeddings => Vec::new(),
            BlobKind::Head => vec![LinearSlot::OutputHead],
            BlobKind::Layer(_) => LinearPart::ALL.map(LinearSlot::Part).to_vec(),
        };
        maps.into_iter()
            .map(|map| LinearEntry {
                map,
                weights: self.stored_format(role(kind, map)),
                inputs: InputFormat::A8,
            })
            .collect()
    }

    /// 4-bit sources with offsets keep them. The map that makes the logits has 8 bits unless the
    /// source has fewer: 4 cost more perplexity there than in all layers together.
    fn stored_format(&self, role: TensorRole) -> StoredFormat {
        let Some(info) = self.source.tensor(role) else { return self.weights };
        match (self.weights, info.element) {
            (StoredFormat::I4, ElementType::Q4_1 | ElementType::Q4K) => StoredFormat::I4Offset,
            (StoredFormat::I4, element) if self.makes_logits(role) && !element.has_codes() => {
                StoredFormat::I8
            }
            (weights, _) => weights,
        }
    }

    fn makes_logits(&self, role: TensorRole) -> bool {
        match role {
            TensorRole::OutputHead => true,
            TensorRole::Embedding => self.architecture.tied_embeddings,
            _ => false,
        }
    }

    fn linear(
        &self,
        kind: BlobKind,
        entry: &LinearEntry,
        shape: LinearShape,
        at: u64,
        writer: &dyn BlobWriter,
    ) -> Result<MapReport, ImportError> {
        let role = role(kind, entry.map);
        let has_codes = self.source.tensor(role).is_some_and(|info| info.element.has_codes());
        let codes_kept = has_codes && shape.format != WeightFormat::I8;
        let error = Mutex::new(QuantizeError::default());
        each(self.threads, shape.row_groups().div_ceil(ROW_GROUPS_AT_ONCE), &|index| {
            let first = index * ROW_GROUPS_AT_ONCE;
            let groups = first..shape.row_groups().min(first + ROW_GROUPS_AT_ONCE);
            let part = Part { kind, entry, role, shape, at, codes_kept };
            let cost = self.row_groups(&part, groups, writer)?;
            lock(&error).add(cost);
            Ok(())
        })?;
        let error = error.into_inner().unwrap_or_else(|e| e.into_inner());
        let (map, weights) = (entry.map, entry.weights);
        Ok(MapReport { kind, map, weights, codes_kept, error })
    }

    fn row_groups(
        &self,
        part: &Part<'_>,
        groups: Range<usize>,
        writer: &dyn BlobWriter,
    ) -> Result<QuantizeError, ImportError> {
        let shape = part.shape;
        let first = groups.start * TILE_ROWS;
        let count = shape.rows.min(groups.end * TILE_ROWS) - first;
        let (rows, error) = match part.codes_kept {
            true => self.rows_of_codes(part, first, count)?,
            false => self.rows_of_floats(part, first, count)?,
        };
        let sink_error = |error| ImportError::Sink { kind: part.kind, error };
        let mut scales = vec![0; groups.len() * TILE_ROWS * 4];
        encode_scales(&rows, &mut scales);
        let scales_at = part.at + (first * 4) as u64;
        writer.write_at(scales_at, &scales).map_err(sink_error)?;
        let mut tiles = vec![0; groups.len() * shape.row_group_bytes()];
        for (rows, out) in rows.chunks(TILE_ROWS).zip(tiles.chunks_mut(shape.row_group_bytes())) {
            encode_row_group(shape, rows, out);
        }
        let tiles_at = part.at + shape.tile_at(groups.start, 0) as u64;
        writer.write_at(tiles_at, &tiles).map_err(sink_error)?;
        self.advance((count * shape.columns) as u64)?;
        Ok(error)
    }

    fn rows_of_floats(&self, part: &Part<'_>, first: usize, count: usize) -> Rows {
        let columns = part.shape.columns;
        let mut floats = vec![0.0; count * columns];
        self.source.read_rows(part.role, first, &mut floats)?;
        part.collect(first, floats.chunks_exact(columns), |row| {
            quantize_row(row, part.shape.format)
        })
    }

    fn rows_of_codes(&self, part: &Part<'_>, first: usize, count: usize) -> Rows {
        let columns = part.shape.columns;
        let per_row = columns.div_ceil(BLOCK);
        let mut blocks = vec![CodeBlock::ZERO; count * per_row];
        self.source.read_codes(part.role, first, &mut blocks)?;
        part.collect(first, blocks.chunks_exact(per_row), |row| {
            import_codes(row, columns, part.shape.format)
        })
    }

    fn elements(
        &self,
        kind: BlobKind,
        role: TensorRole,
        len: usize,
        at: u64,
        writer: &dyn BlobWriter,
    ) -> Result<(), ImportError> {
        let mut elements = vec![0.0_f32; len];
        self.source.read_rows(role, 0, &mut elements)?;
        let limit = crate::package::ELEMENT_LARGEST;
        if let Some(index) = elements.iter().position(|v| v.is_nan() || v.abs() > limit) {
            return Err(ImportError::Element { kind, index });
        }
        let bytes: Vec<u8> = elements.iter().flat_map(|v| v.to_le_bytes()).collect();
        writer.write_at(at, &bytes).map_err(|error| ImportError::Sink { kind, error })?;
        self.advance(len as u64)
    }

    /// Counts weights done and asks whether to go on.
    fn advance(&self, weights: u64) -> Result<(), ImportError> {
        let done = self.weights_done.fetch_add(weights, Ordering::Relaxed) + weights;
        let progress = ImportProgress { weights: done, weights_total: self.weights_total };
        if (self.progress)(progress) { Ok(()) } else { Err(ImportError::Stopped) }
    }

    /// Digests of all leaves, hashed by all threads.
    fn leaves(&self, plan: &BlobPlan, bytes: &SharedBytes) -> Vec<Digest> {
        let ranges: Vec<Range<usize>> = plan.leaves().map(|(_, range)| range).collect();
        let mut leaves = vec![Digest([0; 32]); ranges.len()];
        let share = ranges.len().div_ceil(self.threads).max(1);
        std::thread::scope(|scope| {
            for (ranges, leaves) in ranges.chunks(share).zip(leaves.chunks_mut(share)) {
                let bytes = &**bytes;
                scope.spawn(move || {
                    let hasher = LeafHasher::default();
                    for (leaf, range) in leaves.iter_mut().zip(ranges) {
                        *leaf = hasher.leaf(&bytes[range.clone()]);
                    }
                });
            }
        });
        leaves
    }
}

type Rows = Result<(Vec<WeightRow>, QuantizeError), ImportError>;

/// A linear map being converted.
struct Part<'a> {
    kind: BlobKind,
    entry: &'a LinearEntry,
    role: TensorRole,
    shape: LinearShape,
    /// Where its section begins in the blob.
    at: u64,
    codes_kept: bool,
}

impl Part<'_> {
    /// Converts rows one by one and adds up what it costs.
    fn collect<T>(
        &self,
        first: usize,
        rows: impl Iterator<Item = T>,
        convert: impl Fn(T) -> Result<(WeightRow, QuantizeError), super::ScaleOutOfRange>,
    ) -> Rows {
        let mut total = QuantizeError::default();
        let mut converted = Vec::new();
        for (i, row) in rows.enumerate() {
            let (row, error) = convert(row).map_err(|_| ImportError::Scale {
                kind: self.kind,
                slot: self.entry.map.name(),
                row: first + i,
            })?;
            total.add(error);
            converted.push(row);
        }
        Ok((converted, total))
    }
}

fn layer(kind: BlobKind) -> u32 {
    match kind {
        BlobKind::Layer(index) => index,
        _ => unreachable!("only layers have norms and biases by part"),
    }
}

fn role(kind: BlobKind, map: LinearSlot) -> TensorRole {
    match map {
        LinearSlot::Embedding => TensorRole::Embedding,
        LinearSlot::OutputHead => TensorRole::OutputHead,
        LinearSlot::Part(part) => TensorRole::Linear(layer(kind), part),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
