//! Packing: the elements of a panel in the order in which the inner product reads them.

use super::MatrixRef;

/// Depth steps written at a time, so that a line of the panel is whole before it leaves the cache.
const STEPS: usize = 16;

/// Writes `out[k * width + r] = m(row + r, first + k)`, zeros for rows beyond the last.
pub(super) fn panel(m: MatrixRef<'_>, row: usize, first: usize, width: usize, out: &mut [f32]) {
    let rows = (m.rows - row).min(width);
    let depth = out.len() / width;
    if m.row_stride == 1 {
        for (k, out) in out.chunks_exact_mut(width).enumerate() {
            let from = &m.data[(first + k) * m.column_stride + row..][..rows];
            out[..rows].copy_from_slice(from);
            out[rows..].fill(0.0);
        }
        return;
    }
    if rows < width {
        out.fill(0.0);
    }
    if m.column_stride == 1 {
        for k in (0..depth).step_by(STEPS) {
            let steps = (depth - k).min(STEPS);
            let out = &mut out[k * width..(k + steps) * width];
            for r in 0..rows {
                let from = &m.data[(row + r) * m.row_stride + first + k..][..steps];
                for (out, &x) in out[r..].iter_mut().step_by(width).zip(from) {
                    *out = x;
                }
            }
        }
        return;
    }
    for (k, out) in out.chunks_exact_mut(width).enumerate() {
        for (r, out) in out[..rows].iter_mut().enumerate() {
            *out = m.data[(row + r) * m.row_stride + (first + k) * m.column_stride];
        }
    }
}
