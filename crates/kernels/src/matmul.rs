//! Linear maps over quantized rows. Spec 01 §5.3.
//!
//! - weights: `[rows, columns]`, tiles of 16 interleaved rows ([`crate::Linear`])
//! - x: `[T, columns]`, quantized ([`crate::Quantized`])
//! - out: `[T, rows]` f32, overwritten
//!
//! A member of the team takes ranges of row groups. Few rows are multiplied with the tiles as they
//! are stored. For many it spreads the weights of a row group into a panel once, then multiplies it
//! with up to six (AVX2) or eight rows of x at a time, so that the cost of unpacking is shared by
//! all rows and a panel stays in the first cache levels.

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
    /// How far ahead of its reader, in bytes, one row asks for weights.
    pub(crate) ahead: usize,
}

impl Kernels {
    /// `out[t, i] = sum over k of w[i, k] x[t, k]`, exact up to the final rounding.
    ///
    /// # Panics
    /// When the shapes do not fit or `x` was quantized for other weights.
    pub fn matmul(&self, weights: &Linear, x: &Quantized, out: &mut [f32]) {
        self.matmul_each(&mut [(weights, out)], x);
    }

    /// The same for several maps of the same rows, in one go: members wait for one another once.
    ///
    /// # Panics
    /// As for [`Kernels::matmul`].
    pub fn matmul_each(&self, maps: &mut [(&Linear, &mut [f32])], x: &Quantized) {
        let bytes: usize = maps.iter().map(|(map, _)| map.bytes()).sum();
        let groups: usize = maps.iter().map(|(map, _)| map.shape().row_groups()).sum();
        let Some((first, _)) = maps.first() else { return };
        let ahead = self.ahead(first.shape().format);
        let trial = ahead.begin(bytes, x.rows);
        let distance = trial.distance();
        let tasks: Vec<Task<'_>> =
            maps.iter_mut().map(|(w, out)| self.task(w, x, out, distance)).collect();
        // Enough for memory to stream where few rows make memory the limit.
        let shortest = (RANGE_BYTES * groups / (bytes * x.rows).max(1)).max(1);
        let multiply = |range: Range<usize>| {
            let mut start = 0;
            for &task in &tasks {
                let end = start + task.weights.shape().row_groups();
                let part = range.start.max(start)..range.end.min(end);
                if !part.is_empty() {
                    run(self.isa(), task, part.start - start..part.end - start);
                }
                start = end;
            }
        };
        self.team().share_ranges(groups, shortest, &multiply);
        ahead.end(trial);
    }

    fn task<'a>(
        &self,
        weights: &'a Linear,
        x: &'a Quantized,
        out: &'a mut [f32],
        ahead: usize,
    ) -> Task<'a> {
        let shape = weights.shape();
        let needs = QuantizeNeeds::of(self.isa(), shape.format, x.format);
        assert_eq!(x.needs.and(needs), x.needs, "x was quantized for these weights");
        assert_eq!(x.columns, shape.columns, "x has the columns of the weights");
        assert_eq!(out.len(), x.rows * shape.rows, "out holds T rows");
        Task { weights, x, out: SharedMut::new(out), ahead }
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
        let stride = self.weights.shape().rows;
        let rows = (stride - first).min(TILE_ROWS);
        // SAFETY: row group `g` belongs to one member, and with it these places of every row.
        let out = unsafe { self.out.range(t * stride + first, rows) };
        // A copy of known length takes one instruction, any other a call.
        if let Some(out) = out.first_chunk_mut::<TILE_ROWS>() {
            *out = *y;
        } else {
            out.copy_from_slice(&y[..rows]);
        }
    }
}
