//! 16 lanes: 14 rows of 2 vectors fill 28 of 32 registers.

use std::arch::x86_64::*;

use super::Start;
use super::tile::{Left, Micro, Output};

pub(super) struct Avx512;

const VECTORS: usize = 2;
const LANES: usize = 16;

type Tile = unsafe fn(usize, Left, *const f32, Output, Start);
/// By the number of rows, less 1.
const TILES: [Tile; 14] = [
    tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>, tile::<7>, tile::<8>,
    tile::<9>, tile::<10>, tile::<11>, tile::<12>, tile::<13>, tile::<14>,
];

impl Micro for Avx512 {
    const ROWS: usize = TILES.len();
    const COLUMNS: usize = VECTORS * LANES;

    #[inline(always)]
    unsafe fn tile(rows: usize, depth: usize, a: Left, b: *const f32, c: Output, start: Start) {
        // SAFETY: the caller's promise.
        unsafe { TILES[rows - 1](depth, a, b, c, start) }
    }
}

/// # Safety
/// As [`Micro::tile`].
#[target_feature(enable = "avx512f")]
unsafe fn tile<const ROWS: usize>(depth: usize, a: Left, b: *const f32, c: Output, start: Start) {
    // SAFETY: the caller's promise: every element that is read or written is inside.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        if start == Start::Output {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(c.start.add(r * c.stride + v * LANES));
                }
            }
        }
        // The last steps go past the end, where nothing is read.
        let (mut a_at, mut b_at) = (a.start, b);
        for _ in 0..depth {
            let b = [_mm512_loadu_ps(b_at), _mm512_loadu_ps(b_at.add(LANES))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a_at.add(r * a.row));
                sums[0] = _mm512_fmadd_ps(a, b[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(a, b[1], sums[1]);
            }
            (a_at, b_at) = (a_at.wrapping_add(a.step), b_at.wrapping_add(VECTORS * LANES));
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(c.start.add(r * c.stride + v * LANES), sum);
            }
        }
    }
}
