//! Every instruction set equals the reference on every shape: rows, columns, formats, batch,
//! threads.

use std::sync::atomic::{AtomicBool, Ordering};

use shoal_arith::limits::TILE_ROWS;
use shoal_arith::tile::{LinearShape, write_row_group};
use shoal_arith::{Activation, ActivationFormat, WeightFormat, WeightRow, reference};
use shoal_base::SharedBytes;
use shoal_kernels::{Isa, Kernels, Linear, QuantizeNeeds, Quantized};

struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn within(&mut self, low: i32, high: i32) -> i32 {
        low + (self.next() % (high - low + 1).cast_unsigned() as u64) as i32
    }

    /// Mostly extremes, so that sums come near their bounds.
    fn extreme(&mut self, low: i32, high: i32) -> i32 {
        match self.next() % 4 {
            0 => self.within(low, high),
            1 => low,
            _ => high,
        }
    }
}

fn weight_row(numbers: &mut Numbers, shape: LinearShape) -> WeightRow {
    let (low, high) = shape.format.code_range();
    let (m_low, m_high) = shape.format.multiplier_range();
    let o = shape.format.offset_max();
    let blocks = shape.blocks();
    WeightRow {
        codes: (0..shape.columns).map(|_| numbers.extreme(low, high) as i8).collect(),
        multipliers: (0..blocks).map(|_| numbers.extreme(m_low, m_high) as i8).collect(),
        offsets: (0..blocks).map(|_| numbers.extreme(-o, o) as i16).collect(),
        scale: numbers.within(-1000, 1000) as f32 * 1e-6,
    }
}

fn linear(shape: LinearShape, rows: &[WeightRow], bias: Option<&[f32]>) -> Linear {
    let mut bytes = vec![0; shape.bytes()];
    for (g, rows) in rows.chunks(TILE_ROWS).enumerate() {
        write_row_group(shape, g, rows, &mut bytes);
    }
    Linear::new(shape, SharedBytes::aligned(&bytes), bias).expect("valid section")
}

fn activations(numbers: &mut Numbers, rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns)
        .map(|_| match numbers.next() % 8 {
            0 => 0.0,
            1..=5 => numbers.within(-3000, 3000) as f32 * 1e-3,
            _ => numbers.extreme(-1, 1) as f32 * 50.0,
        })
        .collect()
}

fn check(shape: LinearShape, format: ActivationFormat, rows: usize, with_bias: bool) {
    let mut numbers = Numbers(0x1234_5678_9abc_def1 ^ (shape.columns as u64) << 20 ^ rows as u64);
    let weights: Vec<_> = (0..shape.rows).map(|_| weight_row(&mut numbers, shape)).collect();
    let bias: Option<Vec<f32>> =
        with_bias.then(|| (0..shape.rows).map(|r| r as f32 * 0.01 - 0.3).collect());
    let linear = linear(shape, &weights, bias.as_deref());
    let x = activations(&mut numbers, rows, shape.columns);
    let expected: Vec<u32> = x
        .chunks_exact(shape.columns)
        .map(|row| Activation::quantize(row, format).expect("sound"))
        .flat_map(|row| {
            let outputs = weights.iter().enumerate().map(|(i, weights)| {
                reference::matmul::output(weights, &row, bias.as_ref().map(|b| b[i])).to_bits()
            });
            outputs.collect::<Vec<_>>()
        })
        .collect();
    for isa in Isa::available() {
        for threads in [1, 3] {
            let kernels = Kernels::new(isa, threads).expect("available");
            assert_eq!(linear.check_tiles(kernels.team()), Ok(()));
            let needs = QuantizeNeeds::of(isa, shape.format, format);
            let mut quantized = Quantized::default();
            let faults: Vec<AtomicBool> = (0..rows).map(|_| AtomicBool::new(false)).collect();
            kernels.quantize(&x, shape.columns, format, needs, &mut quantized, &faults);
            assert!(!faults.iter().any(|fault| fault.load(Ordering::Relaxed)));
            let mut out = vec![f32::NAN; rows * shape.rows];
            kernels.matmul(&linear, &quantized, &mut out);
            let bits: Vec<u32> = out.iter().map(|y| y.to_bits()).collect();
            assert!(bits == expected, "{isa} {threads} threads {shape:?} {format:?} {rows} rows");
        }
    }
}

