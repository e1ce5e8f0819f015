//! 4-bit weights with a8 rows: byte products summed in 16 bits.
//!
//! A block's 32 products per row are at most 15 * 127 each and fall into two 16-bit sums of 16, at
//! most 30,480 each, so no sum saturates. One multiply-add by (m r, m r) then scales the block and
//! widens it to 32 bits at once.

use std::ops::Range;

use shoal_arith::WeightFormat;
use shoal_arith::limits::{BLOCK, TILE_ROWS};

use super::Task;
use super::cursor::{Cursor, GROUP_BLOCKS, Panel, Tiles};
use super::few::multiply_tiles_in_order;
use super::kernel::{Kernel, Split, Spread};
use super::many::multiply_panels;
use crate::lanes::Lanes;

use crate::quantized::NarrowBlock;
use crate::{Linear, Quantized};

const QUADS: usize = BLOCK / 4;
/// 16 rows of 4 bytes.
const ROW_BYTES: usize = TILE_ROWS * 4;
/// Bytes of one block of a panel: 8 quads, the multiplier pairs, the offset pairs.
const BLOCK_BYTES: usize = (QUADS + 2) * ROW_BYTES;

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
    // SAFETY: as for this function.
    unsafe {
        match task.weights.shape().format {
            WeightFormat::I4Offset => row_groups::<L, H, R, true>(task, groups, panels),
            _ => row_groups::<L, H, R, false>(task, groups, panels),
        }
    }
}

/// Few rows are multiplied with the tiles as they are, many with a panel.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
unsafe fn row_groups<L: Lanes, const H: usize, const R: usize, const OFFSETS: bool>(
    task: Task<'_>,
    groups: Range<usize>,
    panels: &mut [u8],
) {
    // SAFETY: as for this function.
    unsafe {
        // Unpacking twice is cheaper than writing and reading a panel.
        if task.x.rows <= 2 * R {
            let tiles = |g| Tiles::new(task.weights, g);
            return multiply_tiles_in_order::<Bytes<OFFSETS>, L, H, R, _>(task, groups, tiles);
        }
        multiply_panels::<Bytes<OFFSETS>, L, H, R, BLOCK_BYTES>(task, groups, panels);
    }
}

/// The weights of a block.
///
/// # Safety
/// Every function needs the instruction set of `L`, and a cursor at a block.
trait Narrow<L: Lanes, const H: usize>: Cursor {
    /// Quads `j` and `j + 4`, codes + 8 as bytes.
    unsafe fn quads(&self, j: usize) -> ([L::V; H], [L::V; H]);
    /// The multipliers in pairs.
    unsafe fn multipliers(&self, h: usize) -> L::V;
    /// The offsets in pairs.
    unsafe fn offsets(&self, h: usize) -> L::V;
}

impl<L: Lanes, const H: usize> Narrow<L, H> for Tiles<'_> {
    #[inline(always)]
    unsafe fn quads(&self, j: usize) -> ([L::V; H], [L::V; H]) {
        let from = self.codes.wrapping_add(j * ROW_BYTES);
        // SAFETY: as for the trait.
        unsafe {
            let mask = L::splat8(15);
            let stored: [L::V; H] = std::array::from_fn(|h| L::load(from.add(h * L::ROWS * 4)));
            let low = stored.map(|v| L::and(v, mask));
            (low, stored.map(|v| L::and(L::shift_right16::<4>(v), mask)))
        }
    }
    #[inline(always)]
    unsafe fn multipliers(&self, h: usize) -> L::V {
        // SAFETY: as for the trait.
        unsafe { L::pairs_of_i8(self.multipliers.add(h * L::ROWS)) }
    }
    #[inline(always)]
    unsafe fn offsets(&self, h: usize) -> L::V {
        // SAFETY: as for the trait.
        unsafe { L::pairs_of_i16(self.offsets.add(h * L::ROWS * 2)) }
    }
}

impl<L: Lanes, const H: usize> Narrow<L, H> for Panel<BLOCK_BYTES> {
    #[inline(always)]
    unsafe fn quads(&self, j: usize) -> ([L::V; H], [L::V; H]) {
        let at = |j: usize, h: usize| self.block.wrapping_add(j * ROW_BYTES + h * L::ROWS * 4);
        // SAFETY: as for the trait.
        unsafe {
            let low = std::array::from_fn(|h| L::load(at(j, h)));
            (low, std::array::from_fn(|h| L::load(at(j + QUADS / 2, h))))
        }
    }
    #[inline(always)]
    unsafe fn multipliers(&self, h: usize) -> L::V {
        // SAFETY: as for the trait.
        unsafe { L::load(self.block.add(QUADS * ROW_BYTES + h * L::ROWS * 4)) }
    }
    #[inline(always)]
    unsafe fn offsets(&self, h: usize) -> L::V {
        // SAFETY: as for the trait.
        unsafe { L::load(self.block.add((QUADS + 1) * ROW_BYTES + h * L::ROWS * 4)) }
    }
}

