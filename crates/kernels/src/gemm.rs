//! Matrix products in f32, each element one chain of fused multiply-adds. Spec 05 §2.1.
//!
//! - a: `[M, K]`, b: `[K, N]`, any strides; c: `[M, N]`, rows contiguous
//!
//! The depth is cut into blocks; the sums of a tile leave the registers between two blocks and come
//! back unchanged, so the chain of an element is the same whatever the blocks, the tiles and the
//! number of threads. Both inputs are packed into panels first, which makes all layouts alike.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod pack;
mod packed;
mod portable;
mod product;
mod tile;

use crate::shared::SharedMut;
use crate::{Isa, Kernels, Team};

pub(crate) use packed::{Packed, Part, WHOLE_COLUMNS, multiply_packed};

/// Multiply-adds below which a product is not worth waking the team.
const SERIAL_WORK: usize = 1 << 17;
/// Rows and columns computed before the next are packed: bounds the panels.
const OUTPUT_BLOCK: usize = 4096;

/// A matrix to read: element (i, j) is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct MatrixRef<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

/// A matrix to write, rows contiguous.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    stride: usize,
}

/// Where the chains of a product begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At zero.
    Zero,
    /// At what the output holds.
    Output,
}

fn check(len: usize, rows: usize, columns: usize, stride: usize) {
    assert!(columns <= stride || rows <= 1, "rows do not overlap");
    let needed = if rows == 0 || columns == 0 { 0 } else { (rows - 1) * stride + columns };
    assert!(needed <= len, "the matrix lies inside its data");
}

impl<'a> MatrixRef<'a> {
    /// Rows of `columns` elements one after another.
    ///
    /// # Panics
    /// When `data` is too short.
    #[must_use]
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows of `columns` elements that begin `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short.
    #[must_use]
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(data.len(), rows, columns, stride);
        Self { data, rows, columns, row_stride: stride, column_stride: 1 }
    }

    /// Rows `first .. first + count`.
    fn rows_from(self, first: usize, count: usize) -> Self {
        // A matrix without elements has rows all the same.
        let data = self.data.get(first * self.row_stride..).unwrap_or_default();
        Self { data, rows: count, ..self }
    }

    /// The same numbers with rows and columns exchanged.
    #[must_use]
    pub const fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }
}

impl<'a> MatrixMut<'a> {
    /// Rows of `columns` elements one after another.
    ///
    /// # Panics
    /// When `data` is too short.
    pub fn new(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows of `columns` elements that begin `stride` apart.
    ///
    /// # Panics
    /// When `data` is too short.
    pub fn strided(data: &'a mut [f32], rows: usize, columns: usize, stride: usize) -> Self {
        check(data.len(), rows, columns, stride);
        Self { data, rows, columns, stride }
    }
}

impl Kernels {
    /// `c = a b` or `c += a b`, as chains over ascending k.
    ///
    /// # Panics
    /// When the shapes do not fit.
    pub fn gemm(&self, a: MatrixRef<'_>, b: MatrixRef<'_>, c: MatrixMut<'_>, start: Start) {
        let small = a.rows * a.columns * b.columns < SERIAL_WORK;
        let team = (!small && self.team().threads() > 1).then(|| self.team());
        multiply(self.isa(), team, a, b, c, start);
    }
}

/// As [`Kernels::gemm`], on this thread alone when there is no team.
fn multiply(
    isa: Isa,
    team: Option<&Team>,
    a: MatrixRef<'_>,
    b: MatrixRef<'_>,
    c: MatrixMut<'_>,
    start: Start,
) {
    assert!(a.rows == c.rows && b.columns == c.columns, "c has the rows of a, the columns of b");
    assert_eq!(a.columns, b.rows, "a and b share their depth");
    let (stride, shared) = (c.stride, SharedMut::new(c.data));
    for row in (0..a.rows).step_by(OUTPUT_BLOCK) {
        let a = a.rows_from(row, (a.rows - row).min(OUTPUT_BLOCK));
        for column in (0..b.columns).step_by(OUTPUT_BLOCK) {
            let count = (b.columns - column).min(OUTPUT_BLOCK);
            let b = b.transposed().rows_from(column, count).transposed();
            let at = row * stride + column;
            product::Product { a, b, c: shared, at, stride }.run(isa, team, start);
        }
    }
}

/// Calls `$call` with the inner product of an instruction set as type argument `$K`.
macro_rules! per_micro {
    ($isa:expr, $K:ident => $call:expr) => {
        match $isa {
            $crate::Isa::Portable => {
                type $K = $crate::gemm::portable::Portable;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            $crate::Isa::Avx2 => {
                type $K = $crate::gemm::avx2::Avx2;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            $crate::Isa::Avx512 | $crate::Isa::Avx512Vnni => {
                type $K = $crate::gemm::avx512::Avx512;
                $call
            }
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("other instruction sets are not available here"),
        }
    };
}
use per_micro;
