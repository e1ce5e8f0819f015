//! 8 lanes: 6 rows of 2 vectors fill 12 of 16 registers.

use std::arch::x86_64::*;

use super::Micro;

pub(super) struct Avx2;

const ROWS: usize = 6;
const VECTORS: usize = 2;
const LANES: usize = 8;

impl Micro for Avx2 {
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
#[target_feature(enable = "avx2,fma")]
unsafe fn tile(depth: usize, a: *const f32, b: *const f32, c: *mut f32, stride: usize) {
    // SAFETY: the caller's promise: every address below is inside a panel or a row of c.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); VECTORS]; ROWS];
        for (r, sums) in sums.iter_mut().enumerate() {
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_loadu_ps(c.add(r * stride + v * LANES));
            }
        }
        for k in 0..depth {
            let b = b.add(k * VECTORS * LANES);
            let b = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(LANES))];
            let a = a.add(k * ROWS);
            for (r, sums) in sums.iter_mut().enumerate() {
                let a = _mm256_set1_ps(*a.add(r));
                sums[0] = _mm256_fmadd_ps(a, b[0], sums[0]);
                sums[1] = _mm256_fmadd_ps(a, b[1], sums[1]);
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            for (v, &sum) in sums.iter().enumerate() {
                _mm256_storeu_ps(c.add(r * stride + v * LANES), sum);
            }
        }
    }
}
