//! Writing GGUF version 3 as a stream: header first, then the rows of each tensor in order.

use std::io::{self, Write};

use super::super::half::f32_to_f16;
use super::super::{ElementType, limits};
use super::metadata::Kind;
use super::{ALIGNMENT_DEFAULT, MAGIC};

const VERSION: u32 = 3;
/// Type numbers of the two formats that are written.
const GGML_F32: u32 = 0;
const GGML_F16: u32 = 1;

/// Why a GGUF file was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufWriteError {
    /// The output refused.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A tensor of a format that is not written.
    #[error("tensor {tensor:?}: {element} is not written, only F32 and F16")]
    ElementType {
        /// The tensor.
        tensor: String,
        /// Its format.
        element: ElementType,
    },
    /// A name, key or shape that no reader would accept.
    #[error("{name:?}: {rule}")]
    Plan {
        /// The tensor or key.
        name: String,
        /// What must hold.
        rule: &'static str,
    },
    /// A value that its format cannot hold.
    #[error("tensor {tensor:?}: row {row}, column {column}: {value} does not fit {element}")]
    Range {
        /// The tensor.
        tensor: String,
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
        /// The value.
        value: f32,
        /// The format.
        element: ElementType,
    },
    /// Rows that do not belong to the tensor whose turn it is.
    #[error("tensor {tensor:?}: {got} elements given, {left} are left, rows have {columns}")]
    Rows {
        /// The tensor whose turn it is; empty after the last.
        tensor: String,
        /// Given.
        got: usize,
        /// Not yet written.
        left: usize,
        /// Elements of a row.
        columns: usize,
    },
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetadataValue {
    /// An unsigned integer.
    U32(u32),
    /// A float.
    F32(f32),
    /// A bool.
    Bool(bool),
    /// A text.
    Text(String),
    /// An array of texts, not necessarily UTF-8.
    Texts(Vec<Vec<u8>>),
    /// An array of signed integers.
    I32s(Vec<i32>),
    /// An array of floats.
    F32s(Vec<f32>),
    /// An array of bytes.
    U8s(Vec<u8>),
}

/// A tensor to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorPlan {
    /// Its name, at most 63 bytes.
    pub name: String,
    /// Rows; a vector has one and is written without the row dimension.
    pub rows: usize,
    /// Elements of a row.
    pub columns: usize,
    /// F32 or F16.
    pub element: ElementType,
}

/// Longest tensor name other readers accept.
const NAME_BYTES_MAX: usize = 63;

/// Writes one file. Give it the metadata and the plan, then every row, then finish.
#[derive(Debug)]
pub struct GgufWriter<W> {
    out: W,
    tensors: Vec<TensorPlan>,
    /// The tensor whose turn it is.
    current: usize,
    /// Its elements written so far.
    elements_done: usize,
}

impl<W: Write> GgufWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// A plan no reader would accept, or what the output says.
    pub fn try_new(
        mut out: W,
        metadata: &[(String, MetadataValue)],
        tensors: Vec<TensorPlan>,
    ) -> Result<Self, GgufWriteError> {
        check_plan(metadata, &tensors)?;
        let mut header = Vec::new();
        header.extend_from_slice(&MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        put_u64(&mut header, tensors.len() as u64);
        put_u64(&mut header, metadata.len() as u64);
        for (key, value) in metadata {
            put_bytes(&mut header, key.as_bytes());
            value.put(&mut header);
        }
        let mut offset = 0;
        for tensor in &tensors {
            put_bytes(&mut header, tensor.name.as_bytes());
            let vector = tensor.rows == 1;
            header.extend_from_slice(&(if vector { 1_u32 } else { 2 }).to_le_bytes());
            put_u64(&mut header, tensor.columns as u64);
            if !vector {
                put_u64(&mut header, tensor.rows as u64);
            }
            let (number, size) = number_and_size(tensor.element);
            header.extend_from_slice(&number.to_le_bytes());
            put_u64(&mut header, offset);
            let elements = tensor.rows as u64 * tensor.columns as u64;
            offset += (elements * size).next_multiple_of(u64::from(ALIGNMENT_DEFAULT));
        }
        header.resize(header.len().next_multiple_of(ALIGNMENT_DEFAULT as usize), 0);
        out.write_all(&header)?;
        Ok(Self { out, tensors, current: 0, elements_done: 0 })
    }

    /// Writes the next rows of the tensor whose turn it is, in the order of the plan.
    ///
    /// - `rows`: `[n, columns]`
    ///
    /// # Errors
    /// Rows that are not whole or not left, values that do not fit, or what the output says.
    pub fn write_rows(&mut self, rows: &[f32]) -> Result<(), GgufWriteError> {
        let Some(tensor) = self.tensors.get(self.current) else {
            return Err(self.misplaced(rows.len()));
        };
        let left = tensor.rows * tensor.columns - self.elements_done;
        if rows.len() > left || !rows.len().is_multiple_of(tensor.columns) {
            return Err(self.misplaced(rows.len()));
        }
        for row in rows.chunks(tensor.columns) {
            let bytes = encode(tensor.element, row).map_err(|column| GgufWriteError::Range {
                tensor: tensor.name.clone(),
                row: self.elements_done / tensor.columns,
                column,
                value: row[column],
                element: tensor.element,
            })?;
            self.out.write_all(&bytes)?;
            self.elements_done += row.len();
        }
        if rows.len() == left {
            let (_, size) = number_and_size(tensor.element);
            let bytes = self.elements_done as u64 * size;
            let alignment = u64::from(ALIGNMENT_DEFAULT);
            let padding = (bytes.next_multiple_of(alignment) - bytes) as usize;
            self.out.write_all(&[0; ALIGNMENT_DEFAULT as usize][..padding])?;
            self.current += 1;
            self.elements_done = 0;
        }
        Ok(())
    }

    /// Flushes and gives the output back.
    ///
    /// # Errors
    /// [`GgufWriteError::Rows`] when rows are missing, or what the output says.
    pub fn finish(mut self) -> Result<W, GgufWriteError> {
        if self.current != self.tensors.len() {
            return Err(self.misplaced(0));
        }
        self.out.flush()?;
        Ok(self.out)
    }

    fn misplaced(&self, got: usize) -> GgufWriteError {
        let (tensor, left, columns) = match self.tensors.get(self.current) {
            Some(tensor) => (
                tensor.name.clone(),
                tensor.rows * tensor.columns - self.elements_done,
                tensor.columns,
            ),
            None => (String::new(), 0, 0),
        };
        GgufWriteError::Rows { tensor, got, left, columns }
    }
}

