//! Matrix products in f32 against the multiply-add peak measured in the same run.
//!
//! `cargo bench -p shoal-kernels --bench gemm -- [threads]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
#![expect(unsafe_code, reason = "the peak is measured with the instructions themselves")]
use std::hint::black_box;
use std::time::Instant;

use shoal_kernels::gemm::{MatrixMut, MatrixRef, Start};
use shoal_kernels::{Isa, Kernels};

/// Which of the inputs are stored transposed.
#[derive(Clone, Copy, Debug)]
enum Layout {
    Nn,
    Nt,
    Tn,
}

fn best_seconds(repeats: usize, mut run: impl FnMut()) -> f64 {
    run();
    let time = |_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..repeats).map(time).fold(f64::INFINITY, f64::min)
}

fn random(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

const CHAINS: usize = 12;
const STEPS: usize = 1 << 20;

/// Twelve independent chains of vector multiply-adds.
macro_rules! peak_loop {
    ($name:ident, $features:literal, $set:ident, $fma:ident, $store:ident, $lanes:literal) => {
        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = $features)]
        fn $name() -> f64 {
            use std::arch::x86_64::*;
            let (a, b) = ($set(black_box(0.999)), $set(black_box(1e-6)));
            let mut sums = [$set(1.0); CHAINS];
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = $fma(*sum, a, b);
                }
            }
            let mut out = [0.0_f32; $lanes];
            for sum in sums {
                // SAFETY: `out` holds one vector.
                unsafe { $store(out.as_mut_ptr(), sum) };
                black_box(&out);
            }
            (STEPS * CHAINS * $lanes * 2) as f64
        }
    };
}
peak_loop!(peak_avx2, "avx2,fma", _mm256_set1_ps, _mm256_fmadd_ps, _mm256_storeu_ps, 8);
peak_loop!(peak_avx512, "avx512f", _mm512_set1_ps, _mm512_fmadd_ps, _mm512_storeu_ps, 16);

/// Multiply-adds per second, counted as two operations, of the whole team.
fn peak(kernels: &Kernels) -> f64 {
    let operations = |isa: Isa| match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Kernels::new` checked that the machine has it.
        Isa::Avx2 => unsafe { peak_avx2() },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 | Isa::Avx512Vnni => unsafe { peak_avx512() },
        _ => f64::NAN,
    };
    let threads = kernels.team().threads() as f64;
    let seconds = best_seconds(9, || {
        kernels.team().run(&|_| {
            black_box(operations(kernels.isa()));
        });
    });
    operations(kernels.isa()) * threads / seconds
}

fn bench(kernels: &Kernels, layout: Layout, (m, n, k): (usize, usize, usize), peak: f64) {
    let (a, b) = (random(m * k), random(k * n));
    let mut c = vec![0.0; m * n];
    let a = match layout {
        Layout::Tn => MatrixRef::new(&a, k, m).transposed(),
        _ => MatrixRef::new(&a, m, k),
    };
    let b = match layout {
        Layout::Nt => MatrixRef::new(&b, n, k).transposed(),
        _ => MatrixRef::new(&b, k, n),
    };
    let work = 2.0 * m as f64 * n as f64 * k as f64;
    let repeats = (2e10 / work).clamp(5.0, 200.0) as usize;
    let seconds = best_seconds(repeats, || {
        kernels.gemm(a, b, MatrixMut::new(&mut c, m, n), Start::Zero);
    });
    let rate = work / seconds;
    println!(
        "{:>10} {layout:?} {m:>4} x {n:>4} x {k:>4}: {:6.1} GFLOP/s, {:4.2} of peak",
        kernels.isa().name(),
        rate / 1e9,
        rate / peak
    );
}

fn main() {
    let threads = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(1);
    let vector = |isa: &Isa| matches!(isa, Isa::Avx2 | Isa::Avx512);
    for isa in Isa::available().filter(vector) {
        let kernels = Kernels::new(isa, threads).expect("available");
        let peak = peak(&kernels);
        println!("{:>10} peak of {threads} threads: {:.1} GFLOP/s", isa.name(), peak / 1e9);
        for layout in [Layout::Nn, Layout::Nt, Layout::Tn] {
            for size in [512, 1024, 2048] {
                bench(&kernels, layout, (size, size, size), peak);
            }
        }
        // A sample of 256 tokens through a model of width 256: forward, input, weight gradient.
        for (rows, columns) in [(256, 256), (768, 256), (256, 768), (4096, 256)] {
            bench(&kernels, Layout::Nt, (256, rows, columns), peak);
            bench(&kernels, Layout::Nn, (256, columns, rows), peak);
            bench(&kernels, Layout::Tn, (rows, columns, 256), peak);
        }
    }
}
