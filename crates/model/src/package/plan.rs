//! Where everything lies in a blob. Follows from the architecture and the formats alone. Spec 02
//! §5.

use std::ops::Range;

use shoal_arith::limits::COLUMNS_MAX;
use shoal_arith::tables::FINE_POSITIONS;
use shoal_arith::tile::{ALIGNMENT, LinearShape};

use super::PackageError;
use super::manifest::{BlobEntry, BlobKind, LinearEntry, LinearSlot, rule};
use crate::architecture::{Architecture, LinearPart, NormPart};

/// Longest leaf of what is not a tile.
const LEAF_BYTES: usize = 16 << 10;

/// A part of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it is.
    pub kind: SectionKind,
    /// Its bytes, filler to a multiple of 64 included.
    pub range: Range<usize>,
}

/// What a section holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// Row scales and tiles of a linear map.
    Linear(LinearEntry, LinearShape),
    /// f32 elements of a norm.
    Norm(NormPart, usize),
    /// f32 elements of the final norm.
    FinalNorm(usize),
    /// f32 elements of the bias of a linear map.
    Bias(LinearPart, usize),
    /// f64 cosine and sine pairs: coarse, then fine.
    Tables {
        /// Coarse positions.
        coarse: usize,
        /// Rotated pairs.
        pairs: usize,
    },
    /// The tokenizer's bytes.
    Tokenizer,
}

/// Sections of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobPlan {
    /// In order, without gaps.
    pub sections: Vec<Section>,
    /// Length of the blob.
    pub bytes: usize,
}

impl BlobPlan {
    /// The plan of the blob `entry`.
    ///
    /// # Errors
    /// Its list of linear maps is not the one the architecture has, or a map is too wide.
    pub fn new(architecture: &Architecture, entry: &BlobEntry) -> Result<Self, PackageError> {
        if !slots(architecture, entry.kind).eq(entry.linears.iter().map(|l| l.map)) {
            return Err(rule("each blob lists the linear maps its architecture has, in order"));
        }
        let mut plan = Self { sections: Vec::new(), bytes: 0 };
        let linears = entry.linears.iter();
        match entry.kind {
            BlobKind::Tables => {
                let coarse = (architecture.context_tokens as usize).div_ceil(FINE_POSITIONS);
                let pairs = architecture.rope.dims as usize / 2;
                plan.push(
                    SectionKind::Tables { coarse, pairs },
                    (coarse + FINE_POSITIONS) * pairs * 16,
                );
            }
            BlobKind::Tokenizer => {
                let bytes =
                    usize::try_from(entry.bytes).map_err(|_| rule("blobs fit in memory"))?;
                plan.sections.push(Section { kind: SectionKind::Tokenizer, range: 0..bytes });
                plan.bytes = bytes;
            }
            BlobKind::Embedding => plan.push_linears(architecture, linears)?,
            BlobKind::Head => {
                let width = architecture.model_width as usize;
                plan.push(SectionKind::FinalNorm(width), width * 4);
                plan.push_linears(architecture, linears)?;
            }
            BlobKind::Layer(_) => {
                plan.push_norms(architecture);
                plan.push_linears(architecture, linears)?;
            }
        }
        Ok(plan)
    }

    fn push(&mut self, kind: SectionKind, bytes: usize) {
        let end = (self.bytes + bytes).next_multiple_of(ALIGNMENT);
        self.sections.push(Section { kind, range: self.bytes..end });
        self.bytes = end;
    }

    fn push_norms(&mut self, architecture: &Architecture) {
        let (width, head) = (architecture.model_width as usize, architecture.head_width as usize);
        let mut norm = |part, len: usize| self.push(SectionKind::Norm(part, len), len * 4);
        norm(NormPart::Attention, width);
        if architecture.qk_norm {
            norm(NormPart::QueryHead, head);
            norm(NormPart::KeyHead, head);
        }
        norm(NormPart::Mlp, width);
    }

    fn push_linears<'a>(
        &mut self,
        architecture: &Architecture,
        linears: impl Iterator<Item = &'a LinearEntry>,
    ) -> Result<(), PackageError> {
        for &entry in linears {
            let (rows, columns) = linear_shape(architecture, entry.map);
            let shape = LinearShape { rows, columns, format: entry.weights.into() };
            if !shape.is_valid() || columns > COLUMNS_MAX {
                return Err(rule("a linear map has 1..=2^17 columns"));
            }
            self.push(SectionKind::Linear(entry, shape), shape.bytes());
            if let LinearSlot::Part(part) = entry.map
                && architecture.has_bias(part)
            {
                self.push(SectionKind::Bias(part, rows), rows * 4);
            }
        }
        Ok(())
    }

    /// The leaves of the Merkle tree: every tile, and everything else in pieces of at most 16 KiB.
    pub fn leaves(&self) -> impl Iterator<Item = (&Section, Range<usize>)> {
        self.sections.iter().flat_map(|section| {
            let ranges = section.leaves();
            ranges.into_iter().map(move |range| (section, range))
        })
    }
}

impl Section {
    fn leaves(&self) -> Vec<Range<usize>> {
        let SectionKind::Linear(_, shape) = self.kind else {
            return pieces(self.range.clone());
        };
        let start = self.range.start;
        let mut leaves = pieces(start..start + shape.scale_bytes());
        for g in 0..shape.row_groups() {
            for c in 0..shape.tile_columns() {
                let at = start + shape.tile_at(g, c);
                leaves.push(at..at + shape.tile(c).bytes);
            }
        }
        leaves
    }

    /// Its name in messages.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.kind {
            SectionKind::Linear(entry, _) => entry.map.name().to_owned(),
            SectionKind::Norm(part, _) => format!("{part:?} norm").to_lowercase(),
            SectionKind::FinalNorm(_) => "final norm".to_owned(),
            SectionKind::Bias(part, _) => format!("{} bias", LinearSlot::Part(*part).name()),
            SectionKind::Tables { .. } => "tables".to_owned(),
            SectionKind::Tokenizer => "tokenizer".to_owned(),
        }
    }
}

fn pieces(range: Range<usize>) -> Vec<Range<usize>> {
    range.clone().step_by(LEAF_BYTES).map(|at| at..range.end.min(at + LEAF_BYTES)).collect()
}

/// The linear maps a blob has, in storage order.
fn slots(architecture: &Architecture, kind: BlobKind) -> impl Iterator<Item = LinearSlot> + use<> {
    let slots = match kind {
        BlobKind::Tables | BlobKind::Tokenizer => Vec::new(),
        BlobKind::Embedding => vec![LinearSlot::Embedding],
        BlobKind::Head if architecture.tied_embeddings => Vec::new(),
        BlobKind::Head => vec![LinearSlot::OutputHead],
        BlobKind::Layer(_) => LinearPart::ALL.map(LinearSlot::Part).to_vec(),
    };
    slots.into_iter()
}

/// Rows and columns of a map.
fn linear_shape(architecture: &Architecture, slot: LinearSlot) -> (usize, usize) {
    match slot {
        LinearSlot::Embedding | LinearSlot::OutputHead => {
            (architecture.vocab_count as usize, architecture.model_width as usize)
        }
        LinearSlot::Part(part) => architecture.linear_shape(part),
    }
}
