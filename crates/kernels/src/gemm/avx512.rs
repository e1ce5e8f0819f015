//! 16 lanes: 14 rows of 2 vectors fill 28 of 32 registers.

use std::arch::x86_64::*;

use super::Micro;

pub(super) struct Avx512;

const ROWS: usize = 14;
const VECTORS: usize = 2;
const LANES: usize = 16;

impl Micro for Avx512 {
    const ROWS: usize = ROWS;
    const COLUMNS: usize = VECTORS * LANES;

    #[inline(always)]
    unsafe fn tile(depth: usize, a: *const f32, b: *const f32, c: *mut f32, stride: usize) {
        // SAFETY: the caller's promise.
        unsafe { tile(depth, a, b, c, stride) }
    }
}

/// # Safety
/// As [`Micro::tile`].
#[target_feature(enable = "avx512f")]
unsafe fn tile(depth: usize, a: *const f32, b: *const f32, c: *mut f32, stride: usize) {
    // SAFETY: the caller's promise: every address below is inside a panel or a row of c.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        for (r, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = _mm512_loadu_ps(c.add(r * stride + v * LANES));
            }
        }
        for k in 0..depth {
            let b = b.add(k * VECTORS * LANES);
            let b = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(LANES))];
            let a = a.add(k * ROWS);
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a.add(r));
                sums[0] = _mm512_fmadd_ps(a, b[0], sums[0]);
                sums[1] = _mm512_fmadd_ps(a, b[1], sums[1]);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                _mm512_storeu_ps(c.add(r * stride + v * LANES), sum);
            }
        }
    }
}
