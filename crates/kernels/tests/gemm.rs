//! Matrix products equal the definition bit for bit, on every instruction set, shape and team.

use proptest::prelude::*;
use shoal_arith::reference::float::matrix_product;
use shoal_kernels::gemm::{MatrixMut, MatrixRef, Start};
use shoal_kernels::{Isa, Kernels};

fn numbers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
        // Magnitudes over many octaves, so that a changed order shows.
        let exponent = ((state >> 58) as i32 % 12) - 6;
        ((state >> 33) as f32 / (1_u64 << 31) as f32 - 0.5) * 2.0_f32.powi(exponent)
    };
    (0..len).map(|_| next()).collect()
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Compares all layouts and both starts of one shape.
fn check(kernels: &Kernels, (m, n, k): (usize, usize, usize), gap: usize) {
    let name = kernels.isa();
    for a_transposed in [false, true] {
        for b_transposed in [false, true] {
            let (a_rows, a_columns) = if a_transposed { (k, m) } else { (m, k) };
            let (b_rows, b_columns) = if b_transposed { (n, k) } else { (k, n) };
            let (a_stride, b_stride, stride) = (a_columns + gap, b_columns + gap, n + gap);
            let a = numbers(a_rows * a_stride, 1);
            let b = numbers(b_rows * b_stride, 2);
            let before = numbers(m * stride, 3);
            let at = |i, k| if a_transposed { a[k * a_stride + i] } else { a[i * a_stride + k] };
            let bt = |k, j| if b_transposed { b[j * b_stride + k] } else { b[k * b_stride + j] };
            for start in [Start::Zero, Start::Output] {
                let mut expected: Vec<f32> = match start {
                    Start::Zero => vec![0.0; m * n],
                    Start::Output => (0..m * n).map(|i| before[i / n * stride + i % n]).collect(),
                };
                matrix_product((m, n, k), at, bt, &mut expected);
                let a = MatrixRef::strided(&a, a_rows, a_columns, a_stride);
                let b = MatrixRef::strided(&b, b_rows, b_columns, b_stride);
                let a = if a_transposed { a.transposed() } else { a };
                let b = if b_transposed { b.transposed() } else { b };
                let mut c = before.clone();
                kernels.gemm(a, b, MatrixMut::strided(&mut c, m, n, stride), start);
                for i in 0..m {
                    let (row, gap) = c[i * stride..][..stride].split_at(n);
                    let wanted = &expected[i * n..][..n];
                    assert_eq!(bits(row), bits(wanted), "{name} {m}x{n}x{k} row {i} {start:?}");
                    assert_eq!(bits(gap), bits(&before[i * stride + n..][..gap.len()]), "gap");
                }
            }
        }
    }
}

fn kernels() -> impl Iterator<Item = Kernels> {
    let teams = |isa| [1, 3].map(|threads| Kernels::new(isa, threads).expect("available"));
    Isa::available().flat_map(teams)
}

#[test]
fn edges_of_tiles_and_blocks_equal_the_definition() {
    let shapes = [
        (1, 1, 1),
        (6, 16, 1),
        (14, 32, 3),
        (7, 17, 5),
        (13, 33, 256),
        (5, 40, 257),
        (200, 70, 40),
        (65, 150, 300),
    ];
    for kernels in kernels() {
        for shape in shapes {
            check(&kernels, shape, 0);
        }
        check(&kernels, (9, 35, 20), 5);
        check(&kernels, (3, 4100, 2), 0);
        check(&kernels, (4100, 3, 2), 1);
    }
}

#[test]
fn no_depth_clears_or_keeps_the_output() {
    for kernels in kernels() {
        for (start, expected) in [(Start::Zero, 0.0), (Start::Output, 7.0)] {
            let mut c = [7.0; 6];
            let (a, b) = (MatrixRef::new(&[], 2, 0), MatrixRef::new(&[], 0, 3));
            kernels.gemm(a, b, MatrixMut::new(&mut c, 2, 3), start);
            assert_eq!(c, [expected; 6]);
        }
    }
}

#[test]
fn subnormal_numbers_are_kept() {
    let tiny = f32::from_bits(3);
    for kernels in kernels() {
        let mut c = [0.0; 64];
        let (a, b) = (vec![tiny; 8], vec![1.0; 8]);
        let (a, b) = (MatrixRef::new(&a, 8, 1), MatrixRef::new(&b, 1, 8));
        kernels.gemm(a, b, MatrixMut::new(&mut c, 8, 8), Start::Zero);
        assert!(c.iter().all(|x| x.to_bits() == 3), "{}", kernels.isa());
    }
}

#[test]
fn work_is_divided_without_changing_a_bit() {
    let (m, n, k) = (150, 170, 520);
    let (a, b) = (numbers(m * k, 4), numbers(k * n, 5));
    let product = |kernels: &Kernels| {
        let mut c = vec![0.0; m * n];
        let (a, b) = (MatrixRef::new(&a, m, k), MatrixRef::new(&b, k, n));
        kernels.gemm(a, b, MatrixMut::new(&mut c, m, n), Start::Zero);
        bits(&c)
    };
    let first = product(&Kernels::new(Isa::Portable, 1).expect("available"));
    for kernels in kernels() {
        assert_eq!(product(&kernels), first, "{}", kernels.isa());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn any_shape_equals_the_definition(
        m in 1_usize..40, n in 1_usize..70, k in 1_usize..60, gap in 0_usize..4,
    ) {
        for kernels in kernels() {
            check(&kernels, (m, n, k), gap);
        }
    }
}
