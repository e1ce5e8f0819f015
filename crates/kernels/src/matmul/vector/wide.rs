//! Any weights as 16-bit integers `m q + o`, with rows as 16-bit integers.
//!
//! Used for 12-bit rows, and for 8-bit weights without VNNI: two byte products of 127 * 127 do not fit
//! 16 bits, so 16-bit products, two per instruction and lane, are the fastest exact ones.

use std::ops::Range;

use shoal_arith::WeightFormat;
use shoal_arith::limits::{BLOCK, GROUP, TILE_ROWS};
use shoal_arith::tile::TileLayout;

use super::{Task, finish, passes, with_rows};
use crate::Linear;
use crate::lanes::Lanes;

const QUADS: usize = BLOCK / 4;
/// Bytes of one block of a panel: a vector of 16 rows for each of 16 pairs of columns.
const BLOCK_BYTES: usize = BLOCK / 2 * TILE_ROWS * 4;

/// `H` vectors hold the 16 rows.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn run<L: Lanes, const H: usize>(
    task: Task<'_>,
    groups: Range<usize>,
    panel: &mut [u8],
) {
    assert_eq!(H * L::ROWS, TILE_ROWS, "H vectors hold a row group");
    for g in groups {
        // SAFETY: as for this function.
        unsafe {
            spread::<L, H>(task.weights, g, panel);
            for (first, rows) in passes(task.x.rows) {
                with_rows!(rows, T => pass::<L, H, T>(task, g, first, panel));
            }
        }
    }
}

/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
unsafe fn spread<L: Lanes, const H: usize>(weights: &Linear, g: usize, panel: &mut [u8]) {
    let shape = weights.shape();
    assert!(
        panel.len() >= shape.blocks() * BLOCK_BYTES,
        "the panel has room"
    );
    let mut to = panel.as_mut_ptr();
    for c in 0..shape.tile_columns() {
        let layout = shape.tile(c);
        let tile = weights.tile(g, c).as_ptr();
        for b in 0..layout.blocks {
            for half in 0..H {
                // SAFETY: the tile holds the block; the panel has room for it (asserted above).
                unsafe {
                    match shape.format {
                        WeightFormat::I8 => spread_i8::<L, H>(layout, tile, b, half, to),
                        WeightFormat::I4 => spread_i4::<L, H, false>(layout, tile, b, half, to),
                        WeightFormat::I4Offset => {
                            spread_i4::<L, H, true>(layout, tile, b, half, to);
                        }
                    }
                }
            }
            // SAFETY: at most one past the blocks the panel has room for.
            to = unsafe { to.add(BLOCK_BYTES) };
        }
    }
}

/// # Safety
/// The machine has the instruction set of `L`; `tile` holds block `b`, `to` has room for it.
#[inline(always)]
unsafe fn spread_i8<L: Lanes, const H: usize>(
    layout: TileLayout,
    tile: *const u8,
    b: usize,
    half: usize,
    to: *mut u8,
) {
    let vector = L::ROWS * 4;
    // SAFETY: as for this function.
    unsafe {
        let row = b * TILE_ROWS + half * L::ROWS;
        let m = L::pairs_of_u8(tile.add(layout.multipliers_at + row));
        let codes = tile.add(b * layout.block_bytes + half * vector);
        for j in 0..QUADS {
            let v = L::load(codes.add(j * TILE_ROWS * 4));
            let even = L::shift_right_signed16::<8>(L::shift_left16::<8>(v));
            let odd = L::shift_right_signed16::<8>(v);
            let at = to.add((2 * j * H + half) * vector);
            L::store(at, L::mul16(even, m));
            L::store(at.add(H * vector), L::mul16(odd, m));
        }
    }
}

/// # Safety
/// The machine has the instruction set of `L`; `tile` holds block `b`, `to` has room for it.
#[inline(always)]
unsafe fn spread_i4<L: Lanes, const H: usize, const OFFSETS: bool>(
    layout: TileLayout,
    tile: *const u8,
    b: usize,
    half: usize,
    to: *mut u8,
) {
    let vector = L::ROWS * 4;
    // SAFETY: as for this function.
    unsafe {
        let row = b * TILE_ROWS + half * L::ROWS;
        let m = L::pairs_of_u8(tile.add(layout.multipliers_at + row));
        // m (q + 8) + (o - 8 m)
        let mut offset = L::mul16(m, L::splat16(-8));
        if OFFSETS {
            offset = L::add16(
                offset,
                L::pairs_of_i16(tile.add(layout.offsets_at + row * 2)),
            );
        }
        let codes = tile.add(b * layout.block_bytes + half * vector);
        let mask = L::splat16(15);
        for j in 0..QUADS / 2 {
            let v = L::load(codes.add(j * TILE_ROWS * 4));
            let low = to.add((2 * j * H + half) * vector);
            let high = to.add((2 * (j + QUADS / 2) * H + half) * vector);
            let put = |at: *mut u8, code: L::V| {
                L::store(at, L::add16(L::mul16(L::and(code, mask), m), offset));
            };
            put(low, v);
            put(low.add(H * vector), L::shift_right16::<8>(v));
            put(high, L::shift_right16::<4>(v));
            put(high.add(H * vector), L::shift_right16::<12>(v));
        }
    }
}

/// One panel with `T` rows of x.
///
/// # Safety
/// The machine has the instruction set of `L`; the panel was spread for this row group.
#[inline(always)]
unsafe fn pass<L: Lanes, const H: usize, const T: usize>(
    task: Task<'_>,
    g: usize,
    first: usize,
    panel: &[u8],
) {
    let x = task.x;
    let columns = task.weights.shape().blocks() * BLOCK;
    let group_count = x.columns.div_ceil(GROUP);
    let vector = L::ROWS * 4;
    let mut sums = [[0.0_f64; TILE_ROWS]; T];
    // SAFETY: rows first .. first + T exist; pairs up to columns / 2 exist in x and in the panel.
    unsafe {
        let rows: [*const u8; T] =
            std::array::from_fn(|t| x.wide.as_ptr().add((first + t) * columns).cast());
        for group in 0..group_count {
            let mut inner = [[L::zero(); H]; T];
            for pair in group * GROUP / 2..columns.min((group + 1) * GROUP) / 2 {
                let w: [L::V; H] =
                    std::array::from_fn(|h| L::load(panel.as_ptr().add((pair * H + h) * vector)));
                for t in 0..T {
                    let x = L::broadcast(rows[t].add(pair * 4));
                    for h in 0..H {
                        inner[t][h] = L::add32(inner[t][h], L::dot_i16(w[h], x));
                    }
                }
            }
            for t in 0..T {
                let n = x.group_multipliers[(first + t) * group_count + group];
                for h in 0..H {
                    L::accumulate(sums[t].as_mut_ptr().add(h * L::ROWS), inner[t][h], n);
                }
            }
        }
        finish::<L, T>(task, first, g, &sums);
    }
}
