//! a8 rows with VNNI: four byte products per lane and instruction, summed in 32 bits.
//!
//! The instruction multiplies unsigned by signed bytes, so weights are taken with a bias (8 for 4
//! bits, 128 for 8 bits) that the sums of the row's codes remove. Without it the sum of a 4-bit
//! block is at most 8 * 127 * 32 = 32,512, which fits 16 bits: one multiply-add scales it. What is
//! needed of a row is stored ready to be broadcast, as moving it over from a general register takes
//! the place of a product.

mod codes;

use std::arch::x86_64::*;
use std::ops::Range;

use shoal_arith::WeightFormat;
use shoal_arith::limits::BLOCK;

use super::Task;
use super::cursor::{AHEAD_BYTES, Tiles};
use super::few::multiply_tiles_in_order;
use super::kernel::{Kernel, Split, Spread};
use super::many::multiply_panels;
use crate::lanes::{Avx512, Lanes};
use crate::quantized::NarrowBlock;
use crate::{Linear, Quantized};
use codes::{Codes, Stored, spread};

const QUADS: usize = BLOCK / 4;
const VECTOR: usize = 64;
/// Rows of x that one pass takes: what the registers hold.
const R: usize = 8;
/// Rows of x up to which tiles are multiplied as they are. Measured on a Zen 5, two threads, GMAC/s
/// with tiles and with panels: 4 bits, 2 rows 193 and 115, 4 rows 242 and 283, 8 rows 383 and 435;
/// 8 bits, 4 rows 177 and 132, 6 rows 227 and 215, 8 rows 266 and 285.
const FEW_I4: usize = 3;
const FEW_I8: usize = 6;
/// Bytes of one block of a panel: 8 quads, multipliers, offsets, one vector each.
const BLOCK_BYTES: usize = (QUADS + 2) * VECTOR;

/// Multiplies the row groups of `groups`.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn run(task: Task<'_>, groups: Range<usize>, panels: &mut [u8]) {
    let rows = task.x.rows;
    match task.weights.shape().format {
        WeightFormat::I8 if rows <= FEW_I8 => few::<false, false>(task, groups),
        WeightFormat::I8 => many::<false, false>(task, groups, panels),
        WeightFormat::I4 if rows <= FEW_I4 => few::<true, false>(task, groups),
        WeightFormat::I4 => many::<true, false>(task, groups, panels),
        WeightFormat::I4Offset if rows <= FEW_I4 => few::<true, true>(task, groups),
        WeightFormat::I4Offset => many::<true, true>(task, groups, panels),
    }
}

/// Few rows are multiplied with the tiles as they are. A function for each kind, here and below, as
/// registers are given out function by function.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn few<const I4: bool, const OFFSETS: bool>(task: Task<'_>, groups: Range<usize>) {
    let tiles = |g| Stored::<I4>(Tiles::new(task.weights, g));
    // SAFETY: this function has the instruction set.
    unsafe {
        multiply_tiles_in_order::<Bytes<I4, OFFSETS>, Avx512, 1, R, _>(task, groups, tiles);
    }
}

/// Many rows are multiplied with a panel.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn many<const I4: bool, const OFFSETS: bool>(
    task: Task<'_>,
    groups: Range<usize>,
    panels: &mut [u8],
) {
    // SAFETY: this function has the instruction set.
    unsafe {
        multiply_panels::<Bytes<I4, OFFSETS>, Avx512, 1, R, BLOCK_BYTES>(task, groups, panels);
    }
}

/// Byte products; `I4`: whether the weights have 4 bits, `OFFSETS`: whether they have offsets.
struct Bytes<const I4: bool, const OFFSETS: bool>;

impl<const I4: bool, const OFFSETS: bool, W: Codes> Kernel<Avx512, 1, W> for Bytes<I4, OFFSETS> {
    const X_BYTES: usize = size_of::<NarrowBlock>();

    fn rows(x: &Quantized) -> *const u8 {
        x.narrow.as_ptr().cast()
    }

    #[inline(always)]
    unsafe fn add_block<const T: usize>(
        weights: W,
        rows: &[*const u8; T],
        inner: &mut [[__m512i; 1]; T],
    ) {
        // SAFETY: as for the trait.
        unsafe { Self::add_scaled(weights, rows, &Self::dots(weights, rows), inner) }
    }

