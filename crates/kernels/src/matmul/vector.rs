//! The vector kernels, written once over [`crate::lanes::Lanes`].

mod cursor;
mod few;
mod kernel;
mod many;
mod narrow;
mod row_group;
mod vnni;
mod wide;

use std::cell::RefCell;
use std::ops::Range;

use shoal_arith::limits::{BLOCK, TILE_ROWS};

use super::Task;
use crate::Isa;
use crate::lanes::{Avx2, Avx512};
use many::PANELS_BYTES;

thread_local! {
    /// Each member's panels; grows to the widest map and stays.
    static PANEL: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Multiplies the row groups of `groups`.
pub(super) fn run(isa: Isa, task: Task<'_>, groups: Range<usize>) {
    let shape = task.weights.shape();
    let narrow = crate::QuantizeNeeds::of(isa, shape.format, task.x.format).is_narrow();
    // The widest panel: 16 rows of i16 per column, or bytes with two extra vectors per block.
    let bytes = PANELS_BYTES.max(shape.blocks() * BLOCK * TILE_ROWS * 2);
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
    unsafe { narrow::run::<Avx2, 2, 6>(task, groups, panel) }
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
