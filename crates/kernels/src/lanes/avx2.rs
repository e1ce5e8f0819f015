//! 8 lanes.

use std::arch::x86_64::*;

use shoal_arith::limits::SMALLEST;

use super::Lanes;

/// AVX2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx2;

#[inline(always)]
unsafe fn flush(y: __m256) -> __m256 {
    // SAFETY: the callers run with AVX2.
    unsafe {
        let magnitude = _mm256_andnot_ps(_mm256_set1_ps(-0.0), y);
        // "Not below", so that NaN stays.
        let keep = _mm256_cmp_ps::<_CMP_NLT_UQ>(magnitude, _mm256_set1_ps(SMALLEST));
        _mm256_and_ps(y, keep)
    }
}

// SAFETY (for every block below): the caller of a `Lanes` function has AVX2 and valid pointers.
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, stated above")]
impl Lanes for Avx2 {
    const ROWS: usize = 8;
    type V = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut u8, v: __m256i) {
        unsafe { _mm256_storeu_si256(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const u8) -> __m256i {
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn splat8(x: i8) -> __m256i {
        unsafe { _mm256_set1_epi8(x) }
    }
    #[inline(always)]
    unsafe fn splat16(x: i16) -> __m256i {
        unsafe { _mm256_set1_epi16(x) }
    }
    #[inline(always)]
    unsafe fn and(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn shift_right16<const N: i32>(a: __m256i) -> __m256i {
        unsafe { _mm256_srli_epi16::<N>(a) }
    }
    #[inline(always)]
    unsafe fn shift_right_signed16<const N: i32>(a: __m256i) -> __m256i {
        unsafe { _mm256_srai_epi16::<N>(a) }
    }
    #[inline(always)]
    unsafe fn shift_left16<const N: i32>(a: __m256i) -> __m256i {
        unsafe { _mm256_slli_epi16::<N>(a) }
    }
    #[inline(always)]
    unsafe fn add16(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn add32(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul16(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_mullo_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn dot_u8i8(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_maddubs_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn dot_i16(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_madd_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn pairs_of_i8(from: *const u8) -> __m256i {
        unsafe {
            let v = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
            _mm256_blend_epi16::<0b1010_1010>(v, _mm256_slli_epi32::<16>(v))
        }
    }
    #[inline(always)]
    unsafe fn pairs_of_i16(from: *const u8) -> __m256i {
        unsafe {
            let v = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_or_si256(v, _mm256_slli_epi32::<16>(v))
        }
    }
    #[inline(always)]
    unsafe fn accumulate(sums: *mut f64, v: __m256i, n: f64) {
        unsafe {
            let n = _mm256_set1_pd(n);
            let low = _mm256_cvtepi32_pd(_mm256_castsi256_si128(v));
            let high = _mm256_cvtepi32_pd(_mm256_extracti128_si256::<1>(v));
            let at_high = sums.add(4);
            let low = _mm256_add_pd(_mm256_loadu_pd(sums), _mm256_mul_pd(low, n));
            let high = _mm256_add_pd(_mm256_loadu_pd(at_high), _mm256_mul_pd(high, n));
            _mm256_storeu_pd(sums, low);
            _mm256_storeu_pd(at_high, high);
        }
    }
    #[inline(always)]
    unsafe fn finish(
        sums: *const f64,
        row_scales: *const f32,
        scale: f32,
        bias: Option<*const f32>,
        out: *mut f32,
    ) {
        unsafe {
            let low = _mm256_cvtpd_ps(_mm256_loadu_pd(sums));
            let high = _mm256_cvtpd_ps(_mm256_loadu_pd(sums.add(4)));
            let sum = _mm256_set_m128(high, low);
            let y = _mm256_mul_ps(sum, _mm256_loadu_ps(row_scales));
            let mut y = flush(_mm256_mul_ps(y, _mm256_set1_ps(scale)));
            if let Some(bias) = bias {
                y = flush(_mm256_add_ps(y, _mm256_loadu_ps(bias)));
            }
            _mm256_storeu_ps(out, y);
        }
    }
}
