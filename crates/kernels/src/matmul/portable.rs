//! Plain Rust: the integers `m q + o` of one tile at a time.

use std::ops::Range;

use shoal_arith::limits::{BLOCK, GROUP, TILE_ROWS};
use shoal_arith::scalar::flush;

use super::Task;
use super::panel::{Wide, WidePanel};

/// Multiplies the row groups of `groups`.
pub(super) fn run(task: Task<'_>, groups: Range<usize>) {
    let blocks = task.weights.shape().blocks();
    let mut panel = WidePanel::new(blocks);
    for g in groups {
        panel.fill(task.weights, g);
        for t in 0..task.x.rows {
            let x = &task.x.wide[t * blocks * BLOCK..(t + 1) * blocks * BLOCK];
            let group_count = task.x.columns.div_ceil(GROUP);
            let multipliers = &task.x.group_multipliers[t * group_count..(t + 1) * group_count];
            let sums = accumulate(&panel.quads, x, multipliers);
            task.write(t, g, &finish(task, t, g, &sums));
        }
    }
}

fn accumulate(quads: &[Wide], x: &[i16], multipliers: &[f64]) -> [i64; TILE_ROWS] {
    let group_quads = GROUP / 4;
    let mut sums = [0_i64; TILE_ROWS];
    let groups = quads.chunks(group_quads).zip(x.chunks(GROUP));
    for ((quads, x), &n) in groups.zip(multipliers) {
        let mut inner = [0_i32; TILE_ROWS];
        for (quad, x) in quads.iter().zip(x.chunks_exact(4)) {
            for (sum, w) in inner.iter_mut().zip(quad) {
                for (&w, &x) in w.iter().zip(x) {
                    *sum += i32::from(w) * i32::from(x);
                }
            }
        }
        for (sum, inner) in sums.iter_mut().zip(inner) {
            *sum += i64::from(inner) * n as i64;
        }
    }
    sums
}

fn finish(task: Task<'_>, t: usize, g: usize, sums: &[i64; TILE_ROWS]) -> [f32; TILE_ROWS] {
    let scales = task.weights.scales(g);
    let bias = task.weights.bias(g);
    std::array::from_fn(|r| {
        let y = flush(sums[r] as f32 * scales[r] * task.x.scales[t]);
        bias.map_or(y, |bias| flush(y + bias[r]))
    })
}
