//! The vector kernels, written once over [`Lanes`].

mod cursor;
mod narrow;
mod vnni;
mod wide;

use std::cell::RefCell;
use std::ops::Range;

use shoal_arith::limits::{BLOCK, TILE_ROWS};

use super::Task;
use crate::Isa;
use crate::lanes::{Avx2, Avx512, Lanes};

thread_local! {
    /// Each member's panel; grows to the widest map and stays.
    static PANEL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Multiplies the row groups of `groups`.
pub(super) fn run(isa: Isa, task: Task<'_>, groups: Range<usize>) {
    let shape = task.weights.shape();
    let narrow = crate::QuantizeNeeds::of(isa, shape.format, task.x.format).is_narrow();
    // The widest panel: 16 rows of i16 per column, or bytes with two extra vectors per block.
    let bytes = shape.blocks() * BLOCK * TILE_ROWS * 2;
    PANEL.with_borrow_mut(|panel| {
        if panel.len() < bytes {
            panel.resize(bytes, 0);
        }
        // SAFETY: `Kernels::new` checked that the machine has `isa`.
        unsafe {
            match (isa, narrow) {
                (Isa::Portable, _) => unreachable!("handled by the caller"),
                (Isa::Avx2, true) => narrow_avx2(task, groups, panel),
                (Isa::Avx2, false) => wide_avx2(task, groups, panel),
                (Isa::Avx512, true) => narrow_avx512(task, groups, panel),
                (Isa::Avx512Vnni, true) => vnni::run(task, groups, panel),
                (Isa::Avx512 | Isa::Avx512Vnni, false) => wide_avx512(task, groups, panel),
            }
        }
    });
}

#[target_feature(enable = "avx2")]
fn narrow_avx2(task: Task<'_>, groups: Range<usize>, panel: &mut [u8]) {
    // SAFETY: this function has AVX2.
    unsafe { narrow::run::<Avx2, 2, 4>(task, groups, panel) }
}

#[target_feature(enable = "avx2")]
fn wide_avx2(task: Task<'_>, groups: Range<usize>, panel: &mut [u8]) {
    // SAFETY: this function has AVX2.
    unsafe { wide::run::<Avx2, 2, 6>(task, groups, panel) }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
fn narrow_avx512(task: Task<'_>, groups: Range<usize>, panel: &mut [u8]) {
    // SAFETY: this function has AVX-512.
    unsafe { narrow::run::<Avx512, 1, 8>(task, groups, panel) }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
fn wide_avx512(task: Task<'_>, groups: Range<usize>, panel: &mut [u8]) {
    // SAFETY: this function has AVX-512.
    unsafe { wide::run::<Avx512, 1, 8>(task, groups, panel) }
}

/// Cuts `0..rows` into `count` passes, as equal as possible: first row and rows of each.
fn passes(rows: usize, count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).map(move |i| {
        let (start, end) = (rows * i / count, rows * (i + 1) / count);
        (start, end - start)
    })
}

/// Turns exact sums into outputs and writes them. `sums`: `[T][16]`.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
unsafe fn finish<L: Lanes, const T: usize>(
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
use with_rows;
