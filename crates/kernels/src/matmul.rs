//! Linear maps over quantized rows. Spec 01 §5.3.
//!
//! - weights: `[rows, columns]`, tiles of 16 interleaved rows ([`crate::Linear`])
//! - x: `[T, columns]`, quantized ([`crate::Quantized`])
//! - out: `[T, stride]` f32, the first `rows` of each written
//!
//! A member of the team takes ranges of row groups. Per row group it spreads the weights into a
//! panel once, then multiplies it with up to six (AVX2) or eight rows of x at a time, so that the
//! cost of unpacking is shared by all rows and a panel stays in the first cache levels.

mod panel;
mod portable;
#[cfg(target_arch = "x86_64")]
mod vector;

use std::ops::Range;

use shoal_arith::limits::TILE_ROWS;

use crate::shared::SharedMut;
use crate::{Isa, Kernels, Linear, QuantizeNeeds, Quantized};

/// Weights that a member multiplies with one row at a time, at least.
const RANGE_BYTES: usize = 64 << 10;

/// One multiplication, as every implementation sees it.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub(crate) weights: &'a Linear,
    pub(crate) x: &'a Quantized,
    pub(crate) out: SharedMut<'a, f32>,
    pub(crate) stride: usize,
}

impl Kernels {
    /// `out[t, i] = sum over k of w[i, k] x[t, k]`, exact up to the final rounding.
    ///
    /// # Panics
    /// When the shapes do not fit or `x` was quantized for other weights.
    pub fn matmul(&self, weights: &Linear, x: &Quantized, out: &mut [f32], stride: usize) {
        let shape = weights.shape();
        let needs = QuantizeNeeds::of(self.isa(), shape.format, x.format);
        assert_eq!(x.needs.and(needs), x.needs, "x was quantized for these weights");
        assert_eq!(x.columns, shape.columns, "x has the columns of the weights");
        assert!(stride >= shape.rows, "stride holds a row");
        assert!(out.len() >= x.rows * stride, "out holds T rows");
        let task = Task { weights, x, out: SharedMut::new(out), stride };
        // Ranges long enough for memory to stream, where few rows make memory the limit.
        let shortest = (RANGE_BYTES / (shape.row_group_bytes() * x.rows.max(1))).max(1);
        let job = |groups| run(self.isa(), task, groups);
        self.team().share_ranges(shape.row_groups(), shortest, &job);
    }
}

fn run(isa: Isa, task: Task<'_>, groups: Range<usize>) {
    match isa {
        Isa::Portable => portable::run(task, groups),
        #[cfg(target_arch = "x86_64")]
        _ => vector::run(isa, task, groups),
        #[cfg(not(target_arch = "x86_64"))]
        _ => unreachable!("other instruction sets are not available here"),
    }
}

impl Task<'_> {
    /// Writes up to 16 outputs of row `t`, those of row group `g`.
    fn write(&self, t: usize, g: usize, y: &[f32; TILE_ROWS]) {
        let first = g * TILE_ROWS;
        let rows = (self.weights.shape().rows - first).min(TILE_ROWS);
        // SAFETY: row group `g` belongs to one member, and with it these places of every row.
        let out = unsafe { self.out.range(t * self.stride + first, rows) };
        out.copy_from_slice(&y[..rows]);
    }
}
