//! What a tile of registers computes, whatever the instruction set.

use super::Start;

/// Elements of the largest tile.
const TILE_ELEMENTS_MAX: usize = 14 * 32;

/// The left rows of a tile: element (r, k) lies at `start + r * row + k * step`.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub(super) start: *const f32,
    pub(super) row: usize,
    pub(super) step: usize,
}

/// The sums of a tile: row r begins at `start + r * stride`.
#[derive(Clone, Copy)]
pub(super) struct Output {
    pub(super) start: *mut f32,
    pub(super) stride: usize,
}

/// The inner product of one instruction set.
pub(super) trait Micro {
    /// Most rows of a tile in registers.
    const ROWS: usize;
    /// Columns of a tile in registers.
    const COLUMNS: usize;

    /// Computes the chains of `[rows, COLUMNS]` elements over `depth` terms.
    ///
    /// # Safety
    /// The machine has the instruction set. `rows` is in `1..=ROWS`. All of `[rows, depth]` of a
    /// can be read, `b` holds `depth * COLUMNS` elements, and all of `[rows, COLUMNS]` of c can be
    /// written by this thread alone.
    unsafe fn tile(rows: usize, depth: usize, a: Left, b: *const f32, c: Output, start: Start);
}

/// [`Micro::tile`] for a tile that has only `columns` columns in c.
///
/// # Safety
/// As [`Micro::tile`], with `columns` instead of `COLUMNS` in c.
pub(super) unsafe fn tile_of<K: Micro>(
    (rows, columns): (usize, usize),
    depth: usize,
    a: Left,
    b: *const f32,
    c: Output,
    start: Start,
) {
    if columns == K::COLUMNS {
        // SAFETY: the caller's promise.
        return unsafe { K::tile(rows, depth, a, b, c, start) };
    }
    let mut edge = [0.0; TILE_ELEMENTS_MAX];
    let whole = Output { start: edge.as_mut_ptr(), stride: K::COLUMNS };
    let row = |c: Output, r: usize| c.start.wrapping_add(r * c.stride);
    // SAFETY: the caller's promise; `edge` holds a whole tile.
    unsafe {
        if start == Start::Output {
            for r in 0..rows {
                row(whole, r).copy_from_nonoverlapping(row(c, r), columns);
            }
        }
        K::tile(rows, depth, a, b, whole, start);
        for r in 0..rows {
            row(c, r).copy_from_nonoverlapping(row(whole, r), columns);
        }
    }
}
