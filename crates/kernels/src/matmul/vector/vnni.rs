//! a8 rows with VNNI: four byte products per lane and instruction, summed in 32 bits.
//!
//! The instruction multiplies unsigned by signed bytes, so weights are taken with a bias (8 for 4
//! bits, 128 for 8 bits) that the sums of the row's codes remove.

use std::arch::x86_64::*;
use std::ops::Range;

use shoal_arith::WeightFormat;
use shoal_arith::limits::{BLOCK, GROUP, TILE_ROWS};

use super::{Task, finish, passes, with_rows};
use crate::Linear;
use crate::lanes::{Avx512, Lanes};
use crate::quantized::NarrowBlock;

const QUADS: usize = BLOCK / 4;
const GROUP_BLOCKS: usize = GROUP / BLOCK;
const VECTOR: usize = 64;
/// Rows of x that one pass takes: what the registers hold.
const ROWS_AT_ONCE: usize = 8;
/// Bytes of one block of a panel: 8 quads, multipliers, offsets, one vector each.
const BLOCK_BYTES: usize = (QUADS + 2) * VECTOR;

/// Multiplies the row groups of `groups`.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) fn run(task: Task<'_>, groups: Range<usize>, panel: &mut [u8]) {
    let with_offsets = task.weights.shape().format == WeightFormat::I4Offset;
    for g in groups {
        spread(task.weights, g, panel);
        for (first, rows) in passes(task.x.rows, task.x.rows.div_ceil(ROWS_AT_ONCE)) {
            match with_offsets {
                false => {
                    with_rows!(rows, ROWS_AT_ONCE, T => pass::<T, false>(task, g, first, panel))
                }
                true => with_rows!(rows, ROWS_AT_ONCE, T => pass::<T, true>(task, g, first, panel)),
            }
        }
    }
}

/// What is added to weight codes to make them unsigned.
const fn bias(format: WeightFormat) -> i32 {
    match format {
        WeightFormat::I8 => 128,
        WeightFormat::I4 | WeightFormat::I4Offset => 8,
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn spread(weights: &Linear, g: usize, panel: &mut [u8]) {
    let shape = weights.shape();
    assert!(panel.len() >= shape.blocks() * BLOCK_BYTES, "the panel has room");
    let mut to = panel.as_mut_ptr();
    for c in 0..shape.tile_columns() {
        let layout = shape.tile(c);
        let tile = weights.tile(g, c).as_ptr();
        for b in 0..layout.blocks {
            // SAFETY: the tile holds the block; the panel has room for it (asserted above).
            unsafe {
                spread_codes(shape.format, tile.add(b * layout.block_bytes), to);
                let row = b * TILE_ROWS;
                let m = _mm_loadu_si128(tile.add(layout.multipliers_at + row).cast());
                Avx512::store(to.add(QUADS * VECTOR), _mm512_cvtepi8_epi32(m));
                if shape.format == WeightFormat::I4Offset {
                    let o = Avx512::pairs_of_i16(tile.add(layout.offsets_at + row * 2));
                    Avx512::store(to.add((QUADS + 1) * VECTOR), o);
                }
                to = to.add(BLOCK_BYTES);
            }
        }
    }
}

/// # Safety
/// `codes` points to a block of a tile, `to` has room for 8 vectors.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn spread_codes(format: WeightFormat, codes: *const u8, to: *mut u8) {
    // SAFETY: as for this function.
    unsafe {
        match format {
            WeightFormat::I8 => {
                for j in 0..QUADS {
                    let v = Avx512::load(codes.add(j * VECTOR));
                    let v = _mm512_xor_si512(v, _mm512_set1_epi8(i8::MIN));
                    Avx512::store(to.add(j * VECTOR), v);
                }
            }
            WeightFormat::I4 | WeightFormat::I4Offset => {
                let mask = _mm512_set1_epi8(15);
                for j in 0..QUADS / 2 {
                    let v = Avx512::load(codes.add(j * VECTOR));
                    let high = _mm512_and_si512(_mm512_srli_epi16::<4>(v), mask);
                    Avx512::store(to.add(j * VECTOR), _mm512_and_si512(v, mask));
                    Avx512::store(to.add((j + QUADS / 2) * VECTOR), high);
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn pass<const T: usize, const OFFSETS: bool>(task: Task<'_>, g: usize, first: usize, panel: &[u8]) {
    let x = task.x;
    let blocks = task.weights.shape().blocks();
    let groups = x.columns.div_ceil(GROUP);
    let unbias = -bias(task.weights.shape().format);
    let mut sums = [[0.0_f64; TILE_ROWS]; T];
    // SAFETY: rows first .. first + T exist, with `blocks` blocks and `groups` groups; the panel
    // holds `blocks` blocks.
    unsafe {
        let multipliers = x.group_multipliers.as_ptr().add(first * groups);
        let mut weights = panel.as_ptr();
        let mut rows = [x.narrow.as_ptr(); T];
        for (t, row) in rows.iter_mut().enumerate() {
            *row = row.add((first + t) * blocks);
        }
        for group in 0..groups {
            let mut inner = [_mm512_setzero_si512(); T];
            for _ in 0..GROUP_BLOCKS.min(blocks - group * GROUP_BLOCKS) {
                for_block::<T, OFFSETS>(&rows, weights, unbias, &mut inner);
                weights = weights.add(BLOCK_BYTES);
                for row in &mut rows {
                    *row = row.add(1);
                }
            }
            for t in 0..T {
                let n = *multipliers.add(t * groups + group);
                Avx512::accumulate(sums[t].as_mut_ptr(), inner[t], n);
            }
        }
        finish::<Avx512, T>(task, first, g, &sums);
    }
}

/// # Safety
/// `weights` points to a block of a panel, `rows` to blocks.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn for_block<const T: usize, const OFFSETS: bool>(
    rows: &[*const NarrowBlock; T],
    weights: *const u8,
    unbias: i32,
    inner: &mut [__m512i; T],
) {
    // SAFETY: as for this function.
    unsafe {
        let mut dots = [_mm512_setzero_si512(); T];
        for t in 0..T {
            dots[t] = _mm512_set1_epi32((*rows[t]).sum * unbias);
        }
        for j in 0..QUADS {
            let w = Avx512::load(weights.add(j * VECTOR));
            for t in 0..T {
                let codes: *const u8 = rows[t].cast();
                dots[t] = _mm512_dpbusd_epi32(dots[t], w, Avx512::broadcast(codes.add(j * 4)));
            }
        }
        let m = Avx512::load(weights.add(QUADS * VECTOR));
        for t in 0..T {
            // The low half of the pair (r, r).
            let r = _mm512_set1_epi32((*rows[t]).multiplier_pair & 0xffff);
            let scaled = _mm512_mullo_epi32(dots[t], _mm512_mullo_epi32(m, r));
            inner[t] = _mm512_add_epi32(inner[t], scaled);
            if OFFSETS {
                let o = Avx512::load(weights.add((QUADS + 1) * VECTOR));
                let pair = _mm512_set1_epi32((*rows[t]).offset_pair);
                inner[t] = _mm512_add_epi32(inner[t], _mm512_madd_epi16(o, pair));
            }
        }
    }
}
