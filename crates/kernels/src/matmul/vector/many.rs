//! Many rows of x: the weights of a row group are spread into a panel once for all of them.

use std::ops::Range;

use super::Task;
use super::cursor::Panel;
use super::kernel::{Kernel, Spread};
use super::row_group::{multiply, passes, with_rows};
use crate::lanes::Lanes;

/// Panels that are multiplied with the same rows one after the other, as long as they fit the
/// second cache, so that rows of x are read once for all of them. Counted, not measured.
const PANELS: usize = 4;
/// Bytes of those panels.
pub(super) const PANELS_BYTES: usize = 256 << 10;

/// Many rows: the row groups of `groups` from panels of `BYTES` per block, at most `R` rows at a
/// time.
///
/// # Safety
/// The machine has the instruction set of `L`.
#[inline(always)]
pub(super) unsafe fn multiply_panels<
    K,
    L: Lanes,
    const H: usize,
    const R: usize,
    const BYTES: usize,
>(
    task: Task<'_>,
    groups: Range<usize>,
    panels: &mut [u8],
) where
    K: Kernel<L, H, Panel<BYTES>> + Spread<L, H>,
{
    let shape = task.weights.shape();
    let bytes = shape.blocks() * BYTES;
    let at_once = (PANELS_BYTES / bytes).clamp(1, PANELS);
    let count = task.x.rows.div_ceil(R);
    for start in groups.clone().step_by(at_once) {
        let part = start..groups.end.min(start + at_once);
        // What is multiplied when each of these is done.
        let next: [Option<&[u8]>; PANELS] = std::array::from_fn(|i| {
            let g = start + i + part.len();
            (g < shape.row_groups()).then(|| task.weights.row_group(g))
        });
        for (g, panel) in part.clone().zip(panels.chunks_exact_mut(bytes)) {
            // SAFETY: as for this function.
            unsafe { K::spread(task.weights, g, panel) }
        }
        for (pass, (first, rows)) in passes(task.x.rows, count).enumerate() {
            for (g, panel) in part.clone().zip(panels.chunks_exact(bytes)) {
                let panel = Panel::new(panel.as_ptr(), shape, next[g - part.start], pass, count);
                // SAFETY: as for this function; the panel was spread for this row group.
                unsafe {
                    with_rows!(rows, R, T => multiply::<K, L, H, T, _>(task, g, first, panel));
                }
            }
        }
    }
}
