//! What exactness costs: the canonical kernel for 4-bit weights against the same kernel with f32
//! sums and scales per block, whose result depends on the order of addition. AVX2, one thread.
//!
//! `cargo bench -p shoal-kernels --bench noncanonical`
//!
//! Both read tiles of 16 interleaved rows; many rows go through a panel, few straight from the
//! tiles. The variant keeps the codes and gives every block of weights and of x an f32 scale, as
//! llama.cpp does: one conversion and one fused multiply-add per block instead of the integer
//! multiply-add.

#![expect(unsafe_code, reason = "vector instructions, in this benchmark alone")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]

#[cfg(target_arch = "x86_64")]
mod variant;

#[cfg(target_arch = "x86_64")]
fn main() {
    use std::sync::atomic::AtomicBool;
    use std::time::Instant;

    use shoal_arith::tile::LinearShape;
    use shoal_arith::{ActivationFormat, WeightFormat};
    use shoal_base::SharedBytes;
    use shoal_kernels::{Isa, Kernels, Linear, QuantizeNeeds, Quantized};

    const REPEATS: usize = 15;
    let has_all = is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
        && is_x86_feature_detected!("f16c");
    if !has_all {
        println!("skipped: no AVX2 with FMA and F16C");
        return;
    }
    let kernels = Kernels::new(Isa::Avx2, 1).expect("available");
    for (rows, columns, t) in [(65_536, 2048, 1), (2048, 2048, 512), (2048, 8192, 512)] {
        let shape = LinearShape { rows, columns, format: WeightFormat::I4 };
        let codes: Vec<u8> = (0..shape.bytes()).map(|i| (i * 37 % 251) as u8).collect();
        let mut section = codes.clone();
        section[..shape.scale_bytes()].fill(0);
        let linear = Linear::new(shape, SharedBytes::aligned(&section), None).expect("valid");
        let x: Vec<f32> = (0..t * columns).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let needs = QuantizeNeeds::of(Isa::Avx2, shape.format, ActivationFormat::A8);
        let faults: Vec<AtomicBool> = (0..t).map(|_| AtomicBool::new(false)).collect();
        let mut quantized = Quantized::default();
        kernels.quantize(&x, columns, ActivationFormat::A8, needs, &mut quantized, &faults);
        let mut out = vec![0.0; t * rows];
        let other = variant::Problem::new(rows, columns, t);
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..REPEATS {
            let start = Instant::now();
            kernels.matmul(&linear, &quantized, &mut out);
            times[0].push(start.elapsed().as_secs_f64());
            let start = Instant::now();
            // SAFETY: the features were detected above.
            unsafe { other.multiply(&mut out) };
            times[1].push(start.elapsed().as_secs_f64());
        }
        let [canonical, variant] = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            times[REPEATS / 2]
        });
        let macs = (rows * columns * t) as f64 / 1e9;
        println!(
            "{rows}x{columns} T={t}: canonical {:.1} GMAC/s, f32 scales {:.1} GMAC/s, ratio {:.3}",
            macs / canonical,
            macs / variant,
            canonical / variant
        );
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn main() {
    println!("skipped: no AVX2");
}
