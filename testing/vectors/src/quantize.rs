//! Rows to integers. Spec 01 §4 and §7.1.

use serde::{Deserialize, Serialize};
use shoal_arith::reference::attention::quantize_head;
use shoal_arith::{Fault, quantize_a8, quantize_a12};

use crate::hex::Hex;
use crate::numbers::{Numbers, two};

/// What the row becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// §4.1
    A8,
    /// §4.2
    A12,
    /// §7.1: as a12, with its own limit.
    Head,
}

/// One row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizeCase {
    /// What is special about it.
    pub name: String,
    /// What it becomes.
    pub format: Format,
    /// The row.
    pub x: Hex<f32>,
    /// `None` for a fault.
    pub result: Option<Quantized>,
}

/// A quantized row; in a12 the multipliers are empty.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantized {
    /// `d`
    pub scale: Hex<f32>,
    /// `n`
    pub group_multipliers: Vec<u16>,
    /// `r`
    pub block_multipliers: Vec<u8>,
    /// `q`
    pub codes: Vec<i16>,
}

impl Format {
    /// What the reference makes of a row.
    ///
    /// # Errors
    /// As the reference says.
    pub fn quantize(self, x: &[f32]) -> Result<Quantized, Fault> {
        if self == Self::A8 {
            let row = quantize_a8(x)?;
            return Ok(Quantized {
                scale: Hex(vec![row.scale]),
                group_multipliers: row.group_multipliers,
                block_multipliers: row.block_multipliers,
                codes: row.codes.into_iter().map(i16::from).collect(),
            });
        }
        let row = match self {
            Self::Head => quantize_head(x)?,
            _ => quantize_a12(x, two(100))?,
        };
        Ok(Quantized {
            scale: Hex(vec![row.scale]),
            group_multipliers: Vec::new(),
            block_multipliers: Vec::new(),
            codes: row.codes,
        })
    }
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<QuantizeCase> {
    let rows = rows();
    let formats = [Format::A8, Format::A12, Format::Head];
    let cases = formats.into_iter().flat_map(|format| {
        rows.iter().map(move |(name, x)| QuantizeCase {
            name: (*name).to_owned(),
            format,
            x: Hex(x.clone()),
            result: format.quantize(x).ok(),
        })
    });
    cases.collect()
}

/// -9.5, -8.5, …
fn halves(count: usize) -> Vec<f32> {
    (0..count).map(|i| i as f32 - 9.5).collect()
}

/// Rows with names.
fn rows() -> Vec<(&'static str, Vec<f32>)> {
    let mut numbers = Numbers(2);
    let with = |mut x: Vec<f32>, places: &[(usize, f32)]| {
        places.iter().for_each(|&(at, value)| x[at] = value);
        x
    };
    let edge = two(100).next_down();
    let head = two(40).next_down();
    vec![
        ("zeros", vec![0.0; 300]),
        ("one element", vec![-3.25]),
        ("less than a block", numbers.floats(7, 2.0)),
        ("a block and one", numbers.floats(33, 2.0)),
        ("a group and a tail", numbers.floats(300, 1.5)),
        ("an outlier", with(numbers.floats(290, 1.0), &[(5, 300.0)])),
        ("outliers in two groups", with(numbers.floats(520, 0.01), &[(0, -9.0), (511, 41.0)])),
        ("blocks and groups of zeros", with(vec![0.0; 600], &[(40, 1.0), (41, -0.3), (599, 0.2)])),
        ("every magnitude", (0..280).map(|_| numbers.spread(-100, 99)).collect()),
        ("smallest", with(vec![0.0; 40], &[(3, two(-100)), (35, -two(-99))])),
        ("ties in a12", with(halves(40), &[(7, 2047.0)])),
        ("ties in a8", [vec![7_800_975.0; 256], vec![1905.0; 32], halves(32)].concat()),
        ("largest sound", with(numbers.floats(40, 1.0), &[(9, edge)])),
        ("largest sound of a head", with(numbers.floats(40, 1.0), &[(9, -head)])),
        ("fault of a head", with(numbers.floats(40, 1.0), &[(9, two(40))])),
        ("fault: 2^100", with(numbers.floats(40, 1.0), &[(39, -two(100))])),
        ("fault: infinity", with(numbers.floats(40, 1.0), &[(0, f32::NEG_INFINITY)])),
        ("fault: NaN", with(numbers.floats(300, 1.0), &[(299, f32::NAN)])),
    ]
}
