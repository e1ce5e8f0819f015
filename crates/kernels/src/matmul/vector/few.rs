//! Few rows of x: tiles are multiplied as they are stored.

use std::ops::Range;

use shoal_arith::limits::{BLOCK, GROUP, TILE_ROWS};

use super::Task;
use super::cursor::{Cursor, GROUP_BLOCKS, TILE_GROUPS};
use super::kernel::{Kernel, Split};
use super::row_group::{accumulate, finish, multiply, passes, with_rows};
use crate::lanes::Lanes;

/// Blocks of a whole tile.
const TILE_BLOCKS: usize = TILE_GROUPS * GROUP_BLOCKS;

/// Few rows: the row groups of `groups` as they are stored, each found by `tiles`. `R`: the most
/// rows of a pass.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn multiply_tiles<K, L: Lanes, const H: usize, const R: usize, W: Cursor>(
    task: Task<'_>,
    groups: Range<usize>,
    tiles: impl Fn(usize) -> W,
) where
    K: Kernel<L, H, W>,
{
    let rows = task.x.rows;
    for g in groups {
        for (first, rows) in passes(rows, rows.div_ceil(R)) {
            // SAFETY: as for this function.
            unsafe {
                with_rows!(rows, R, T => multiply::<K, L, H, T, W>(task, g, first, tiles(g)));
            }
        }
    }
}

/// The same with kernels whose products can wait for the multipliers: a row alone is limited by
/// memory, and is read in the order of memory.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn multiply_tiles_in_order<
    K,
    L: Lanes,
    const H: usize,
    const R: usize,
    W: Cursor,
>(
    task: Task<'_>,
    groups: Range<usize>,
    tiles: impl Fn(usize) -> W,
) where
    K: Split<L, H, W>,
{
    // SAFETY: as for this function.
    unsafe {
        match task.x.rows {
            1 => {
                let mut dots = [[[L::zero(); H]; 1]; TILE_BLOCKS];
                for g in groups {
                    multiply_in_order::<K, L, H, 1, W>(task, g, tiles(g), &mut dots);
                }
            }
            _ => multiply_tiles::<K, L, H, R, W>(task, groups, tiles),
        }
    }
}

/// Row group `g` with the first `T` rows of x, which are all: each tile is read from its first byte
/// to its last. `dots`: the products of a tile.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
unsafe fn multiply_in_order<K, L: Lanes, const H: usize, const T: usize, W: Cursor>(
    task: Task<'_>,
    g: usize,
    mut weights: W,
    dots: &mut [[[L::V; H]; T]; TILE_BLOCKS],
) where
    K: Split<L, H, W>,
{
    let x = task.x;
    assert_eq!(x.rows, T, "these are all rows");
    let (blocks, groups) = (x.columns.div_ceil(BLOCK), x.columns.div_ceil(GROUP));
    let mut sums = [[0.0_f64; TILE_ROWS]; T];
    // SAFETY: `T` rows exist, with `blocks` blocks and `groups` groups.
    unsafe {
        let row = |block: usize| -> [*const u8; T] {
            std::array::from_fn(|t| K::rows(x).add((t * blocks + block) * K::X_BYTES))
        };
        for tile in (0..groups).step_by(TILE_GROUPS) {
            let start = tile * GROUP_BLOCKS;
            let count = TILE_BLOCKS.min(blocks - start);
            weights.begin(tile);
            for (i, dots) in dots[..count].iter_mut().enumerate() {
                if task.ahead > 0 {
                    weights.ask_for_block(task.ahead);
                }
                *dots = K::dots(weights, &row(start + i));
                weights.advance();
            }
            weights.end(groups.min(tile + TILE_GROUPS) - 1);
            weights.begin(tile);
            for (i, part) in dots[..count].chunks(GROUP_BLOCKS).enumerate() {
                let mut inner = [[L::zero(); H]; T];
                for (b, dots) in part.iter().enumerate() {
                    K::add_scaled(weights, &row(start + i * GROUP_BLOCKS + b), dots, &mut inner);
                    weights.advance();
                }
                for t in 0..T {
                    let n = x.group_multipliers[t * groups + tile + i];
                    accumulate::<L, H>(&mut sums[t], &inner[t], n);
                }
            }
        }
        finish::<L, T>(task, 0, g, &sums);
    }
}
