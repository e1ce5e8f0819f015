//! A product cut into panels and tiles, shared out over a team.

use std::cell::RefCell;

use super::tile::{Left, Micro, Output, tile_of};
use super::{MatrixRef, Start, pack, per_micro};
use crate::shared::SharedMut;
use crate::{Isa, Team};

/// Depth of a block: a panel of b stays in the first cache level.
const DEPTH_BLOCK: usize = 256;
/// Elements of the panels of one side that are packed before they are multiplied, if the product is
/// not too wide for one block.
const PANEL_ELEMENTS: usize = 1 << 20;
/// Rows of a tile: the panels of a stay in the second cache level.
const TILE_ROWS_MAX: usize = 192;
/// Columns of a tile, so that there are enough tiles to share out.
const TILE_COLUMNS_MAX: usize = 128;

thread_local! {
    /// Packed panels of a and b, kept between products.
    static PANELS: RefCell<(Vec<f32>, Vec<f32>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

/// `c = a b` or `c += a b`.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub(super) a: MatrixRef<'a>,
    pub(super) b: MatrixRef<'a>,
    pub(super) c: SharedMut<'a, f32>,
    /// Where the first element of c lies.
    pub(super) at: usize,
    pub(super) stride: usize,
}

/// The panels of some of the depth.
#[derive(Clone, Copy)]
struct Pass<'a> {
    a: &'a [f32],
    b: &'a [f32],
    depth: usize,
    start: Start,
}

impl Product<'_> {
    pub(super) fn run(self, isa: Isa, team: Option<&Team>, start: Start) {
        per_micro!(isa, K => self.run_on::<K>(isa, team, start));
    }

    fn run_on<K: Micro>(self, isa: Isa, team: Option<&Team>, start: Start) {
        let (rows, columns, depth) = (self.a.rows, self.b.columns, self.a.columns);
        if depth == 0 {
            return self.clear(start);
        }
        let (a_panels, b_panels) = (rows.div_ceil(K::ROWS), columns.div_ceil(K::COLUMNS));
        let blocks = PANEL_ELEMENTS / (rows.max(columns) * DEPTH_BLOCK);
        let depth_pass = depth.min(DEPTH_BLOCK * blocks.max(1));
        let (mut a_space, mut b_space) = PANELS.take();
        a_space.resize(a_space.len().max(a_panels * K::ROWS * depth_pass), 0.0);
        b_space.resize(b_space.len().max(b_panels * K::COLUMNS * depth_pass), 0.0);
        for first in (0..depth).step_by(depth_pass) {
            let depth = (depth - first).min(depth_pass);
            let (a_len, b_len) = (depth * K::ROWS, depth * K::COLUMNS);
            let (a_shared, b_shared) = (SharedMut::new(&mut a_space), SharedMut::new(&mut b_space));
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
            let start = if first == 0 { start } else { Start::Output };
            let pass = Pass { a: &a_space, b: &b_space, depth, start };
            let row_tiles = a_panels.div_ceil(TILE_ROWS_MAX / K::ROWS);
            let column_tiles = b_panels.div_ceil(TILE_COLUMNS_MAX / K::COLUMNS);
            each(team, row_tiles * column_tiles, &|tile| {
                let part = |panels: usize, index: usize, count: usize| {
                    panels * index / count..panels * (index + 1) / count
                };
                let i = part(a_panels, tile % row_tiles, row_tiles);
                let j = part(b_panels, tile / row_tiles, column_tiles);
                for first in (0..depth).step_by(DEPTH_BLOCK) {
                    for b_panel in j.clone() {
                        for a_panel in i.clone() {
                            self.tile::<K>(pass, first, a_panel, b_panel);
                        }
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

    /// Continues the chains of the tile where panel `i` of a meets panel `j` of b by the block of
    /// depth that begins at `first`.
    fn tile<K: Micro>(&self, pass: Pass<'_>, first: usize, i: usize, j: usize) {
        let depth = (pass.depth - first).min(DEPTH_BLOCK);
        let (row, column) = (i * K::ROWS, j * K::COLUMNS);
        let rows = (self.a.rows - row).min(K::ROWS);
        let columns = (self.b.columns - column).min(K::COLUMNS);
        let a = &pass.a[(i * pass.depth + first) * K::ROWS..][..K::ROWS * depth];
        let b = &pass.b[(j * pass.depth + first) * K::COLUMNS..][..K::COLUMNS * depth];
        let a = Left { start: a.as_ptr(), row: 1, step: K::ROWS };
        let at = self.at + row * self.stride + column;
        let c = Output { start: self.c.pointer(at), stride: self.stride };
        let start = if first == 0 { pass.start } else { Start::Output };
        // SAFETY: `Kernels::new` checked the instruction set; the panels hold what is read, by the
        // slices above; `MatrixMut` checked that the last row of c is inside; a tile belongs to one
        // member of the team.
        unsafe { tile_of::<K>((rows, columns), depth, a, b.as_ptr(), c, start) };
    }
}

fn each(team: Option<&Team>, count: usize, job: &(dyn Fn(usize) + Sync)) {
    match team {
        Some(team) => team.share(count, job),
        None => (0..count).for_each(job),
    }
}
