//! The tensors of a model and where they lie: placing the tensors of its files into the
//! architecture, then reading any rows of them.
//!
//! Invariant: every tensor in a [`TensorTable`] lies inside its file and has the shape that the
//! architecture gives its role.

use std::collections::BTreeMap;

use super::blocks::{CodeBlock, decode, decode_codes};
use super::{ElementType, Input, SourceError};
use crate::architecture::{Architecture, TensorRole};

/// Stored bytes held at a time while rows are converted.
const CHUNK_BYTES: usize = 1 << 20;

/// A tensor as its file has it.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorInfo {
    /// Its name in the file, or a description where the format has no names.
    pub name: String,
    /// Outputs of a linear map; 1 for norms and biases.
    pub rows: usize,
    /// Inputs of a linear map; contiguous in a row.
    pub columns: usize,
    /// Stored format.
    pub element: ElementType,
}

/// A tensor in a file, before its role is known.
#[derive(Debug)]
pub(super) struct FileTensor {
    pub(super) name: String,
    /// Slowest first.
    pub(super) shape: Vec<u64>,
    pub(super) element: ElementType,
    /// Index of its file.
    pub(super) input: usize,
    /// First byte of its elements.
    pub(super) offset: u64,
    /// First byte of its scales, for [`ElementType::Int8Groups`].
    pub(super) scales_offset: u64,
}

#[derive(Debug)]
struct Placed {
    info: TensorInfo,
    input: usize,
    offset: u64,
    scales_offset: u64,
}

/// Every tensor of an architecture, readable.
#[derive(Debug)]
pub(super) struct TensorTable {
    inputs: Vec<Input>,
    by_role: BTreeMap<TensorRole, Placed>,
    ignored: Vec<String>,
}

/// How a format names tensors.
pub(super) struct Naming<'a> {
    /// The name of a role.
    pub(super) name: &'a dyn Fn(TensorRole) -> String,
    /// Whether a tensor without a role changes nothing.
    pub(super) harmless: &'a dyn Fn(&str) -> bool,
}

impl TensorTable {
    /// Gives each role its tensor, and refuses missing, misshapen and unknown ones.
    ///
    /// - `inputs`: at least one
    /// - `tensors`: those of all files; their ranges were checked by the format's reader
    pub(super) fn place(
        architecture: &Architecture,
        naming: &Naming<'_>,
        inputs: Vec<Input>,
        mut tensors: BTreeMap<String, FileTensor>,
    ) -> Result<Self, SourceError> {
        let mut by_role = BTreeMap::new();
        for (role, shape) in architecture.tensors() {
            let name = (naming.name)(role);
            let Some(tensor) = tensors.remove(&name) else {
                return Err(SourceError::MissingTensor {
                    file: inputs[0].file().to_path_buf(),
                    tensor: name,
                });
            };
            let file = &inputs[tensor.input];
            by_role.insert(role, Placed::try_new(file, tensor, shape)?);
        }
        if let Some(unknown) = tensors.values().find(|t| !(naming.harmless)(&t.name)) {
            return Err(SourceError::UnknownTensor {
                file: inputs[unknown.input].file().to_path_buf(),
                tensor: unknown.name.clone(),
            });
        }
        Ok(Self { inputs, by_role, ignored: tensors.into_keys().collect() })
    }

    pub(super) fn info(&self, role: TensorRole) -> Option<&TensorInfo> {
        self.by_role.get(&role).map(|placed| &placed.info)
    }

    pub(super) fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// Converts rows from `first_row` on; `out` has room for a whole number of them.
    pub(super) fn read_rows(
        &self,
        role: TensorRole,
        first_row: usize,
        out: &mut [f32],
    ) -> Result<(), SourceError> {
        let placed = self.placed(role)?;
        let columns = placed.info.columns;
        placed.check_rows(role, first_row, out.len(), columns)?;
        let rows_per_chunk = (CHUNK_BYTES / placed.row_bytes()).max(1);
        for (index, chunk) in out.chunks_mut(rows_per_chunk * columns).enumerate() {
            let row = first_row + index * rows_per_chunk;
            let bytes = self.row_bytes(placed, row, chunk.len() / columns)?;
            decode(placed.info.element, &bytes, chunk);
            if let ElementType::Int8Groups { group } = placed.info.element {
                self.apply_group_scales(placed, group as usize, row, chunk)?;
            }
            if let Some(at) = chunk.iter().position(|value| !value.is_finite()) {
                return Err(self.not_finite(placed, row + at / columns, at % columns));
            }
        }
        Ok(())
    }

