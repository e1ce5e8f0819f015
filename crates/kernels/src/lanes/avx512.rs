//! 16 lanes.

use std::arch::x86_64::*;

use shoal_arith::limits::SMALLEST;

use super::Lanes;

/// AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Avx512;

#[inline(always)]
unsafe fn flush(y: __m512) -> __m512 {
    // SAFETY: the callers run with AVX-512.
    unsafe {
        // "Not below", so that NaN stays.
        let keep = _mm512_cmp_ps_mask::<_CMP_NLT_UQ>(_mm512_abs_ps(y), _mm512_set1_ps(SMALLEST));
        _mm512_maskz_mov_ps(keep, y)
    }
}

// SAFETY (for every block below): the caller of a `Lanes` function has AVX-512 and valid pointers.
#[expect(clippy::undocumented_unsafe_blocks, reason = "one reason for all, stated above")]
impl Lanes for Avx512 {
    const ROWS: usize = 16;
    type V = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn store(to: *mut u8, v: __m512i) {
        unsafe { _mm512_storeu_si512(to.cast(), v) }
    }
    #[inline(always)]
    unsafe fn broadcast(from: *const u8) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn splat8(x: i8) -> __m512i {
        unsafe { _mm512_set1_epi8(x) }
    }
    #[inline(always)]
    unsafe fn splat16(x: i16) -> __m512i {
        unsafe { _mm512_set1_epi16(x) }
    }
    #[inline(always)]
    unsafe fn and(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn shift_right16<const N: i32>(a: __m512i) -> __m512i {
        unsafe { _mm512_srl_epi16(a, _mm_cvtsi32_si128(N)) }
    }
    #[inline(always)]
    unsafe fn shift_right_signed16<const N: i32>(a: __m512i) -> __m512i {
        unsafe { _mm512_sra_epi16(a, _mm_cvtsi32_si128(N)) }
    }
    #[inline(always)]
    unsafe fn shift_left16<const N: i32>(a: __m512i) -> __m512i {
        unsafe { _mm512_sll_epi16(a, _mm_cvtsi32_si128(N)) }
    }
    #[inline(always)]
    unsafe fn add16(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn add32(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul16(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_mullo_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn dot_u8i8(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_maddubs_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn dot_i16(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_madd_epi16(a, b) }
    }
    #[inline(always)]
    unsafe fn pairs_of_i8(from: *const u8) -> __m512i {
        unsafe {
            let v = _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()));
            _mm512_mask_mov_epi16(v, 0xaaaa_aaaa, _mm512_slli_epi32::<16>(v))
        }
    }
    #[inline(always)]
    unsafe fn pairs_of_i16(from: *const u8) -> __m512i {
        unsafe {
            let v = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_or_si512(v, _mm512_slli_epi32::<16>(v))
        }
    }
    #[inline(always)]
    unsafe fn accumulate(sums: *mut f64, v: __m512i, n: f64) {
        unsafe {
            let n = _mm512_set1_pd(n);
            let low = _mm512_cvtepi32_pd(_mm512_castsi512_si256(v));
            let high = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64::<1>(v));
            let at_high = sums.add(8);
            // Whole numbers below 2^53: nothing is rounded, fused or not.
            let low = _mm512_fmadd_pd(low, n, _mm512_loadu_pd(sums));
            let high = _mm512_fmadd_pd(high, n, _mm512_loadu_pd(at_high));
            _mm512_storeu_pd(sums, low);
            _mm512_storeu_pd(at_high, high);
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
            let low = _mm512_cvtpd_ps(_mm512_loadu_pd(sums));
            let high = _mm512_cvtpd_ps(_mm512_loadu_pd(sums.add(8)));
            let sum = _mm512_insertf32x8::<1>(_mm512_castps256_ps512(low), high);
            let y = _mm512_mul_ps(sum, _mm512_loadu_ps(row_scales));
            let mut y = flush(_mm512_mul_ps(y, _mm512_set1_ps(scale)));
            if let Some(bias) = bias {
                y = flush(_mm512_add_ps(y, _mm512_loadu_ps(bias)));
            }
            _mm512_storeu_ps(out, y);
        }
    }
}
