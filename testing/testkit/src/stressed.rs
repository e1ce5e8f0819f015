//! A model whose activations have outliers, computing the same function.
//!
//! One per cent of the channels at every place where activations are quantized is scaled by a
//! factor, and the weights that read them are divided by it. Large models have such channels by
//! themselves, small trained ones do not; this stands in for them.

use shoal_model::source::WeightSource;
use shoal_model::{Architecture, LinearPart, NormPart, RopeLayout, TensorRole};

use crate::Altered;

/// Channels per outlier.
const ONE_IN: usize = 100;

/// `inner`, without norms on heads, with one channel in a hundred, at least one per place, scaled
/// by `factor`.
#[must_use]
pub fn stressed(inner: Box<dyn WeightSource>, factor: f32) -> Altered {
    let outliers = Outliers { architecture: inner.architecture().clone(), factor };
    Altered::new(inner, move |role, first_row, out| outliers.alter(role, first_row, out))
}

struct Outliers {
    architecture: Architecture,
    factor: f32,
}

/// Where activations are scaled.
#[derive(Clone, Copy)]
enum Place {
    /// Outputs of a norm.
    Norm(NormPart),
    /// Values, by head of keys and values.
    Value,
    /// Products of gate and up.
    Mlp,
    /// Keys against queries, by head of keys and values.
    Key,
}

impl Outliers {
    fn alter(&self, role: TensorRole, first_row: usize, out: &mut [f32]) {
        match role {
            TensorRole::Linear(layer, part) => {
                let (_, columns) = self.architecture.linear_shape(part);
                for (i, row) in out.chunks_exact_mut(columns).enumerate() {
                    let scale = self.row_scale(layer, part, first_row + i);
                    for (column, w) in row.iter_mut().enumerate() {
                        *w = *w * scale / self.column_scale(layer, part, column);
                    }
                }
            }
            TensorRole::Bias(layer, part) => {
                for (i, b) in out.iter_mut().enumerate() {
                    *b *= self.row_scale(layer, part, i);
                }
            }
            TensorRole::Norm(layer, part @ (NormPart::Attention | NormPart::Mlp)) => {
                let count = out.len();
                for (i, w) in out.iter_mut().enumerate() {
                    *w *= self.scale(layer, Place::Norm(part), i, count);
                }
            }
            _ => {}
        }
    }

    /// The factor of `channel`, one of `count`, at a place of a layer.
    fn scale(&self, layer: u32, place: Place, channel: usize, count: usize) -> f32 {
        let salt = match place {
            Place::Norm(part) => part as usize,
            Place::Value => 5,
            Place::Mlp => 6,
            Place::Key => 7,
        };
        let outliers = count.div_ceil(ONE_IN);
        // Spread over the channels, elsewhere in every layer and place.
        let hit = |i: usize| (i * (count / outliers) + salt * 37 + layer as usize * 11) % count;
        if (0..outliers).any(|i| hit(i) == channel) { self.factor } else { 1.0 }
    }

    /// The factor of a channel of keys: both halves of a rotated pair have the same.
    fn key_scale(&self, layer: u32, head: usize, channel: usize) -> f32 {
        let rope = &self.architecture.rope;
        let (width, pairs) = (self.architecture.head_width as usize, rope.dims as usize / 2);
        let first = match rope.layout {
            _ if channel >= 2 * pairs => channel,
            RopeLayout::Interleaved => channel & !1,
            RopeLayout::Half => channel % pairs,
        };
        self.scale(layer, Place::Key, head * width + first, self.kv_width())
    }

    fn kv_width(&self) -> usize {
        let a = &self.architecture;
        (a.kv_head_count * a.head_width) as usize
    }

    /// What output `row` of a map is multiplied with.
    fn row_scale(&self, layer: u32, part: LinearPart, row: usize) -> f32 {
        let a = &self.architecture;
        let (width, group) = (a.head_width as usize, (a.head_count / a.kv_head_count) as usize);
        match part {
            LinearPart::Query => 1.0 / self.key_scale(layer, row / width / group, row % width),
            LinearPart::Key => self.key_scale(layer, row / width, row % width),
            LinearPart::Value => self.scale(layer, Place::Value, row, self.kv_width()),
            LinearPart::Up => self.scale(layer, Place::Mlp, row, a.mlp_width as usize),
            LinearPart::AttentionOutput | LinearPart::Gate | LinearPart::Down => 1.0,
        }
    }

    /// What input `column` of a map was multiplied with.
    fn column_scale(&self, layer: u32, part: LinearPart, column: usize) -> f32 {
        let a = &self.architecture;
        let (width, group) = (a.head_width as usize, (a.head_count / a.kv_head_count) as usize);
        let model = a.model_width as usize;
        match part {
            LinearPart::Query | LinearPart::Key | LinearPart::Value => {
                self.scale(layer, Place::Norm(NormPart::Attention), column, model)
            }
            LinearPart::Gate | LinearPart::Up => {
                self.scale(layer, Place::Norm(NormPart::Mlp), column, model)
            }
            LinearPart::AttentionOutput => {
                let kv = column / width / group * width + column % width;
                self.scale(layer, Place::Value, kv, self.kv_width())
            }
            LinearPart::Down => self.scale(layer, Place::Mlp, column, a.mlp_width as usize),
        }
    }
}
