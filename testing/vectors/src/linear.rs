//! Linear maps. Spec 01 §5; the bytes of a section, spec 02 §5.1.

use serde::{Deserialize, Serialize};
use shoal_arith::reference::matmul::{accumulate, output};
use shoal_arith::tile::{LinearShape, write_row_group};
use shoal_arith::{Activation, ActivationFormat, WeightFormat, WeightRow};
use shoal_model::package::{InputFormat, StoredFormat};

use crate::hex::Hex;
use crate::numbers::Numbers;

/// Rows of weights times rows of activations.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearCase {
    /// What is special about it.
    pub name: String,
    /// Format of the weights.
    pub weights: StoredFormat,
    /// Format of the activations.
    pub inputs: InputFormat,
    /// Columns.
    pub columns: usize,
    /// The weights.
    pub rows: Vec<Row>,
    /// One per row, or empty.
    pub bias: Hex<f32>,
    /// Rows of activations, one after the other.
    pub x: Hex<f32>,
    /// For each row of activations, the integer of each row of weights.
    pub accumulators: Vec<Vec<i64>>,
    /// For each row of activations, the result of each row of weights.
    pub y: Hex<f32>,
    /// The bytes of the section, where given.
    pub section: Option<Hex<u8>>,
}

/// One row of weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `D`
    pub scale: Hex<f32>,
    /// `m`
    pub multipliers: Vec<i8>,
    /// `o`, empty without offsets.
    pub offsets: Vec<i16>,
    /// `q`
    pub codes: Hex<i8>,
}

impl LinearCase {
    /// The shape of the map.
    #[must_use]
    pub fn shape(&self) -> LinearShape {
        LinearShape {
            rows: self.rows.len(),
            columns: self.columns,
            format: WeightFormat::from(self.weights),
        }
    }

    /// The weights as the reference takes them.
    #[must_use]
    pub fn weight_rows(&self) -> Vec<WeightRow> {
        let row = |row: &Row| WeightRow {
            codes: row.codes.0.clone(),
            multipliers: row.multipliers.clone(),
            offsets: match row.offsets.is_empty() {
                true => vec![0; row.multipliers.len()],
                false => row.offsets.clone(),
            },
            scale: row.scale.0[0],
        };
        self.rows.iter().map(row).collect()
    }

    /// The bytes of the section.
    #[must_use]
    pub fn section_bytes(&self) -> Vec<u8> {
        let shape = self.shape();
        let mut bytes = vec![0; shape.bytes()];
        for (g, rows) in self.weight_rows().chunks(16).enumerate() {
            write_row_group(shape, g, rows, &mut bytes);
        }
        bytes
    }

    /// Fills in what the reference gives.
    fn solved(mut self, with_section: bool) -> Self {
        let weights = self.weight_rows();
        let format = ActivationFormat::from(self.inputs);
        for x in self.x.0.chunks_exact(self.columns) {
            let x = Activation::quantize(x, format).expect("inputs are sound");
            self.accumulators.push(weights.iter().map(|row| accumulate(row, &x)).collect());
            let bias = |i: usize| self.bias.0.get(i).copied();
            let y = weights.iter().enumerate().map(|(i, row)| output(row, &x, bias(i)));
            self.y.0.extend(y);
        }
        self.section = with_section.then(|| Hex(self.section_bytes()));
        self
    }
}

/// Every case.
#[must_use]
pub fn cases() -> Vec<LinearCase> {
    let weights = [StoredFormat::I8, StoredFormat::I4, StoredFormat::I4Offset];
    let inputs = [InputFormat::A8, InputFormat::A12];
    let mut cases = Vec::new();
    for weights in weights {
        for inputs in inputs {
            for columns in [7, 40, 300] {
                let with_section = columns == 40 && inputs == InputFormat::A8;
                cases.push(random(weights, inputs, columns).solved(with_section));
            }
            cases.push(extreme(weights, inputs).solved(false));
        }
    }
    cases
}

fn random(weights: StoredFormat, inputs: InputFormat, columns: usize) -> LinearCase {
    let mut numbers = Numbers(columns as u64);
    let format = WeightFormat::from(weights);
    let blocks = columns.div_ceil(32);
    let (low, high) = format.code_range();
    let (m_low, m_high) = format.multiplier_range();
    let mut row = |i: usize| Row {
        scale: Hex(vec![if i == 2 { 0.0 } else { numbers.float(0.01) }]),
        multipliers: (0..blocks).map(|_| numbers.within(m_low, m_high) as i8).collect(),
        offsets: match format.offset_max() {
            0 => Vec::new(),
            max => (0..blocks).map(|_| numbers.within(-max, max) as i16).collect(),
        },
        codes: Hex((0..columns).map(|_| numbers.within(low, high) as i8).collect()),
    };
    let rows = (0..4).map(&mut row).collect();
    let mut x = numbers.floats(columns * 2, 3.0);
    x[columns / 2] *= 40.0;
    x[columns..].fill(0.0);
    x[columns + columns / 3] = -1e-20;
    let bias = if columns == 40 { vec![0.5, -1.25, 1e-31, 3.0] } else { Vec::new() };
    LinearCase {
        name: format!("{columns} columns"),
        weights,
        inputs,
        columns,
        rows,
        bias: Hex(bias),
        x: Hex(x),
        accumulators: Vec::new(),
        y: Hex::default(),
        section: None,
    }
}

/// The largest sums of two groups and a tail, both signs.
fn extreme(weights: StoredFormat, inputs: InputFormat) -> LinearCase {
    let columns = 2 * 256 + 40_usize;
    let format = WeightFormat::from(weights);
    let blocks = columns.div_ceil(32);
    let (low, high) = format.code_range();
    let (m_low, m_high) = format.multiplier_range();
    let row = |code: i32, multiplier: i32, offset: i32, scale: f32| Row {
        scale: Hex(vec![scale]),
        multipliers: vec![multiplier as i8; blocks],
        offsets: match format.offset_max() {
            0 => Vec::new(),
            _ => vec![offset as i16; blocks],
        },
        codes: Hex(vec![code as i8; columns]),
    };
    let o = format.offset_max();
    LinearCase {
        name: "largest sums".to_owned(),
        weights,
        inputs,
        columns,
        rows: vec![
            row(low, m_high, -o, f32::from_bits(67 << 23)),
            row(low, m_low, o, -1.5),
            row(high, m_high, o, f32::from_bits(167 << 23)),
        ],
        bias: Hex::default(),
        x: Hex([vec![7.5; columns], vec![-f32::from_bits(226 << 23); columns]].concat()),
        accumulators: Vec::new(),
        y: Hex::default(),
        section: None,
    }
}
