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
mod portable;

use std::cell::RefCell;

use crate::shared::SharedMut;
use crate::{Isa, Kernels, Team};

/// Multiply-adds below which a product is not worth waking the team.
const SERIAL_WORK: usize = 1 << 17;
/// Depth of a block: a panel of b stays in the first cache level.
const DEPTH_BLOCK: usize = 256;
/// Rows of a tile: the panels of a stay in the second cache level.
const TILE_ROWS_MAX: usize = 192;
/// Columns of a tile, so that there are enough tiles to share out.
const TILE_COLUMNS_MAX: usize = 128;

/// Rows and columns computed before the next are packed: bounds the panels to 8 MiB.
const OUTPUT_BLOCK: usize = 4032;

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
pub(crate) fn multiply(
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
            let product = Product { a, b, c: shared, at: row * stride + column, stride };
            product.run_on(isa, team, start);
        }
    }
}

/// The inner product of one instruction set.
pub(crate) trait Micro {
    /// Rows of a tile in registers.
    const ROWS: usize;
    /// Columns of a tile in registers.
    const COLUMNS: usize;

    /// Continues the chains of `[ROWS, COLUMNS]` elements of c by `depth` terms.
    ///
    /// # Safety
    /// The machine has the instruction set. `a` holds `depth * ROWS` elements, `b` `depth *
    /// COLUMNS`, and `c` rows of `COLUMNS` elements that begin `stride` apart.
    unsafe fn tile(depth: usize, a: *const f32, b: *const f32, c: *mut f32, stride: usize);
}

/// Elements of the largest register tile.
const TILE_ELEMENTS_MAX: usize = 14 * 32;

thread_local! {
    /// Packed panels of a and b, kept between products.
    static PANELS: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

#[derive(Clone, Copy)]
struct Product<'a> {
    a: MatrixRef<'a>,
    b: MatrixRef<'a>,
    c: SharedMut<'a, f32>,
    /// Where the first element of c lies.
    at: usize,
    stride: usize,
}

/// Panels of one depth block, and which part of c a tile covers.
#[derive(Clone, Copy)]
struct Block<'a> {
    a: &'a [f32],
    b: &'a [f32],
    depth: usize,
    is_first: bool,
}

impl Product<'_> {
    fn run_on(self, isa: Isa, team: Option<&Team>, start: Start) {
        match isa {
            Isa::Portable => self.run::<portable::Portable>(isa, team, start),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => self.run::<avx2::Avx2>(isa, team, start),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Vnni => self.run::<avx512::Avx512>(isa, team, start),
            #[cfg(not(target_arch = "x86_64"))]
            _ => unreachable!("other instruction sets are not available here"),
        }
    }

    fn run<K: Micro>(self, isa: Isa, team: Option<&Team>, start: Start) {
        let (rows, columns, depth) = (self.a.rows, self.b.columns, self.a.columns);
        if depth == 0 {
            return self.clear(start);
        }
        let (a_panels, b_panels) = (rows.div_ceil(K::ROWS), columns.div_ceil(K::COLUMNS));
        let block_depth = depth.min(DEPTH_BLOCK);
        let (mut a_space, mut b_space) = PANELS.with_borrow_mut(std::mem::take);
        a_space.resize(a_space.len().max(a_panels * K::ROWS * block_depth), 0.0);
        b_space.resize(b_space.len().max(b_panels * K::COLUMNS * block_depth), 0.0);
        for first in (0..depth).step_by(DEPTH_BLOCK) {
            let depth = (depth - first).min(DEPTH_BLOCK);
            let a_len = depth * K::ROWS;
            let b_len = depth * K::COLUMNS;
            let a_shared = SharedMut::new(&mut a_space);
            let b_shared = SharedMut::new(&mut b_space);
            each(team, a_panels + b_panels, &|panel| {
                if panel < a_panels {
                    // SAFETY: each panel is written by one member.
                    let out = unsafe { a_shared.range(panel * a_len, a_len) };
                    pack::panel(isa, self.a, (panel * K::ROWS, first), K::ROWS, out);
                } else {
                    let panel = panel - a_panels;
                    // SAFETY: as above.
                    let out = unsafe { b_shared.range(panel * b_len, b_len) };
                    let place = (panel * K::COLUMNS, first);
                    pack::panel(isa, self.b.transposed(), place, K::COLUMNS, out);
                }
            });
            let is_first = first == 0 && start == Start::Zero;
            let block = Block { a: &a_space, b: &b_space, depth, is_first };
            let tile_rows = (TILE_ROWS_MAX / K::ROWS).max(1);
            let tile_columns = (TILE_COLUMNS_MAX / K::COLUMNS).max(1);
            let row_tiles = a_panels.div_ceil(tile_rows);
            let column_tiles = b_panels.div_ceil(tile_columns);
            each(team, row_tiles * column_tiles, &|tile| {
                let (i, j) = (tile % row_tiles * tile_rows, tile / row_tiles * tile_columns);
                for b_panel in j..(j + tile_columns).min(b_panels) {
                    for a_panel in i..(i + tile_rows).min(a_panels) {
                        self.tile::<K>(block, a_panel, b_panel);
                    }
                }
            });
        }
        PANELS.set((a_space, b_space));
    }

    fn clear(&self, start: Start) {
        if start == Start::Zero {
            for i in 0..self.a.rows {
                // SAFETY: no other thread works on this product.
                unsafe { self.c.range(self.at + i * self.stride, self.b.columns) }.fill(0.0);
            }
        }
    }

    /// Continues the chains of the tile where panel `i` of a meets panel `j` of b.
    fn tile<K: Micro>(&self, block: Block<'_>, i: usize, j: usize) {
        let (row, column) = (i * K::ROWS, j * K::COLUMNS);
        let rows = (self.a.rows - row).min(K::ROWS);
        let columns = (self.b.columns - column).min(K::COLUMNS);
        let a = &block.a[i * K::ROWS * block.depth..][..K::ROWS * block.depth];
        let b = &block.b[j * K::COLUMNS * block.depth..][..K::COLUMNS * block.depth];
        let at = self.at + row * self.stride + column;
        // SAFETY: a tile belongs to one member of the team, and with it these rows.
        let row_of_c = |r| unsafe { self.c.range(at + r * self.stride, columns) };
        if rows == K::ROWS && columns == K::COLUMNS {
            if block.is_first {
                (0..rows).for_each(|r| row_of_c(r).fill(0.0));
            }
            // SAFETY: `Kernels::new` checked the instruction set; the panels have their lengths by
            // construction; `MatrixMut` checked that the last row of the tile is inside.
            unsafe {
                let c = self.c.pointer(at);
                K::tile(block.depth, a.as_ptr(), b.as_ptr(), c, self.stride);
            }
            return;
        }
        let mut edge = [0.0; TILE_ELEMENTS_MAX];
        if !block.is_first {
            for r in 0..rows {
                edge[r * K::COLUMNS..][..columns].copy_from_slice(row_of_c(r));
            }
        }
        // SAFETY: as above; `edge` holds a whole tile.
        unsafe { K::tile(block.depth, a.as_ptr(), b.as_ptr(), edge.as_mut_ptr(), K::COLUMNS) };
        for r in 0..rows {
            row_of_c(r).copy_from_slice(&edge[r * K::COLUMNS..][..columns]);
        }
    }
}

fn each(team: Option<&Team>, count: usize, job: &(dyn Fn(usize) + Sync)) {
    match team {
        Some(team) => team.share(count, job),
        None => (0..count).for_each(job),
    }
}
