//! The vector vocabulary of the matrix kernels: one 32-bit lane per weight row.
//!
//! Only operations whose bits do not depend on the instruction set are offered, so a kernel written
//! once over [`Lanes`] has one result. Instruction sets differ in [`Lanes::ROWS`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;

/// Asks for a line of memory that will be read some hundred nanoseconds from now.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn prefetch(from: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch of any address is harmless.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
}

/// A vector of `ROWS` 32-bit lanes, each also two 16-bit or four 8-bit lanes.
///
/// # Safety
/// Every function needs the instruction set of the implementor, and pointers valid for what it
/// reads or writes: a whole vector for `load` and `store`, 4 bytes for `broadcast`, `ROWS` elements
/// elsewhere. Alignment is never required.
pub(crate) trait Lanes: Copy {
    /// 32-bit lanes.
    const ROWS: usize;
    /// The vector.
    type V: Copy;

    /// All bits 0.
    unsafe fn zero() -> Self::V;
    /// A vector of bytes.
    unsafe fn load(from: *const u8) -> Self::V;
    /// Writes a vector of bytes.
    unsafe fn store(to: *mut u8, v: Self::V);
    /// The 4 bytes at `from` in every 32-bit lane.
    unsafe fn broadcast(from: *const u8) -> Self::V;
    /// `x` in every 8-bit lane.
    unsafe fn splat8(x: i8) -> Self::V;
    /// `x` in every 16-bit lane.
    unsafe fn splat16(x: i16) -> Self::V;
    /// Bitwise and.
    unsafe fn and(a: Self::V, b: Self::V) -> Self::V;
    /// 16-bit logical shift right by `N`.
    unsafe fn shift_right16<const N: i32>(a: Self::V) -> Self::V;
    /// 16-bit arithmetic shift right by `N`.
    unsafe fn shift_right_signed16<const N: i32>(a: Self::V) -> Self::V;
    /// 16-bit shift left by `N`.
    unsafe fn shift_left16<const N: i32>(a: Self::V) -> Self::V;
    /// 16-bit wrapping addition.
    unsafe fn add16(a: Self::V, b: Self::V) -> Self::V;
    /// 32-bit wrapping addition.
    unsafe fn add32(a: Self::V, b: Self::V) -> Self::V;
    /// Low halves of 16-bit products.
    unsafe fn mul16(a: Self::V, b: Self::V) -> Self::V;
    /// Sums of pairs of products of unsigned bytes `a` and signed bytes `b`, saturated to 16 bits.
    unsafe fn dot_u8i8(a: Self::V, b: Self::V) -> Self::V;
    /// Sums of pairs of products of 16-bit lanes, in 32 bits.
    unsafe fn dot_i16(a: Self::V, b: Self::V) -> Self::V;
    /// `ROWS` signed bytes, each in both 16-bit halves of its lane.
    unsafe fn pairs_of_i8(from: *const u8) -> Self::V;
    /// `ROWS` 16-bit numbers (unaligned), each in both halves of its lane.
    unsafe fn pairs_of_i16(from: *const u8) -> Self::V;
    /// `sums[i] += n * v[i]`, exact: the caller bounds the sums by 2^53.
    unsafe fn accumulate(sums: *mut f64, v: Self::V, n: f64);
    /// `out[i] = flush((f32(sums[i]) * row_scales[i]) * scale)`, then `flush(out[i] + bias[i])`.
    unsafe fn finish(
        sums: *const f64,
        row_scales: *const f32,
        scale: f32,
        bias: Option<*const f32>,
        out: *mut f32,
    );
}
