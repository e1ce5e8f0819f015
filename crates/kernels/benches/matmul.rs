//! Throughput of the matrix kernels against the memory bandwidth measured in the same run.
//!
//! `cargo bench -p shoal-kernels --bench matmul -- [threads] [isa]`

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use shoal_arith::tile::LinearShape;
use shoal_arith::{ActivationFormat, WeightFormat};
use shoal_base::SharedBytes;
use shoal_kernels::{Isa, Kernels, Linear, QuantizeNeeds, Quantized};

fn random_linear(shape: LinearShape) -> Linear {
    let mut bytes = vec![0_u8; shape.bytes()];
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for chunk in bytes[shape.scale_bytes()..].chunks_mut(8) {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        chunk.copy_from_slice(&(state >> 8).to_le_bytes()[..chunk.len()]);
    }
    // Throughput only: ranges are not checked, and sums may wrap.
    Linear::new(shape, SharedBytes::aligned(&bytes), None).expect("valid scales")
}

fn median_seconds(repeats: usize, mut run: impl FnMut()) -> f64 {
    run();
    let mut times: Vec<f64> = (0..repeats)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[if std::env::var_os("BEST").is_some() { 0 } else { times.len() / 2 }]
}

fn bench(
    kernels: &Kernels,
    shape: LinearShape,
    format: ActivationFormat,
    rows: usize,
    repeats: usize,
) {
    let linear = random_linear(shape);
    let x: Vec<f32> =
        (0..rows * shape.columns).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let needs = QuantizeNeeds::of(kernels.isa(), shape.format, format);
    let mut quantized = Quantized::default();
    let faults: Vec<AtomicBool> = (0..rows).map(|_| AtomicBool::new(false)).collect();
    kernels.quantize(&x, shape.columns, format, needs, &mut quantized, &faults);
    if rows == 512 && shape.columns == 8192 {
        let seconds = median_seconds(repeats, || {
            kernels.quantize(&x, shape.columns, format, needs, &mut quantized, &faults);
        });
        println!("           quantize: {:.2} elements/ns", x.len() as f64 / seconds / 1e9);
    }
    let mut out = vec![0.0; rows * shape.rows];
    if rows == 1 {
        // The first products try how far ahead to ask for weights.
        (0..50).for_each(|_| kernels.matmul(&linear, &quantized, &mut out));
    }
    let seconds = median_seconds(repeats, || kernels.matmul(&linear, &quantized, &mut out));
    let macs = shape.rows as f64 * shape.columns as f64 * rows as f64;
    println!(
        "{:>10} {:>8} {format:?} {}x{} T={rows}: {:6.1} GB/s {:6.1} GMAC/s",
        kernels.isa().name(),
        format!("{:?}", shape.format),
        shape.rows,
        shape.columns,
        linear.bytes() as f64 / seconds / 1e9,
        macs / seconds / 1e9
    );
}

/// The maps of a layer of the shape that engines are compared with, multiplied together or not.
const LAYER: [&[(usize, usize)]; 4] = [
    &[(2048, 2048), (512, 2048), (512, 2048)],
    &[(2048, 2048)],
    &[(8192, 2048), (8192, 2048)],
    &[(2048, 8192)],
];

/// One row through layers that no cache holds, as decoding reads them, next to the memory.
fn layers(kernels: &Kernels, format: WeightFormat, words: &[u64]) {
    let map =
        |&(rows, columns): &(usize, usize)| random_linear(LinearShape { rows, columns, format });
    let layers: Vec<Vec<Vec<Linear>>> =
        (0..8).map(|_| LAYER.iter().map(|maps| maps.iter().map(map).collect()).collect()).collect();
    let maps = layers.iter().flatten().flatten();
    let bytes: usize = maps.clone().map(Linear::bytes).sum();
    let mut x = [2048, 8192].map(|columns| {
        let row: Vec<f32> = (0..columns).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
        let needs = QuantizeNeeds::of(kernels.isa(), format, ActivationFormat::A8);
        let (mut quantized, faults) = (Quantized::default(), [AtomicBool::new(false)]);
        kernels.quantize(&row, columns, ActivationFormat::A8, needs, &mut quantized, &faults);
        (columns, quantized)
    });
    let mut outputs = vec![vec![0.0; 8192]; 3];
    let mut run = || {
        for maps in layers.iter().flatten() {
            let (_, x) =
                x.iter_mut().find(|(n, _)| *n == maps[0].shape().columns).expect("one of two");
            let mut products: Vec<(&Linear, &mut [f32])> = maps
                .iter()
                .zip(&mut outputs)
                .map(|(map, out)| (map, &mut out[..map.shape().rows]))
                .collect();
            kernels.matmul_each(&mut products, x);
        }
    };
    (0..4).for_each(|_| run());
    let seconds = median_seconds(15, run);
    let memory = median_seconds(7, || {
        std::hint::black_box(kernels.read_all(words));
    });
    println!(
        "{:>10} {format:?} layers T=1: {:6.1} GB/s, memory {:6.1} GB/s",
        kernels.isa().name(),
        bytes as f64 / seconds / 1e9,
        words.len() as f64 * 8.0 / memory / 1e9
    );
}

fn main() {
    let threads = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(2);
    let named = Isa::available().find(|isa| std::env::args().any(|a| a == isa.name()));
    let wanted = |isa: &Isa| named.map_or(*isa != Isa::Portable, |named| named == *isa);
    for isa in Isa::available().filter(wanted) {
        let kernels = Kernels::new(isa, threads).expect("available");
        let words = vec![1_u64; 32 << 20];
        let seconds = median_seconds(7, || {
            std::hint::black_box(kernels.read_all(&words));
        });
        let bytes = words.len() as f64 * 8.0;
        println!("{:>10} memory read: {:6.1} GB/s", kernels.isa().name(), bytes / seconds / 1e9);
        for format in WeightFormat::ALL {
            layers(&kernels, format, &words);
        }
        drop(words);
        for format in WeightFormat::ALL {
            let big = LinearShape { rows: 128_256, columns: 2048, format };
            for rows in [1, 2, 4, 6, 8] {
                bench(&kernels, big, ActivationFormat::A8, rows, 7);
            }
            // In the second cache: what the kernel does when memory is not the limit.
            let small = LinearShape { rows: 512, columns: 2048, format };
            bench(&kernels, small, ActivationFormat::A8, 1, 999);
            for columns in [2048, 8192] {
                let shape = LinearShape { rows: 4096, columns, format };
                bench(&kernels, shape, ActivationFormat::A8, 512, 9);
            }
            let shape = LinearShape { rows: 4096, columns: 2048, format };
            bench(&kernels, shape, ActivationFormat::A12, 512, 5);
        }
    }
}