fn check_plan(
    metadata: &[(String, MetadataValue)],
    tensors: &[TensorPlan],
) -> Result<(), GgufWriteError> {
    let refuse = |name: &str, rule| Err(GgufWriteError::Plan { name: name.to_owned(), rule });
    let mut keys = std::collections::HashSet::new();
    for (key, _) in metadata {
        if key.is_empty() || key.len() as u64 > limits::KEY_BYTES_MAX {
            return refuse(key, "a key has 1 to 65535 bytes");
        }
        if !keys.insert(key) {
            return refuse(key, "a key occurs once");
        }
    }
    let mut names = std::collections::HashSet::new();
    for tensor in tensors {
        if tensor.name.len() > NAME_BYTES_MAX {
            return refuse(&tensor.name, "a tensor name has at most 63 bytes");
        }
        if !names.insert(&tensor.name) {
            return refuse(&tensor.name, "a tensor name occurs once");
        }
        if tensor.rows == 0 || tensor.columns == 0 {
            return refuse(&tensor.name, "a tensor has rows and columns");
        }
        if !matches!(tensor.element, ElementType::F32 | ElementType::F16) {
            return Err(GgufWriteError::ElementType {
                tensor: tensor.name.clone(),
                element: tensor.element,
            });
        }
    }
    Ok(())
}

/// Type number and bytes per element of a format that passed the check of the plan.
fn number_and_size(element: ElementType) -> (u32, u64) {
    match element {
        ElementType::F16 => (GGML_F16, 2),
        _ => (GGML_F32, 4),
    }
}

/// The bytes of a row, or the column of a value that is not finite in its format.
fn encode(element: ElementType, row: &[f32]) -> Result<Vec<u8>, usize> {
    if element == ElementType::F32 {
        return match row.iter().position(|value| !value.is_finite()) {
            Some(column) => Err(column),
            None => Ok(row.iter().flat_map(|value| value.to_le_bytes()).collect()),
        };
    }
    let mut bytes = Vec::with_capacity(2 * row.len());
    for (column, &value) in row.iter().enumerate() {
        let bits = f32_to_f16(value);
        // All exponent bits set: not finite.
        if bits & 0x7c00 == 0x7c00 {
            return Err(column);
        }
        bytes.extend_from_slice(&bits.to_le_bytes());
    }
    Ok(bytes)
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_kind(out: &mut Vec<u8>, kind: Kind) {
    out.extend_from_slice(&(kind as u32).to_le_bytes());
}

impl MetadataValue {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::U32(value) => {
                put_kind(out, Kind::U32);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::F32(value) => {
                put_kind(out, Kind::F32);
                out.extend_from_slice(&value.to_le_bytes());
            }
            Self::Bool(value) => {
                put_kind(out, Kind::Bool);
                out.push(u8::from(*value));
            }
            Self::Text(text) => {
                put_kind(out, Kind::Text);
                put_bytes(out, text.as_bytes());
            }
            Self::Texts(texts) => put_array(out, Kind::Text, texts, |out, t| put_bytes(out, t)),
            Self::I32s(values) => put_array(out, Kind::I32, values, |out, v| {
                out.extend_from_slice(&v.to_le_bytes());
            }),
            Self::F32s(values) => put_array(out, Kind::F32, values, |out, v| {
                out.extend_from_slice(&v.to_le_bytes());
            }),
            Self::U8s(values) => put_array(out, Kind::U8, values, |out, v| out.push(*v)),
        }
    }
}

fn put_array<T>(out: &mut Vec<u8>, kind: Kind, values: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    put_kind(out, Kind::Array);
    put_kind(out, kind);
    put_u64(out, values.len() as u64);
    for value in values {
        put(out, value);
    }
}
