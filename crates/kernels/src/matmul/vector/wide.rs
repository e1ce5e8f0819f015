//! Any weights as 16-bit integers `m q + o`, with rows as 16-bit integers.
//!
//! Used for 12-bit rows, and for 8-bit weights without VNNI: two byte products of 127 * 127 do not
//! fit 16 bits, so 16-bit products, two per instruction and lane, are the fastest exact ones.

use std::ops::Range;

use shoal_arith::WeightFormat;
use shoal_arith::limits::{BLOCK, TILE_ROWS};

use super::Task;
use super::cursor::{Cursor, GROUP_BLOCKS, Panel, Tiles, forward_cursor};
use super::few::multiply_tiles;
use super::kernel::{Kernel, Spread};
use super::many::multiply_panels;
use crate::lanes::Lanes;
use crate::{Linear, Quantized};

const QUADS: usize = BLOCK / 4;
/// 16 rows of 4 bytes.
const ROW_BYTES: usize = TILE_ROWS * 4;
/// Bytes of one block of a panel: even and odd columns of each quad.
const BLOCK_BYTES: usize = QUADS * 2 * ROW_BYTES;

/// `H` vectors hold the 16 rows; `R` rows of x are taken at once, as many as the registers hold.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn run<L: Lanes, const H: usize, const R: usize>(
    task: Task<'_>,
    groups: Range<usize>,
    panels: &mut [u8],
) {
    assert_eq!(H * L::ROWS, TILE_ROWS, "H vectors hold a row group");
    let tiles = |g| Tiles::new(task.weights, g);
    // SAFETY: as for this function.
    unsafe {
        // Few rows are multiplied with the tiles as they are, many with panels: unpacking costs as
        // much as three rows.
        if task.x.rows > R / 2 {
            return multiply_panels::<Words, L, H, R, BLOCK_BYTES>(task, groups, panels);
        }
        match task.weights.shape().format {
            WeightFormat::I8 => {
                multiply_tiles::<Words, L, H, R, _>(task, groups, |g| I8(tiles(g)));
            }
            WeightFormat::I4 => {
                let tiles = |g| I4::<'_, false>(tiles(g));
                multiply_tiles::<Words, L, H, R, _>(task, groups, tiles);
            }
            WeightFormat::I4Offset => {
                let tiles = |g| I4::<'_, true>(tiles(g));
                multiply_tiles::<Words, L, H, R, _>(task, groups, tiles);
            }
        }
    }
}

/// The weights of a block.
///
/// # Safety
/// The function needs the instruction set of `L`, and a cursor at a block.
trait Wide<L: Lanes, const H: usize>: Cursor {
    /// Columns 0 and 2, then 1 and 3, of quad `j` as 16-bit pairs.
    unsafe fn pairs(&self, j: usize) -> ([L::V; H], [L::V; H]);
}

/// Tiles of 8-bit weights.
#[derive(Clone, Copy)]
struct I8<'a>(Tiles<'a>);

/// Tiles of 4-bit weights.
#[derive(Clone, Copy)]
struct I4<'a, const OFFSETS: bool>(Tiles<'a>);

forward_cursor!(['a] I8<'a>);
forward_cursor!(['a, const OFFSETS: bool] I4<'a, OFFSETS>);

impl<L: Lanes, const H: usize> Wide<L, H> for I8<'_> {
    #[inline(always)]
    unsafe fn pairs(&self, j: usize) -> ([L::V; H], [L::V; H]) {
        let from = self.0.codes.wrapping_add(j * ROW_BYTES);
        // SAFETY: as for the trait.
        unsafe {
            let at = |h: usize| L::load(from.add(h * L::ROWS * 4));
            let multipliers = |h: usize| L::pairs_of_i8(self.0.multipliers.add(h * L::ROWS));
            let even = |v| L::shift_right_signed16::<8>(L::shift_left16::<8>(v));
            let odd = |v| L::shift_right_signed16::<8>(v);
            (
                std::array::from_fn(|h| L::mul16(even(at(h)), multipliers(h))),
                std::array::from_fn(|h| L::mul16(odd(at(h)), multipliers(h))),
            )
        }
    }
}

impl<L: Lanes, const H: usize, const OFFSETS: bool> Wide<L, H> for I4<'_, OFFSETS> {
    #[inline(always)]
    unsafe fn pairs(&self, j: usize) -> ([L::V; H], [L::V; H]) {
        let from = self.0.codes.wrapping_add(j % (QUADS / 2) * ROW_BYTES);
        // SAFETY: as for the trait.
        unsafe {
            let mut quad = ([L::zero(); H], [L::zero(); H]);
            for h in 0..H {
                let stored = L::load(from.add(h * L::ROWS * 4));
                let even = if j < QUADS / 2 { stored } else { L::shift_right16::<4>(stored) };
                let m = L::pairs_of_i8(self.0.multipliers.add(h * L::ROWS));
                // m (q + 8) + (o - 8 m)
                let mut offset = L::mul16(m, L::splat16(-8));
                if OFFSETS {
                    let o = L::pairs_of_i16(self.0.offsets.add(h * L::ROWS * 2));
                    offset = L::add16(offset, o);
                }
                for (to, code) in
                    [(&mut quad.0[h], even), (&mut quad.1[h], L::shift_right16::<8>(even))]
                {
                    *to = L::add16(L::mul16(L::and(code, L::splat16(15)), m), offset);
                }
            }
            quad
        }
    }
}