    /// Of a panel of 4-bit weights two blocks at a time: their sums have 16 bits, so that both are
    /// scaled by one multiplication. Tiles that come from memory are slower so.
    #[inline(always)]
    unsafe fn add_group<const T: usize>(
        weights: &mut W,
        rows: &mut [*const u8; T],
        count: usize,
        inner: &mut [[__m512i; 1]; T],
    ) {
        // SAFETY: as for the trait.
        unsafe {
            if !I4 || !W::IS_NEAR {
                for _ in 0..count {
                    weights.ask_for_block(AHEAD_BYTES);
                    Self::add_block(*weights, rows, inner);
                    weights.advance();
                    *rows = rows.map(|row| row.add(size_of::<NarrowBlock>()));
                }
                return;
            }
            for _ in 0..count / 2 {
                let first = *weights;
                let mut dots = [Self::dots(first, rows); 2];
                weights.advance();
                let next = rows.map(|row| row.add(size_of::<NarrowBlock>()));
                dots[1] = Self::dots(*weights, &next);
                let m = pairs(first.multipliers(), weights.multipliers());
                for t in 0..T {
                    let row = rows[t].cast::<NarrowBlock>();
                    let scales = Avx512::mul16(m, splat(&raw const (*row).two_multipliers));
                    let [first, second] = [dots[0][t][0], dots[1][t][0]];
                    inner[t][0] = _mm512_dpwssd_epi32(inner[t][0], pairs(first, second), scales);
                }
                if OFFSETS {
                    Self::add_offsets(first, rows, inner);
                    Self::add_offsets(*weights, &next, inner);
                }
                weights.advance();
                *rows = next.map(|row| row.add(size_of::<NarrowBlock>()));
            }
            if count % 2 == 1 {
                Self::add_block(*weights, rows, inner);
                weights.advance();
                *rows = rows.map(|row| row.add(size_of::<NarrowBlock>()));
            }
        }
    }
}

impl<const I4: bool, const OFFSETS: bool, W: Codes> Split<Avx512, 1, W> for Bytes<I4, OFFSETS> {
    #[inline(always)]
    unsafe fn dots<const T: usize>(weights: W, rows: &[*const u8; T]) -> [[__m512i; 1]; T] {
        // SAFETY: as for the trait.
        unsafe {
            let mut dots = [[_mm512_setzero_si512(); 1]; T];
            for t in 0..T {
                dots[t][0] = bias::<I4>(rows[t]);
            }
            for j in 0..QUADS {
                let w = weights.quad(j);
                for t in 0..T {
                    let x = Avx512::broadcast(rows[t].add(j * 4));
                    dots[t][0] = _mm512_dpbusd_epi32(dots[t][0], w, x);
                }
            }
            dots
        }
    }

    #[inline(always)]
    unsafe fn add_scaled<const T: usize>(
        weights: W,
        rows: &[*const u8; T],
        dots: &[[__m512i; 1]; T],
        inner: &mut [[__m512i; 1]; T],
    ) {
        // SAFETY: as for the trait.
        unsafe {
            let m = weights.multipliers();
            for t in 0..T {
                let row = rows[t].cast::<NarrowBlock>();
                let scale = Avx512::mul16(m, splat(&raw const (*row).multiplier_pair));
                inner[t][0] = match I4 {
                    true => _mm512_dpwssd_epi32(inner[t][0], dots[t][0], scale),
                    false => Avx512::add32(inner[t][0], _mm512_mullo_epi32(dots[t][0], scale)),
                };
            }
            if OFFSETS {
                Self::add_offsets(weights, rows, inner);
            }
        }
    }
}

impl<const I4: bool, const OFFSETS: bool> Bytes<I4, OFFSETS> {
    /// Adds what the offsets of a block contribute.
    ///
    /// # Safety
    /// As for [`Kernel::add_block`].
    #[inline(always)]
    unsafe fn add_offsets<const T: usize>(
        weights: impl Codes,
        rows: &[*const u8; T],
        inner: &mut [[__m512i; 1]; T],
    ) {
        // SAFETY: as for this function.
        unsafe {
            let o = weights.offsets();
            for t in 0..T {
                let pair = splat(&raw const (*rows[t].cast::<NarrowBlock>()).offset_pair);
                inner[t][0] = _mm512_dpwssd_epi32(inner[t][0], o, pair);
            }
        }
    }
}

/// The low halves of `a` beside those of `b`.
///
/// # Safety
/// The machine has AVX-512.
#[inline(always)]
unsafe fn pairs(a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: as for this function.
    unsafe { _mm512_mask_mov_epi16(a, 0xaaaa_aaaa, _mm512_slli_epi32::<16>(b)) }
}

/// What the sum of a block starts with.
///
/// # Safety
/// The machine has AVX-512; `row` points to a block.
#[inline(always)]
unsafe fn bias<const I4: bool>(row: *const u8) -> __m512i {
    let row = row.cast::<NarrowBlock>();
    // SAFETY: as for this function.
    unsafe {
        match I4 {
            true => splat(&raw const (*row).bias_i4),
            false => splat(&raw const (*row).bias_i8),
        }
    }
}

/// # Safety
/// The machine has AVX-512; `x` can be read.
#[inline(always)]
unsafe fn splat(x: *const i32) -> __m512i {
    // SAFETY: as for this function.
    unsafe { Avx512::broadcast(x.cast()) }
}

impl<const I4: bool, const OFFSETS: bool> Spread<Avx512, 1> for Bytes<I4, OFFSETS> {
    #[inline(always)]
    unsafe fn spread(weights: &Linear, g: usize, panel: &mut [u8]) {
        // SAFETY: as for the trait.
        unsafe { spread::<I4, OFFSETS>(weights, g, panel) }
    }
}
