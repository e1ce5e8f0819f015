//! Packing: the elements of a panel in the order in which the inner product reads them.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::MatrixRef;
use crate::Isa;

/// Depth steps written at a time, so that a line of the panel is whole before it leaves the cache.
const STEPS: usize = 16;

/// Writes `out[k * width + r] = m(row + r, first + k)`, zeros for rows beyond the last.
///
/// The caller vouches that the machine has `isa`.
pub(super) fn panel(
    isa: Isa,
    m: MatrixRef<'_>,
    (row, first): (usize, usize),
    width: usize,
    out: &mut [f32],
) {
    let rows = (m.rows - row).min(width);
    let depth = out.len() / width;
    if m.row_stride == 1 {
        let from = &m.data[first * m.column_stride + row..];
        match width {
            6 if rows == 6 => return copied::<6>(from, m.column_stride, out),
            14 if rows == 14 => return copied::<14>(from, m.column_stride, out),
            16 if rows == 16 => return copied::<16>(from, m.column_stride, out),
            32 if rows == 32 => return copied::<32>(from, m.column_stride, out),
            _ => {}
        }
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
        let mut done = 0;
        #[cfg(target_arch = "x86_64")]
        if isa != Isa::Portable && rows == width && matches!(width % LANES, 0 | 6) {
            // SAFETY: the caller vouches for AVX2.
            done = unsafe { transposed(m, row, first, width, out) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = isa;
        for k in (done..depth).step_by(STEPS) {
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

/// Copies runs of `WIDTH` elements that begin `stride` apart; as one or two vectors each, where a
/// copy of any length would be a call.
fn copied<const WIDTH: usize>(from: &[f32], stride: usize, out: &mut [f32]) {
    for (k, out) in out.as_chunks_mut::<WIDTH>().0.iter_mut().enumerate() {
        out.copy_from_slice(&from[k * stride..][..WIDTH]);
    }
}

/// Lanes of the vectors that are turned.
#[cfg(target_arch = "x86_64")]
const LANES: usize = 8;

/// Packs whole squares of 8 x 8 elements of a panel without missing rows; the last may have 6 rows.
/// Returns how many depth steps are done.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn transposed(m: MatrixRef<'_>, row: usize, first: usize, width: usize, out: &mut [f32]) -> usize {
    let steps = out.len() / width / LANES * LANES;
    for k in (0..steps).step_by(LANES) {
        for group in (0..width).step_by(LANES) {
            let rows = (width - group).min(LANES);
            let mut square = [_mm256_setzero_ps(); LANES];
            for (r, vector) in square[..rows].iter_mut().enumerate() {
                let from = &m.data[(row + group + r) * m.row_stride + first + k..][..LANES];
                // SAFETY: `from` holds 8 elements.
                *vector = unsafe { _mm256_loadu_ps(from.as_ptr()) };
            }
            for (i, vector) in turn(square).into_iter().enumerate() {
                let to = &mut out[(k + i) * width + group..][..rows];
                let low = _mm256_castps256_ps128(vector);
                let high = _mm256_extractf128_ps::<1>(vector);
                // SAFETY: `to` holds 8 elements or 6.
                unsafe {
                    _mm_storeu_ps(to.as_mut_ptr(), low);
                    match rows {
                        LANES => _mm_storeu_ps(to.as_mut_ptr().add(4), high),
                        _ => _mm_store_sd(to.as_mut_ptr().add(4).cast(), _mm_castps_pd(high)),
                    }
                }
            }
        }
    }
    steps
}

/// Exchanges rows and columns.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
#[inline]
fn turn(rows: [__m256; LANES]) -> [__m256; LANES] {
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = [(a, b), (c, d), (e, f), (g, h)];
    let [ab, cd, ef, gh] = pairs.map(|(x, y)| (_mm256_unpacklo_ps(x, y), _mm256_unpackhi_ps(x, y)));
    let fours = |x, y| (_mm256_shuffle_ps::<0x44>(x, y), _mm256_shuffle_ps::<0xee>(x, y));
    let (top0, top1) = fours(ab.0, cd.0);
    let (top2, top3) = fours(ab.1, cd.1);
    let (low0, low1) = fours(ef.0, gh.0);
    let (low2, low3) = fours(ef.1, gh.1);
    let halves = [(top0, low0), (top1, low1), (top2, low2), (top3, low3)];
    let [h0, h1, h2, h3] = halves
        .map(|(x, y)| (_mm256_permute2f128_ps::<0x20>(x, y), _mm256_permute2f128_ps::<0x31>(x, y)));
    [h0.0, h1.0, h2.0, h3.0, h0.1, h1.1, h2.1, h3.1]
}