impl<L: Lanes, const H: usize> Wide<L, H> for Panel<BLOCK_BYTES> {
    #[inline(always)]
    unsafe fn pairs(&self, j: usize) -> ([L::V; H], [L::V; H]) {
        let at = |i: usize, h: usize| self.block.wrapping_add(i * ROW_BYTES + h * L::ROWS * 4);
        // SAFETY: as for the trait.
        unsafe {
            let even = std::array::from_fn(|h| L::load(at(2 * j, h)));
            (even, std::array::from_fn(|h| L::load(at(2 * j + 1, h))))
        }
    }
}

/// Spreads a row group into a panel.
///
/// # Safety
/// The machine has the instruction set of `L`; the tiles have `blocks` blocks.
#[inline(always)]
unsafe fn spread<L: Lanes, const H: usize>(
    blocks: usize,
    mut tiles: impl Wide<L, H>,
    panel: &mut [u8],
) {
    assert!(panel.len() >= blocks * BLOCK_BYTES, "the panel has room");
    for block in 0..blocks {
        // SAFETY: the block exists, and the panel has room for it (asserted above).
        unsafe {
            match block % GROUP_BLOCKS {
                0 => tiles.begin(block / GROUP_BLOCKS),
                _ => tiles.advance(),
            }
            let to = panel.as_mut_ptr().add(block * BLOCK_BYTES);
            for j in 0..QUADS {
                let (even, odd) = tiles.pairs(j);
                for h in 0..H {
                    let to = to.add(2 * j * ROW_BYTES + h * L::ROWS * 4);
                    L::store(to, even[h]);
                    L::store(to.add(ROW_BYTES), odd[h]);
                }
            }
        }
    }
}

/// Products of 16-bit integers.
struct Words;

impl<L: Lanes, const H: usize> Spread<L, H> for Words {
    #[inline(always)]
    unsafe fn spread(weights: &Linear, g: usize, panel: &mut [u8]) {
        let blocks = weights.shape().blocks();
        let tiles = Tiles::new(weights, g);
        // SAFETY: as for the trait; the tiles are those of this format.
        unsafe {
            match weights.shape().format {
                WeightFormat::I8 => spread::<L, H>(blocks, I8(tiles), panel),
                WeightFormat::I4 => spread::<L, H>(blocks, I4::<'_, false>(tiles), panel),
                WeightFormat::I4Offset => spread::<L, H>(blocks, I4::<'_, true>(tiles), panel),
            }
        }
    }
}

impl<L: Lanes, const H: usize, W: Wide<L, H>> Kernel<L, H, W> for Words {
    const X_BYTES: usize = BLOCK * 2;

    fn rows(x: &Quantized) -> *const u8 {
        x.wide.as_ptr().cast()
    }

    #[inline(always)]
    unsafe fn add_block<const T: usize>(
        weights: W,
        rows: &[*const u8; T],
        inner: &mut [[L::V; H]; T],
    ) {
        // SAFETY: as for the trait.
        unsafe {
            for j in 0..QUADS {
                let (even, odd) = weights.pairs(j);
                for (w, at) in [(even, 0), (odd, 4)] {
                    for t in 0..T {
                        let x = L::broadcast(rows[t].add(j * 8 + at));
                        for h in 0..H {
                            inner[t][h] = L::add32(inner[t][h], L::dot_i16(w[h], x));
                        }
                    }
                }
            }
        }
    }
}