#[test]
fn every_instruction_set_equals_the_reference() {
    // The last has row groups enough to be read from several places at once, and some left over.
    let shapes = [
        (1, 1),
        (16, 32),
        (17, 33),
        (5, 172),
        (33, 256),
        (20, 300),
        (48, 1024),
        (9, 2100),
        (170, 1100),
    ];
    for (rows, columns) in shapes {
        for format in WeightFormat::ALL {
            for x in [ActivationFormat::A8, ActivationFormat::A12] {
                for batch in [1, 2, 5, 6, 7, 12, 13] {
                    check(LinearShape { rows, columns, format }, x, batch, batch % 2 == 0);
                }
            }
        }
    }
}

#[test]
fn a_faulty_row_is_reported_and_leaves_the_others_alone() {
    let shape = LinearShape { rows: 16, columns: 64, format: WeightFormat::I4 };
    let mut numbers = Numbers(99);
    let weights: Vec<_> = (0..16).map(|_| weight_row(&mut numbers, shape)).collect();
    let linear = linear(shape, &weights, None);
    let mut x = activations(&mut numbers, 3, 64);
    let run = |x: &[f32], isa| {
        let kernels = Kernels::new(isa, 1).expect("available");
        let mut quantized = Quantized::default();
        let faults: Vec<AtomicBool> = (0..3).map(|_| AtomicBool::new(false)).collect();
        let needs = QuantizeNeeds::of(isa, shape.format, ActivationFormat::A8);
        kernels.quantize(x, 64, ActivationFormat::A8, needs, &mut quantized, &faults);
        let mut out = vec![f32::NAN; 48];
        kernels.matmul(&linear, &quantized, &mut out);
        (out, faults.into_iter().map(AtomicBool::into_inner).collect::<Vec<_>>())
    };
    for isa in Isa::available() {
        let (clean, faults) = run(&x, isa);
        assert_eq!(faults, [false; 3]);
        x[64 + 5] = f32::NAN;
        let (damaged, faults) = run(&x, isa);
        x[64 + 5] = 0.5;
        assert_eq!(faults, [false, true, false]);
        assert_eq!(damaged[16..32], [0.0; 16]);
        assert_eq!((&damaged[..16], &damaged[32..]), (&clean[..16], &clean[32..]));
    }
}

#[test]
fn several_maps_at_once_give_what_each_gives_alone() {
    let mut numbers = Numbers(7);
    let format = WeightFormat::I4;
    let shapes = [(70, 300), (17, 300), (150, 300)].map(|(rows, columns)| LinearShape {
        rows,
        columns,
        format,
    });
    let maps = shapes.map(|shape| {
        let rows: Vec<_> = (0..shape.rows).map(|_| weight_row(&mut numbers, shape)).collect();
        linear(shape, &rows, None)
    });
    let x = activations(&mut numbers, 2, 300);
    for (isa, threads) in Isa::available().flat_map(|isa| [(isa, 1), (isa, 3)]) {
        let kernels = Kernels::new(isa, threads).expect("available");
        let needs = QuantizeNeeds::of(isa, format, ActivationFormat::A8);
        let mut quantized = Quantized::default();
        let faults = [false; 2].map(AtomicBool::new);
        kernels.quantize(&x, 300, ActivationFormat::A8, needs, &mut quantized, &faults);
        let mut alone = shapes.map(|shape| vec![0.0; 2 * shape.rows]);
        for (map, out) in maps.iter().zip(&mut alone) {
            kernels.matmul(map, &quantized, out);
        }
        let mut together = shapes.map(|shape| vec![f32::NAN; 2 * shape.rows]);
        let mut products: Vec<(&Linear, &mut [f32])> =
            maps.iter().zip(&mut together).map(|(map, out)| (map, &mut out[..])).collect();
        kernels.matmul_each(&mut products, &quantized);
        assert!(alone == together, "{isa} {threads} threads");
    }
}