/// Spreads row group `g` into a panel: for each block the codes + 8 as bytes, quad by quad, then
/// the multipliers and the offsets in pairs, 16 rows each.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
unsafe fn spread<L: Lanes, const H: usize, const OFFSETS: bool>(
    weights: &Linear,
    g: usize,
    panel: &mut [u8],
) {
    let blocks = weights.shape().blocks();
    assert!(panel.len() >= blocks * BLOCK_BYTES, "the panel has room");
    let mut tiles = Tiles::new(weights, g);
    for block in 0..blocks {
        // SAFETY: the block exists, and the panel has room for it (asserted above).
        unsafe {
            match block % GROUP_BLOCKS {
                0 => tiles.begin(block / GROUP_BLOCKS),
                _ => tiles.advance(),
            }
            let to = panel.as_mut_ptr().add(block * BLOCK_BYTES);
            spread_block::<L, H, OFFSETS>(tiles, to);
        }
    }
}

/// # Safety
/// The machine has the instruction set of `L`; the block exists, `to` has room.
#[inline(always)]
unsafe fn spread_block<L: Lanes, const H: usize, const OFFSETS: bool>(
    block: impl Narrow<L, H>,
    to: *mut u8,
) {
    // SAFETY: as for this function.
    unsafe {
        for j in 0..QUADS / 2 {
            let (low, high) = block.quads(j);
            for h in 0..H {
                let to = to.add(h * L::ROWS * 4);
                L::store(to.add(j * ROW_BYTES), low[h]);
                L::store(to.add((j + QUADS / 2) * ROW_BYTES), high[h]);
            }
        }
        for h in 0..H {
            let to = to.add(QUADS * ROW_BYTES + h * L::ROWS * 4);
            L::store(to, block.multipliers(h));
            if OFFSETS {
                L::store(to.add(ROW_BYTES), block.offsets(h));
            }
        }
    }
}

/// Byte products; `OFFSETS`: whether the weights have them.
struct Bytes<const OFFSETS: bool>;

impl<L: Lanes, const H: usize, const OFFSETS: bool, W: Narrow<L, H>> Kernel<L, H, W>
    for Bytes<OFFSETS>
{
    const X_BYTES: usize = size_of::<NarrowBlock>();

    fn rows(x: &Quantized) -> *const u8 {
        x.narrow.as_ptr().cast()
    }

    #[inline(always)]
    unsafe fn add_block<const T: usize>(
        weights: W,
        rows: &[*const u8; T],
        inner: &mut [[L::V; H]; T],
    ) {
        // SAFETY: as for the trait.
        unsafe { Self::add_scaled(weights, rows, &Self::dots(weights, rows), inner) }
    }
}

impl<L: Lanes, const H: usize, const OFFSETS: bool, W: Narrow<L, H>> Split<L, H, W>
    for Bytes<OFFSETS>
{
    #[inline(always)]
    unsafe fn dots<const T: usize>(weights: W, rows: &[*const u8; T]) -> [[L::V; H]; T] {
        // SAFETY: as for the trait.
        unsafe {
            let mut sums = [[L::zero(); H]; T];
            for t in 0..T {
                let row = rows[t].cast::<NarrowBlock>();
                sums[t] = [pair::<L>(&raw const (*row).bias_pair); H];
            }
            for j in 0..QUADS / 2 {
                let (low, high) = weights.quads(j);
                for (w, j) in [(low, j), (high, j + QUADS / 2)] {
                    for t in 0..T {
                        let x = L::broadcast(rows[t].add(j * 4));
                        for h in 0..H {
                            sums[t][h] = L::add16(sums[t][h], L::dot_u8i8(w[h], x));
                        }
                    }
                }
            }
            sums
        }
    }

    #[inline(always)]
    unsafe fn add_scaled<const T: usize>(
        weights: W,
        rows: &[*const u8; T],
        dots: &[[L::V; H]; T],
        inner: &mut [[L::V; H]; T],
    ) {
        // SAFETY: as for the trait.
        unsafe {
            for h in 0..H {
                let multipliers = weights.multipliers(h);
                for ((row, dots), inner) in rows.iter().zip(dots).zip(inner.iter_mut()) {
                    let row = row.cast::<NarrowBlock>();
                    let r = pair::<L>(&raw const (*row).multiplier_pair);
                    let scale = L::mul16(multipliers, r);
                    inner[h] = L::add32(inner[h], L::dot_i16(dots[h], scale));
                }
                if OFFSETS {
                    let offsets = weights.offsets(h);
                    for (row, inner) in rows.iter().zip(inner.iter_mut()) {
                        let row = row.cast::<NarrowBlock>();
                        let sum = pair::<L>(&raw const (*row).offset_pair);
                        inner[h] = L::add32(inner[h], L::dot_i16(offsets, sum));
                    }
                }
            }
        }
    }
}

/// Two i16 of a row in every lane.
///
/// # Safety
/// The machine has the instruction set of `L`; `pair` can be read.
#[inline(always)]
unsafe fn pair<L: Lanes>(pair: *const i32) -> L::V {
    // SAFETY: as for this function.
    unsafe { L::broadcast(pair.cast()) }
}

impl<L: Lanes, const H: usize, const OFFSETS: bool> Spread<L, H> for Bytes<OFFSETS> {
    #[inline(always)]
    unsafe fn spread(weights: &Linear, g: usize, panel: &mut [u8]) {
        // SAFETY: as for the trait.
        unsafe { spread::<L, H, OFFSETS>(weights, g, panel) }
    }
}
