//! 8 lanes: 6 rows of 2 vectors fill 12 of 16 registers.

use std::arch::x86_64::*;

use super::Start;
use super::tile::{Left, Micro, Output};

pub(super) struct Avx2;

const VECTORS: usize = 2;
const LANES: usize = 8;

type Tile = unsafe fn(usize, Left, *const f32, Output, Start);
/// By the number of rows, less 1.
const TILES: [Tile; 6] = [tile::<1>, tile::<2>, tile::<3>, tile::<4>, tile::<5>, tile::<6>];

impl Micro for Avx2 {
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
#[target_feature(enable = "avx2,fma")]
unsafe fn tile<const ROWS: usize>(depth: usize, a: Left, b: *const f32, c: Output, start: Start) {
    // SAFETY: the caller's promise: every element that is read or written is inside.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
        if start == Start::Output {
            for (r, sums) in sums.iter_mut().enumerate() {
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm256_loadu_ps(c.start.add(r * c.stride + v * LANES));
                }
            }
        }
        // The last steps go past the end, where nothing is read.
        let (mut a_at, mut b_at) = (a.start, b);
        for _ in 0..depth {
            let b = [_mm256_loadu_ps(b_at), _mm256_loadu_ps(b_at.add(LANES))];
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_set1_ps(*a_at.add(r * a.row));
                sums[0] = _mm256_fmadd_ps(a, b[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(a, b[1], sums[1]);
            }
            (a_at, b_at) = (a_at.wrapping_add(a.step), b_at.wrapping_add(VECTORS * LANES));
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(c.start.add(r * c.stride + v * LANES), sum);
            }
        }
    }
}
