//! Shows that the emulated CPU has AVX-512 and executes a VNNI instruction. Compiled by
//! `cargo xtask emulate --probe`, not a part of the task itself.

use std::arch::x86_64::{_mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi8};
use std::arch::x86_64::_mm512_set1_epi32;

/// Sixteen sums of four products each, on top of 100: 16 * (100 + 4 * 3 * -2) = 1216.
#[target_feature(enable = "avx512f,avx512vnni")]
fn dot() -> i32 {
    let products = _mm512_dpbusd_epi32(
        _mm512_set1_epi32(100),
        _mm512_set1_epi8(3),
        _mm512_set1_epi8(-2),
    );
    _mm512_reduce_add_epi32(products)
}

fn main() {
    let vnni = is_x86_feature_detected!("avx512vnni");
    println!("avx2       {}", is_x86_feature_detected!("avx2"));
    println!("avx512f    {}", is_x86_feature_detected!("avx512f"));
    println!("avx512bw   {}", is_x86_feature_detected!("avx512bw"));
    println!("avx512vl   {}", is_x86_feature_detected!("avx512vl"));
    println!("avx512vnni {vnni}");
    if vnni {
        // SAFETY: the CPU was just seen to have AVX-512 VNNI, which implies AVX-512 F.
        let sum = unsafe { dot() };
        println!("vpdpbusd   {sum}");
        assert_eq!(sum, 1216);
    }
}
