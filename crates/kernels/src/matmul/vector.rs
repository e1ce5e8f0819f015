//! The vector kernels, written once over [`Lanes`].

mod cursor;
mod narrow;
mod vnni;
mod wide;

use std::cell::RefCell;
use std::ops::Range;

use shoal_arith::limits::{BLOCK, GROUP, TILE_ROWS};

use super::Task;
use crate::lanes::{Avx2, Avx512, Lanes};
use crate::{Isa, Linear, Quantized};
use cursor::{Cursor, GROUP_BLOCKS, Panel};

/// Row groups that one row of x is multiplied with at once. They lie far apart: the machine reads
/// ahead within pages of 4 KiB, so a thread that reads from several places waits less for memory.
/// A probe that only reads, two threads of a Zen 3 beside other work: 16 GB/s from one place each,
/// 20 from two, 24 from four. That decoding gains from it was not shown.
const STREAMS: usize = 4;

/// Panels that are multiplied with the same rows one after the other, as long as they fit the
/// second cache, so that rows of x are read once for all of them. Counted, not measured.
const PANELS: usize = 4;
/// Bytes of those panels.
const PANELS_BYTES: usize = 256 << 10;

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

/// Cuts `0..rows` into `count` passes, as equal as possible: first row and rows of each.
fn passes(rows: usize, count: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..count).map(move |i| {
        let (start, end) = (rows * i / count, rows * (i + 1) / count);
        (start, end - start)
    })
}

/// How a kernel multiplies a block of weights, which `W` is at.
trait Kernel<L: Lanes, const H: usize, W> {
    /// Bytes of a block of a row of x.
    const X_BYTES: usize;

    /// The first block of the first row, `[T, blocks]`.
    fn rows(x: &Quantized) -> *const u8;

    /// Adds products of a block with `T` rows.
    ///
    /// # Safety
    /// The machine has the instruction set of `L`; `weights` is at a block, `rows` point to blocks.
    unsafe fn add_block<const T: usize>(
        weights: W,
        rows: &[*const u8; T],
        inner: &mut [[L::V; H]; T],
    );
}

/// How a kernel spreads a row group into a panel.
trait Spread<L: Lanes, const H: usize> {
    /// Spreads row group `g`.
    ///
    /// # Safety
    /// The machine has the instruction set of `L`.
    unsafe fn spread(weights: &Linear, g: usize, panel: &mut [u8]);
}

/// Few rows: the row groups of `groups` as they are stored, each found by `tiles`. `R`: the most
/// rows of a pass.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
unsafe fn multiply_tiles<K, L: Lanes, const H: usize, const R: usize, W: Cursor>(
    task: Task<'_>,
    groups: Range<usize>,
    tiles: impl Fn(usize) -> W,
) where
    K: Kernel<L, H, W>,
{
    let rows = task.x.rows;
    let apart = if rows == 1 { groups.len() / STREAMS } else { 0 };
    for g in groups.start..groups.start + apart {
        let at: [usize; STREAMS] = std::array::from_fn(|stream| g + stream * apart);
        // SAFETY: as for this function.
        unsafe { multiply::<K, L, H, 1, STREAMS, W>(task, at, 0, at.map(&tiles)) }
    }
    for g in groups.start + STREAMS * apart..groups.end {
        for (first, rows) in passes(rows, rows.div_ceil(R)) {
            // SAFETY: as for this function.
            unsafe {
                with_rows!(rows, R, T =>
                    multiply::<K, L, H, T, 1, W>(task, [g], first, [tiles(g)]));
            }
        }
    }
}

/// Many rows: the row groups of `groups` from panels of `BYTES` per block, at most `R` rows at a
/// time.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
unsafe fn multiply_panels<K, L: Lanes, const H: usize, const R: usize, const BYTES: usize>(
    task: Task<'_>,
    groups: Range<usize>,
    panels: &mut [u8],
) where
    K: Kernel<L, H, Panel<BYTES>> + Spread<L, H>,
{
    let bytes = task.weights.shape().blocks() * BYTES;
    let at_once = (PANELS_BYTES / bytes).clamp(1, PANELS);
    let count = task.x.rows.div_ceil(R);
    for start in groups.clone().step_by(at_once) {
        let part = start..groups.end.min(start + at_once);
        for (g, panel) in part.clone().zip(panels.chunks_exact_mut(bytes)) {
            // SAFETY: as for this function.
            unsafe { K::spread(task.weights, g, panel) }
        }
        for (pass, (first, rows)) in passes(task.x.rows, count).enumerate() {
            for (g, panel) in part.clone().zip(panels.chunks_exact(bytes)) {
                let next = g + part.len();
                let panel = Panel::new(panel.as_ptr(), task.weights, next, pass, count);
                // SAFETY: as for this function; the panel was spread for this row group.
                unsafe {
                    with_rows!(rows, R, T =>
                        multiply::<K, L, H, T, 1, _>(task, [g], first, [panel]));
                }
            }
        }
    }
}

/// Row groups `at` with rows `first .. first + T` of x.
///
/// # Safety
/// The machine has the instruction set of `L`; the rows exist.
#[inline(always)]
unsafe fn multiply<K, L: Lanes, const H: usize, const T: usize, const G: usize, W: Cursor>(
    task: Task<'_>,
    at: [usize; G],
    first: usize,
    mut weights: [W; G],
) where
    K: Kernel<L, H, W>,
{
    let x = task.x;
    let (blocks, groups) = (x.columns.div_ceil(BLOCK), x.columns.div_ceil(GROUP));
    let mut sums = [[[0.0_f64; TILE_ROWS]; T]; G];
    // SAFETY: rows first .. first + T exist, with `blocks` blocks and `groups` groups.
    unsafe {
        let multipliers = x.group_multipliers.as_ptr().add(first * groups);
        let mut rows: [*const u8; T] =
            std::array::from_fn(|t| K::rows(x).add((first + t) * blocks * K::X_BYTES));
        for group in 0..groups {
            for weights in &mut weights {
                weights.begin(group);
            }
            let mut inner = [[[L::zero(); H]; T]; G];
            for _ in 0..GROUP_BLOCKS.min(blocks - group * GROUP_BLOCKS) {
                for (weights, inner) in weights.iter_mut().zip(&mut inner) {
                    K::add_block(*weights, &rows, inner);
                    weights.advance();
                }
                rows = rows.map(|row| row.add(K::X_BYTES));
            }
            for (inner, sums) in inner.iter().zip(&mut sums) {
                for t in 0..T {
                    let n = *multipliers.add(t * groups + group);
                    for (h, &inner) in inner[t].iter().enumerate() {
                        L::accumulate(sums[t].as_mut_ptr().add(h * L::ROWS), inner, n);
                    }
                }
            }
        }
        for (g, sums) in at.into_iter().zip(&sums) {
            finish::<L, T>(task, first, g, sums);
        }
    }
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
