//! a8 rows with VNNI: four byte products per lane and instruction, summed in 32 bits.
//!
//! The instruction multiplies unsigned by signed bytes, so weights are taken with a bias (8 for 4
//! bits, 128 for 8 bits) that the sums of the row's codes remove. Without it the sum of a 4-bit
//! block is at most 8 * 127 * 32 = 32,512, which fits 16 bits: one multiply-add scales it.

use std::arch::x86_64::*;
use std::ops::Range;

use shoal_arith::WeightFormat;
use shoal_arith::limits::BLOCK;

use super::cursor::{AHEAD_BYTES, Cursor, GROUP_BLOCKS, Panel, Tiles};
use super::{Kernel, Spread, Task, multiply_panels, multiply_tiles};
use crate::lanes::{Avx512, Lanes, prefetch};
use crate::quantized::NarrowBlock;
use crate::{Linear, Quantized};

const QUADS: usize = BLOCK / 4;
const VECTOR: usize = 64;
/// Rows of x that one pass takes: what the registers hold.
const R: usize = 8;
/// Bytes of one block of a panel: 8 quads, multipliers, offsets, one vector each.
const BLOCK_BYTES: usize = (QUADS + 2) * VECTOR;

/// Multiplies the row groups of `groups`.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn run(task: Task<'_>, groups: Range<usize>, panels: &mut [u8]) {
    // SAFETY: this function has the instruction set.
    unsafe {
        match task.weights.shape().format {
            WeightFormat::I8 => row_groups::<false, false>(task, groups, panels),
            WeightFormat::I4 => row_groups::<true, false>(task, groups, panels),
            WeightFormat::I4Offset => row_groups::<true, true>(task, groups, panels),
        }
    }
}

/// Few rows are multiplied with the tiles as they are, many with a panel.
///
/// # Safety
/// The machine has AVX-512 VNNI.
#[inline(always)]
unsafe fn row_groups<const I4: bool, const OFFSETS: bool>(
    task: Task<'_>,
    groups: Range<usize>,
    panels: &mut [u8],
) {
    // SAFETY: as for this function.
    unsafe {
        if task.x.rows <= R {
            let tiles = |g| Stored::<I4>(Tiles::new(task.weights, g));
            return multiply_tiles::<Bytes<I4, OFFSETS>, Avx512, 1, R, _>(task, groups, tiles);
        }
        multiply_panels::<Bytes<I4, OFFSETS>, Avx512, 1, R, BLOCK_BYTES>(task, groups, panels);
    }
}

/// The weights of a block.
///
/// # Safety
/// Every function needs AVX-512, and a cursor at a block.
trait Codes: Cursor {
    /// Quad `j` with the bias, as bytes.
    unsafe fn quad(&self, j: usize) -> __m512i;
    /// The multipliers in pairs.
    unsafe fn multipliers(&self) -> __m512i;
    /// The offsets in pairs.
    unsafe fn offsets(&self) -> __m512i;
}

/// Tiles as they are stored.
#[derive(Clone, Copy)]
struct Stored<'a, const I4: bool>(Tiles<'a>);

impl<const I4: bool> Cursor for Stored<'_, I4> {
    #[inline(always)]
    unsafe fn begin(&mut self, group: usize) {
        // SAFETY: as for the trait.
        unsafe { self.0.begin(group) }
    }
    #[inline(always)]
    unsafe fn advance(&mut self) {
        // SAFETY: as for the trait.
        unsafe { self.0.advance() }
    }
}

impl<const I4: bool> Codes for Stored<'_, I4> {
    #[inline(always)]
    unsafe fn quad(&self, j: usize) -> __m512i {
        let high = I4 && j >= QUADS / 2;
        let from = self.0.codes.wrapping_add(if high { j - QUADS / 2 } else { j } * VECTOR);
        if !high {
            prefetch(from.wrapping_add(AHEAD_BYTES));
        }
        // SAFETY: as for the trait.
        unsafe {
            let v = Avx512::load(from);
            match (I4, high) {
                (false, _) => _mm512_xor_si512(v, _mm512_set1_epi8(i8::MIN)),
                (true, false) => Avx512::and(v, Avx512::splat8(15)),
                (true, true) => Avx512::and(Avx512::shift_right16::<4>(v), Avx512::splat8(15)),
            }
        }
    }
    #[inline(always)]
    unsafe fn multipliers(&self) -> __m512i {
        // SAFETY: as for the trait.
        unsafe { Avx512::pairs_of_i8(self.0.multipliers) }
    }
    #[inline(always)]
    unsafe fn offsets(&self) -> __m512i {
        // SAFETY: as for the trait.
        unsafe { Avx512::pairs_of_i16(self.0.offsets) }
    }
}

