//! One row group with a few rows of x.

use shoal_arith::limits::{BLOCK, GROUP, TILE_ROWS};

use super::Task;
use super::cursor::{Cursor, GROUP_BLOCKS};
use super::kernel::Kernel;
use crate::lanes::Lanes;

/// Cuts `0..rows` into `count` passes, as equal as possible: first row and rows of each.
pub(super) fn passes(rows: usize, count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).map(move |i| {
        let (start, end) = (rows * i / count, rows * (i + 1) / count);
        (start, end - start)
    })
}

/// Row group `g` with rows `first .. first + T` of x.
///
/// # Safety
/// The machine has the instruction set of `L`; the rows exist.
#[inline(always)]
pub(super) unsafe fn multiply<K, L: Lanes, const H: usize, const T: usize, W: Cursor>(
    task: Task<'_>,
    g: usize,
    first: usize,
    mut weights: W,
) where
    K: Kernel<L, H, W>,
{
    let x = task.x;
    let (blocks, groups) = (x.columns.div_ceil(BLOCK), x.columns.div_ceil(GROUP));
    let mut sums = [[0.0_f64; TILE_ROWS]; T];
    // SAFETY: rows first .. first + T exist, with `blocks` blocks and `groups` groups.
    unsafe {
        let multipliers = x.group_multipliers.as_ptr().add(first * groups);
        let mut rows: [*const u8; T] =
            std::array::from_fn(|t| K::rows(x).add((first + t) * blocks * K::X_BYTES));
        for group in 0..groups {
            weights.begin(group);
            weights.ask_for_group(group);
            let mut inner = [[L::zero(); H]; T];
            let count = GROUP_BLOCKS.min(blocks - group * GROUP_BLOCKS);
            K::add_group(&mut weights, &mut rows, count, &mut inner);
            weights.end(group);
            for t in 0..T {
                let n = *multipliers.add(t * groups + group);
                accumulate::<L, H>(&mut sums[t], &inner[t], n);
            }
        }
        finish::<L, T>(task, first, g, &sums);
    }
}

/// Adds the sums of a group, times the group's multiplier.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn accumulate<L: Lanes, const H: usize>(
    sums: &mut [f64; TILE_ROWS],
    inner: &[L::V; H],
    n: f64,
) {
    for (sums, &inner) in sums.chunks_exact_mut(L::ROWS).zip(inner) {
        // SAFETY: as for this function; a chunk holds ROWS elements.
        unsafe { L::accumulate(sums.as_mut_ptr(), inner, n) }
    }
}

/// Turns exact sums into outputs and writes them. `sums`: `[T][16]`.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn finish<L: Lanes, const T: usize>(
    task: Task<'_>,
    first: usize,
    g: usize,
    sums: &[[f64; TILE_ROWS]; T],
) {
    let scales = task.weights.scales(g);
    let bias = task.weights.bias(g);
    for (t, sums) in sums.iter().enumerate() {
        let mut y = [0.0_f32; TILE_ROWS];
        for r in (0..TILE_ROWS).step_by(L::ROWS) {
            // SAFETY: `r` leaves at least ROWS of the 16 elements of each array.
            unsafe {
                L::finish(
                    sums.as_ptr().add(r),
                    scales.as_ptr().add(r),
                    task.x.scales[first + t],
                    bias.map(|bias| bias.as_ptr().add(r)),
                    y.as_mut_ptr().add(r),
                );
            }
        }
        task.write(first + t, g, &y);
    }
}

/// Calls `$body` with a constant `$t` equal to `$count`, which is at most `$limit`.
macro_rules! with_rows {
    ($count:expr, $limit:expr, $t:ident => $body:expr) => {
        match $count {
            1 => {
                const $t: usize = 1;
                $body
            }
            2 => {
                const $t: usize = 2;
                $body
            }
            3 => {
                const $t: usize = 3;
                $body
            }
            4 => {
                const $t: usize = 4;
                $body
            }
            5 if $limit > 4 => {
                const $t: usize = 5;
                $body
            }
            6 if $limit > 4 => {
                const $t: usize = 6;
                $body
            }
            7 if $limit > 6 => {
                const $t: usize = 7;
                $body
            }
            8 if $limit > 6 => {
                const $t: usize = 8;
                $body
            }
            _ => unreachable!("a pass holds at most {} rows", $limit),
        }
    };
}
pub(super) use with_rows;
