//! Functions of one number. Spec 01 §3.

use serde::{Deserialize, Serialize};
use shoal_arith::scalar::{exp2, flush, ln, round_even, silu, to_bf16};

use crate::hex::{Bits, Hex};
use crate::numbers::{Numbers, two};

/// Arguments and results of one function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "function", rename_all = "snake_case")]
pub enum ScalarCase {
    /// §3.5
    Exp2(Pairs<f32, f32>),
    /// §3.3
    Flush(Pairs<f32, f32>),
    /// §1
    Round(Pairs<f32, f32>),
    /// §3.6
    Silu(Pairs<f32, f32>),
    /// §3.4
    Bf16(Pairs<f32, u16>),
    /// §3.7
    Ln(Pairs<f64, f64>),
}

/// `y[i]` is the function of `x[i]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound(serialize = "X: Bits, Y: Bits", deserialize = "X: Bits, Y: Bits"))]
pub struct Pairs<X, Y> {
    /// Arguments.
    pub x: Hex<X>,
    /// Results.
    pub y: Hex<Y>,
}

impl<X: Bits, Y: Bits> Pairs<X, Y> {
    fn of(x: Vec<X>, function: impl Fn(X) -> Y) -> Self {
        let y = x.iter().map(|&x| function(x)).collect();
        Self { x: Hex(x), y: Hex(y) }
    }
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<ScalarCase> {
    let mut numbers = Numbers(1);
    vec![
        ScalarCase::Exp2(Pairs::of(exp2_inputs(&mut numbers), exp2)),
        ScalarCase::Flush(Pairs::of(flush_inputs(&mut numbers), flush)),
        ScalarCase::Round(Pairs::of(round_inputs(&mut numbers), round_even)),
        ScalarCase::Silu(Pairs::of(silu_inputs(&mut numbers), silu)),
        ScalarCase::Bf16(Pairs::of(bf16_inputs(&mut numbers), to_bf16)),
        ScalarCase::Ln(Pairs::of(ln_inputs(&mut numbers), ln)),
    ]
}

fn exp2_inputs(numbers: &mut Numbers) -> Vec<f32> {
    let mut x = vec![0.0, -0.0, 0.5, -0.5, 1.5, -1.5, 2.5, -125.0, 126.0, -40.0, -1e-30, 1e-30];
    x.extend((-20..20).map(|n| n as f32 * 0.5 + 1e-6));
    x.extend((0..100).map(|_| numbers.float(40.0)));
    x.extend((0..100).map(|_| numbers.float(125.0)));
    x
}

fn flush_inputs(numbers: &mut Numbers) -> Vec<f32> {
    let edge = two(-100);
    let mut x = vec![0.0, -0.0, edge, -edge, edge.next_down(), -edge.next_down(), edge.next_up()];
    x.extend([f32::MIN_POSITIVE, f32::from_bits(1), -f32::from_bits(1), f32::INFINITY, f32::MAX]);
    x.extend((0..30).map(|_| numbers.spread(-120, -90)));
    x
}

fn round_inputs(numbers: &mut Numbers) -> Vec<f32> {
    let mut x = vec![0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 0.499_999_97, 0.500_000_06, 0.0];
    x.extend([4_194_303.5, 4_194_302.5, -4_194_303.5, 4_194_304.0, 1e-30, 2_097_151.5]);
    x.extend((0..60).map(|_| numbers.spread(-3, 22)));
    x
}

fn silu_inputs(numbers: &mut Numbers) -> Vec<f32> {
    let mut x = vec![0.0, 1.0, -1.0, -80.0, (-80.0_f32).next_down(), (-80.0_f32).next_up()];
    x.extend([-69.0, -70.0, 88.0, 1e30, -1e30, two(99), -two(99), two(-100), -two(-100), -87.5]);
    x.extend((0..80).map(|_| numbers.float(8.0)));
    x.extend((0..80).map(|_| numbers.spread(-60, 60)));
    x
}

fn bf16_inputs(numbers: &mut Numbers) -> Vec<f32> {
    let bits = [
        0x3f80_0000_u32,
        0x3f80_7fff,
        0x3f80_8000,
        0x3f80_8001,
        0x3f81_7fff,
        0x3f81_8000,
        0x3f81_8001,
        0xbf80_8000,
        0xbf81_8000,
        0,
        0x8000_0000,
        0x7f7f_ffff,
        0x7f7f_0000,
        0x7f7f_7fff,
        0x7f7f_8000,
        0xff7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7fc0_0000,
        0x7f80_0001,
        0xffff_ffff,
        1,
        0x8000,
        0x8001,
    ];
    let mut x = bits.map(f32::from_bits).to_vec();
    x.extend((0..60).map(|_| numbers.spread(-100, 100)));
    x
}

fn ln_inputs(numbers: &mut Numbers) -> Vec<f64> {
    let root = f64::from_bits(0x3ff6_a09e_667f_3bcd);
    let mut x = vec![1.0, 2.0, 0.5, root, root.next_down(), root.next_up(), root / 2.0, 1e-300];
    x.extend([1.0_f64.next_up(), 1.0_f64.next_down(), 3e8, f64::MIN_POSITIVE, 1e300, 23.0]);
    x.extend((0..100).map(|_| f64::from(numbers.spread(-60, 60).abs())));
    x.extend((0..60).map(|_| ((numbers.next() >> 32) as f64 + 0.5) / 4_294_967_296.0));
    x
}