impl Codes for Panel<BLOCK_BYTES> {
    #[inline(always)]
    unsafe fn quad(&self, j: usize) -> __m512i {
        // SAFETY: as for the trait.
        unsafe { Avx512::load(self.block.wrapping_add(j * VECTOR)) }
    }
    #[inline(always)]
    unsafe fn multipliers(&self) -> __m512i {
        // SAFETY: as for the trait.
        unsafe { self.quad(QUADS) }
    }
    #[inline(always)]
    unsafe fn offsets(&self) -> __m512i {
        // SAFETY: as for the trait.
        unsafe { self.quad(QUADS + 1) }
    }
}

/// Spreads row group `g` into a panel: for each block the quads with the bias, then the multipliers
/// and the offsets in pairs.
///
/// # Safety
/// The machine has AVX-512.
#[inline(always)]
unsafe fn spread<const I4: bool, const OFFSETS: bool>(
    weights: &Linear,
    g: usize,
    panel: &mut [u8],
) {
    let blocks = weights.shape().blocks();
    assert!(panel.len() >= blocks * BLOCK_BYTES, "the panel has room");
    let mut tiles = Stored::<I4>(Tiles::new(weights, g));
    for block in 0..blocks {
        // SAFETY: the block exists, and the panel has room for it (asserted above).
        unsafe {
            match block % GROUP_BLOCKS {
                0 => tiles.begin(block / GROUP_BLOCKS),
                _ => tiles.advance(),
            }
            let to = panel.as_mut_ptr().add(block * BLOCK_BYTES);
            for j in 0..QUADS {
                Avx512::store(to.add(j * VECTOR), tiles.quad(j));
            }
            Avx512::store(to.add(QUADS * VECTOR), tiles.multipliers());
            if OFFSETS {
                Avx512::store(to.add((QUADS + 1) * VECTOR), tiles.offsets());
            }
        }
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
        unsafe { add_block::<T, I4, OFFSETS>(&rows.map(|row| row.cast()), weights, inner) }
    }
}

impl<const I4: bool, const OFFSETS: bool> Spread<Avx512, 1> for Bytes<I4, OFFSETS> {
    #[inline(always)]
    unsafe fn spread(weights: &Linear, g: usize, panel: &mut [u8]) {
        // SAFETY: as for the trait.
        unsafe { spread::<I4, OFFSETS>(weights, g, panel) }
    }
}

/// # Safety
/// The machine has AVX-512 VNNI; `weights` is at a block, `rows` point to blocks.
#[inline(always)]
unsafe fn add_block<const T: usize, const I4: bool, const OFFSETS: bool>(
    rows: &[*const NarrowBlock; T],
    weights: impl Codes,
    inner: &mut [[__m512i; 1]; T],
) {
    let bias = if I4 { 8 } else { 128 };
    // SAFETY: as for this function.
    unsafe {
        let mut dots: [__m512i; T] =
            std::array::from_fn(|t| _mm512_set1_epi32((*rows[t]).sum * -bias));
        for j in 0..QUADS {
            let w = weights.quad(j);
            for t in 0..T {
                let x = Avx512::broadcast(rows[t].cast::<u8>().add(j * 4));
                dots[t] = _mm512_dpbusd_epi32(dots[t], w, x);
            }
        }
        let m = weights.multipliers();
        for t in 0..T {
            // (r, 0)
            let r = _mm512_set1_epi32((*rows[t]).multiplier_pair & 0xffff);
            let scaled = match I4 {
                true => Avx512::dot_i16(dots[t], Avx512::mul16(m, r)),
                false => _mm512_mullo_epi32(dots[t], Avx512::dot_i16(m, r)),
            };
            inner[t][0] = Avx512::add32(inner[t][0], scaled);
        }
        if OFFSETS {
            let o = weights.offsets();
            for t in 0..T {
                let pair = _mm512_set1_epi32((*rows[t]).offset_pair);
                inner[t][0] = Avx512::add32(inner[t][0], Avx512::dot_i16(o, pair));
            }
        }
    }
}
