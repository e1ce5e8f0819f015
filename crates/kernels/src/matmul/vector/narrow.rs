//! 4-bit weights with a8 rows: byte products summed in 16 bits.
//!
//! A block's 32 products per row are at most 15 * 127 each and fall into two 16-bit sums of 16, at most
//! 30,480 each, so no sum saturates. One multiply-add by (m r, m r) then scales the block and widens it
//! to 32 bits at once.

use std::ops::Range;

use shoal_arith::WeightFormat;
use shoal_arith::limits::{BLOCK, GROUP, TILE_ROWS};

use super::{Task, finish, passes, with_rows};
use crate::Linear;
use crate::lanes::Lanes;

const QUADS: usize = BLOCK / 4;
const GROUP_BLOCKS: usize = GROUP / BLOCK;

/// Bytes per lane and block of a panel: 8 quads, the multiplier pair, the offset pair.
const LANE_BYTES: usize = (QUADS + 2) * 4;

/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn run<L: Lanes>(task: Task<'_>, groups: Range<usize>, panel: &mut [u8]) {
    let with_offsets = task.weights.shape().format == WeightFormat::I4Offset;
    for g in groups {
        // SAFETY: as for this function; the panel has room for 64 bytes per lane and block.
        unsafe {
            spread::<L>(task.weights, g, panel);
            for (first, rows) in passes(task.x.rows) {
                match with_offsets {
                    false => with_rows!(rows, T => pass::<L, T, false>(task, g, first, panel)),
                    true => with_rows!(rows, T => pass::<L, T, true>(task, g, first, panel)),
                }
            }
        }
    }
}

/// Spreads row group `g` into a panel: for each half of the rows, for each block, the codes + 8 as
/// bytes, quad by quad, then the multipliers and offsets in pairs.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
unsafe fn spread<L: Lanes>(weights: &Linear, g: usize, panel: &mut [u8]) {
    let shape = weights.shape();
    let half_bytes = shape.blocks() * LANE_BYTES * L::ROWS;
    assert!(
        panel.len() >= half_bytes * (TILE_ROWS / L::ROWS),
        "the panel has room"
    );
    let mut block = 0;
    for c in 0..shape.tile_columns() {
        let layout = shape.tile(c);
        let tile = weights.tile(g, c).as_ptr();
        for b in 0..layout.blocks {
            for half in 0..TILE_ROWS / L::ROWS {
                let at = half * half_bytes + block * LANE_BYTES * L::ROWS;
                let row = b * TILE_ROWS + half * L::ROWS;
                // SAFETY: `at` leaves LANE_BYTES * ROWS bytes of the panel; the tile holds the block's
                // codes, multipliers and, in this format, offsets.
                unsafe {
                    let to = panel.as_mut_ptr().add(at);
                    let codes = tile.add(b * layout.block_bytes + half * L::ROWS * 4);
                    let after = spread_codes::<L>(codes, to);
                    L::store(after, L::pairs_of_u8(tile.add(layout.multipliers_at + row)));
                    if shape.format == WeightFormat::I4Offset {
                        let offsets = L::pairs_of_i16(tile.add(layout.offsets_at + row * 2));
                        L::store(after.add(L::ROWS * 4), offsets);
                    }
                }
            }
            block += 1;
        }
    }
}

/// Splits one block's bytes into their halves and returns the end of what was written.
///
/// # Safety
/// The machine has the instruction set of `L`; `codes` points to a block of a tile, `to` has room.
#[inline(always)]
unsafe fn spread_codes<L: Lanes>(codes: *const u8, to: *mut u8) -> *mut u8 {
    let vector = L::ROWS * 4;
    // SAFETY: as for this function.
    unsafe {
        let low_half = L::splat8(15);
        for j in 0..QUADS / 2 {
            let v = L::load(codes.add(j * TILE_ROWS * 4));
            L::store(to.add(j * vector), L::and(v, low_half));
            let high = L::and(L::shift_right16::<4>(v), low_half);
            L::store(to.add((j + QUADS / 2) * vector), high);
        }
        to.add(QUADS * vector)
    }
}

/// One panel with `T` rows of x.
///
/// # Safety
/// The machine has the instruction set of `L`; the panel was spread for this row group.
#[inline(always)]
unsafe fn pass<L: Lanes, const T: usize, const OFFSETS: bool>(
    task: Task<'_>,
    g: usize,
    first: usize,
    panel: &[u8],
) {
    let x = task.x;
    let blocks = task.weights.shape().blocks();
    let group_count = x.columns.div_ceil(GROUP);
    let mut sums = [[0.0_f64; TILE_ROWS]; T];
    for half in 0..TILE_ROWS / L::ROWS {
        for group in 0..group_count {
            let first_block = group * GROUP_BLOCKS;
            let last_block = blocks.min(first_block + GROUP_BLOCKS);
            // SAFETY: rows first .. first + T and blocks up to `blocks` exist in x and in the panel.
            unsafe {
                let mut inner = [L::zero(); T];
                for block in first_block..last_block {
                    let at = (half * blocks + block) * LANE_BYTES * L::ROWS;
                    let weights = panel.as_ptr().add(at);
                    for_block::<L, T, OFFSETS>(task, first, block, blocks, weights, &mut inner);
                }
                for t in 0..T {
                    let n = x.group_multipliers[(first + t) * group_count + group];
                    L::accumulate(sums[t].as_mut_ptr().add(half * L::ROWS), inner[t], n);
                }
            }
        }
    }
    // SAFETY: as for this function.
    unsafe { finish::<L, T>(task, first, g, &sums) }
}

/// # Safety
/// The machine has the instruction set of `L`; `weights` points to a block of a panel; x holds the rows.
#[inline(always)]
unsafe fn for_block<L: Lanes, const T: usize, const OFFSETS: bool>(
    task: Task<'_>,
    first: usize,
    block: usize,
    blocks: usize,
    weights: *const u8,
    inner: &mut [L::V; T],
) {
    let x = task.x;
    let vector = L::ROWS * 4;
    // SAFETY: index (first + t) * blocks + block is inside every per-block array of x.
    unsafe {
        let at = |t: usize| (first + t) * blocks + block;
        let pair = |from: &[i32], t: usize| L::broadcast(from.as_ptr().add(at(t)).cast());
        let mut sums: [L::V; T] = std::array::from_fn(|t| pair(&x.bias_pairs, t));
        let codes: [*const u8; T] =
            std::array::from_fn(|t| x.narrow.as_ptr().add(at(t) * BLOCK).cast());
        for j in 0..QUADS {
            let w = L::load(weights.add(j * vector));
            for t in 0..T {
                sums[t] = L::add16(sums[t], L::dot_u8i8(w, L::broadcast(codes[t].add(j * 4))));
            }
        }
        let multipliers = L::load(weights.add(QUADS * vector));
        for t in 0..T {
            let scale = L::mul16(multipliers, pair(&x.block_multipliers, t));
            inner[t] = L::add32(inner[t], L::dot_i16(sums[t], scale));
            if OFFSETS {
                let offsets = L::load(weights.add((QUADS + 1) * vector));
                let sum = L::dot_i16(offsets, pair(&x.offset_pairs, t));
                inner[t] = L::add32(inner[t], sum);
            }
        }
    }
}