    /// Reads the stored codes of rows from `first_row` on, `columns / 32` blocks each.
    pub(super) fn read_codes(
        &self,
        role: TensorRole,
        first_row: usize,
        out: &mut [CodeBlock],
    ) -> Result<(), SourceError> {
        let placed = self.placed(role)?;
        if !placed.info.element.has_codes() {
            let rule = "codes are read from tensors that have them";
            return Err(SourceError::Request { role, rule });
        }
        let blocks_per_row = placed.info.columns / 32;
        placed.check_rows(role, first_row, out.len(), blocks_per_row)?;
        let rows_per_chunk = (CHUNK_BYTES / placed.row_bytes()).max(1);
        for (index, chunk) in out.chunks_mut(rows_per_chunk * blocks_per_row).enumerate() {
            let row = first_row + index * rows_per_chunk;
            let bytes = self.row_bytes(placed, row, chunk.len() / blocks_per_row)?;
            decode_codes(placed.info.element, &bytes, chunk);
            let bad = |block: &CodeBlock| !(block.scale.is_finite() && block.offset.is_finite());
            if let Some(at) = chunk.iter().position(bad) {
                let column = at % blocks_per_row * 32;
                return Err(self.not_finite(placed, row + at / blocks_per_row, column));
            }
        }
        Ok(())
    }

    fn placed(&self, role: TensorRole) -> Result<&Placed, SourceError> {
        let rule = "the architecture has this tensor";
        let placed = self.by_role.get(&role);
        placed.ok_or(SourceError::Request { role, rule })
    }

    /// The stored bytes of `rows` rows, without group scales.
    fn row_bytes(&self, placed: &Placed, row: usize, rows: usize) -> Result<Vec<u8>, SourceError> {
        let row_bytes = placed.row_bytes() as u64;
        let offset = placed.offset + row as u64 * row_bytes;
        self.inputs[placed.input].read(offset, rows as u64 * row_bytes)
    }

    /// Groups run over the whole tensor, so a chunk may start and end inside one.
    fn apply_group_scales(
        &self,
        placed: &Placed,
        group: usize,
        first_row: usize,
        out: &mut [f32],
    ) -> Result<(), SourceError> {
        let first = first_row * placed.info.columns;
        let (from, to) = (first / group, (first + out.len()).div_ceil(group));
        let input = &self.inputs[placed.input];
        let bytes = input.read(placed.scales_offset + from as u64 * 4, (to - from) as u64 * 4)?;
        let mut scales = vec![0.0; to - from];
        decode(ElementType::F32, &bytes, &mut scales);
        for (i, value) in out.iter_mut().enumerate() {
            *value *= scales[(first + i) / group - from];
        }
        Ok(())
    }

    fn not_finite(&self, placed: &Placed, row: usize, column: usize) -> SourceError {
        SourceError::NotFinite {
            file: self.inputs[placed.input].file().to_path_buf(),
            tensor: placed.info.name.clone(),
            row,
            column,
        }
    }
}

impl Placed {
    fn try_new(
        file: &Input,
        tensor: FileTensor,
        (rows, columns): (usize, usize),
    ) -> Result<Self, SourceError> {
        // A vector may be written as one row or without the row dimension.
        let got = match *tensor.shape.as_slice() {
            [columns] => Some((1, columns)),
            [rows, columns] => Some((rows, columns)),
            _ => None,
        };
        if got != Some((rows as u64, columns as u64)) {
            return Err(SourceError::Shape {
                file: file.file().to_path_buf(),
                tensor: tensor.name,
                got: tensor.shape,
                rows,
                columns,
            });
        }
        Ok(Self {
            info: TensorInfo { name: tensor.name, rows, columns, element: tensor.element },
            input: tensor.input,
            offset: tensor.offset,
            scales_offset: tensor.scales_offset,
        })
    }

    fn row_bytes(&self) -> usize {
        let (elements, bytes) = self.info.element.block();
        self.info.columns / elements * bytes
    }

    /// Checks that `len` items, `per_row` of them in a row, are rows of this tensor.
    fn check_rows(
        &self,
        role: TensorRole,
        first_row: usize,
        len: usize,
        per_row: usize,
    ) -> Result<(), SourceError> {
        let rows = len / per_row;
        let fits = first_row.checked_add(rows).is_some_and(|end| end <= self.info.rows);
        if fits && len.is_multiple_of(per_row) {
            return Ok(());
        }
        let rule = "the buffer holds whole rows, all of them in the tensor";
        Err(SourceError::Request { role, rule })
    }
}
