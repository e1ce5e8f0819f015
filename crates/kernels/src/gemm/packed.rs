//! Products on one thread whose right matrix is packed once and used often, and of which only a
//! part counts: those of attention. The left matrix is read where it lies.

use std::ops::Range;

use super::tile::{Left, Micro, Output, tile_of};
use super::{MatrixMut, MatrixRef, Start, pack, per_micro};
use crate::Isa;

/// Columns that every instruction set packs as whole panels.
pub(crate) const WHOLE_COLUMNS: usize = 32;

/// A right matrix in panels.
#[derive(Debug, Default)]
pub(crate) struct Packed {
    panels: Vec<f32>,
    depth: usize,
    columns: usize,
}

/// The part of a product that some rows need.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// Columns; others are left as they are or overwritten with anything.
    pub(crate) columns: Range<usize>,
    /// Terms of each chain.
    pub(crate) depth: Range<usize>,
}

impl Packed {
    /// Holds `m` from now on.
    pub(crate) fn pack(&mut self, isa: Isa, m: MatrixRef<'_>) {
        (self.depth, self.columns) = (m.rows, m.columns);
        let width = per_micro!(isa, K => K::COLUMNS);
        self.panels.resize(m.columns.div_ceil(width) * width * m.rows, 0.0);
        let panels = self.panels.chunks_exact_mut((width * m.rows).max(1));
        for (index, out) in panels.enumerate() {
            pack::panel(isa, m.transposed(), (index * width, 0), width, out);
        }
    }
}

/// `c = a b` or `c += a b`, of which only `part(rows)` is computed of each group of rows.
///
/// c may have more columns than b, up to whole panels, if what they hold does not matter.
pub(crate) fn multiply_packed(
    isa: Isa,
    a: MatrixRef<'_>,
    b: &Packed,
    mut c: MatrixMut<'_>,
    start: Start,
    part: impl Fn(Range<usize>) -> Part,
) {
    per_micro!(isa, K => run::<K>(a, b, &mut c, start, &part));
}

fn run<K: Micro>(
    a: MatrixRef<'_>,
    b: &Packed,
    c: &mut MatrixMut<'_>,
    start: Start,
    part: &impl Fn(Range<usize>) -> Part,
) {
    assert!(a.rows == c.rows && a.columns <= b.depth, "a fits both");
    let whole = b.columns.next_multiple_of(K::COLUMNS);
    for row in (0..a.rows).step_by(K::ROWS) {
        let rows = (a.rows - row).min(K::ROWS);
        let Part { columns, depth } = part(row..row + rows);
        assert!(columns.end <= c.columns.min(whole), "the columns exist");
        assert!(depth.start <= depth.end && depth.end <= a.columns, "the terms exist");
        let at = row * a.row_stride + depth.start * a.column_stride;
        let left = Left {
            start: a.data.as_ptr().wrapping_add(at),
            row: a.row_stride,
            step: a.column_stride,
        };
        for panel in columns.start / K::COLUMNS..columns.end.div_ceil(K::COLUMNS) {
            let column = panel * K::COLUMNS;
            let width = (c.columns - column).min(K::COLUMNS);
            let b = &b.panels[(panel * b.depth + depth.start) * K::COLUMNS..];
            let b = &b[..depth.len() * K::COLUMNS];
            let out = c.data[row * c.stride + column..].as_mut_ptr();
            let out = Output { start: out, stride: c.stride };
            // SAFETY: `Kernels::new` checked the instruction set; rows and terms of a are inside by
            // the assertions and by `MatrixRef`, those of b by its slice, rows and columns of c by
            // `MatrixMut`.
            unsafe { tile_of::<K>((rows, width), depth.len(), left, b.as_ptr(), out, start) };
        }
    }
}
