//! RMS norms. Spec 01 §6.1.

use serde::{Deserialize, Serialize};
use shoal_arith::reference::norm::rms_norm;

use crate::hex::Hex;
use crate::numbers::{Numbers, two};

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NormCase {
    /// What is special about it.
    pub name: String,
    /// Added to the mean square.
    pub epsilon: Hex<f32>,
    /// The norm's weights.
    pub weight: Hex<f32>,
    /// The row.
    pub x: Hex<f32>,
    /// The result; `None` for a fault.
    pub y: Option<Hex<f32>>,
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<NormCase> {
    let mut numbers = Numbers(4);
    let mut rows = vec![
        ("zeros", vec![0.0; 20]),
        ("one element", vec![-0.7]),
        ("70 elements", numbers.floats(70, 2.0)),
        ("an outlier", [vec![400.0], numbers.floats(64, 0.1)].concat()),
        ("every magnitude", (0..70).map(|_| numbers.spread(-100, 60)).collect()),
        ("smaller than epsilon", numbers.floats(33, 1e-7)),
        ("squares overflow", [vec![two(99)], numbers.floats(10, 1e20)].concat()),
        ("smallest", vec![two(-100), -two(-100), 0.0]),
        ("wide", numbers.floats(600, 1.0)),
    ];
    let faults =
        [("fault: 2^100", -two(100)), ("fault: infinity", f32::INFINITY), ("fault: NaN", f32::NAN)];
    rows.extend(faults.map(|(name, x)| (name, vec![1.0, x, 2.0])));
    let case = |(name, x): (&str, Vec<f32>)| {
        let weight: Vec<f32> = (0..x.len()).map(|_| 1.0 + numbers.float(0.5)).collect();
        let epsilon = if name == "wide" { 1e-6 } else { 1e-5 };
        let mut y = vec![0.0; x.len()];
        let sound = rms_norm(&x, &weight, epsilon, &mut y).is_ok();
        NormCase {
            name: name.to_owned(),
            epsilon: Hex(vec![epsilon]),
            weight: Hex(weight),
            x: Hex(x),
            y: sound.then_some(Hex(y)),
        }
    };
    rows.into_iter().map(case).collect()
}
