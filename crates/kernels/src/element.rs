//! Row-wise operations: norms, the gated unit, additions, conversions, embedding. Spec 01 §6.
//!
//! Rows are independent; a row with an unsound element becomes zeros and sets its flag in `faults`.

use std::sync::atomic::{AtomicBool, Ordering};

use shoal_arith::limits::{LARGEST, NORM_CODE_MAX};
use shoal_arith::reference;
use shoal_arith::scalar::{flush, from_bf16, magnitude_bits, nearest, silu, to_bf16};

use crate::per_isa::per_isa;
use crate::shared::SharedMut;
use crate::{Kernels, Linear};

impl Kernels {
    /// RMS norm of each row. `x`, `y`: `[T, width]`, `weight`: `[width]`, `faults`: `[T]`.
    ///
    /// # Panics
    /// When a shape does not fit.
    pub fn rms_norm(
        &self,
        x: &[f32],
        weight: &[f32],
        epsilon: f32,
        y: &mut [f32],
        faults: &[AtomicBool],
    ) {
        let width = weight.len();
        assert_eq!((x.len(), y.len()), (faults.len() * width, faults.len() * width), "T rows");
        self.each_row(faults, width, y, |t, y| {
            norm_row(self.isa(), &x[t * width..(t + 1) * width], weight, epsilon, y)
        });
    }

    /// `gate = silu(gate) * up`. Both `[T, width]`, `faults`: `[T]`.
    ///
    /// # Panics
    /// When a shape does not fit.
    pub fn silu_mul(&self, gate: &mut [f32], up: &[f32], width: usize, faults: &[AtomicBool]) {
        let len = faults.len() * width;
        assert_eq!((gate.len(), up.len()), (len, len), "T rows");
        self.each_row(faults, width, gate, |t, gate| {
            silu_row(self.isa(), gate, &up[t * width..(t + 1) * width])
        });
    }

    /// Sets the flag of each row with an unsound element. `x`: `[T, width]`, `faults`: `[T]`.
    ///
    /// # Panics
    /// When a shape does not fit.
    pub fn check_rows(&self, x: &[f32], width: usize, faults: &[AtomicBool]) {
        assert_eq!(x.len(), faults.len() * width, "T rows");
        self.rows(faults.len(), width, &|range| {
            for t in range {
                if largest_bits(self.isa(), &x[t * width..(t + 1) * width]) >= LARGEST.to_bits() {
                    faults[t].store(true, Ordering::Relaxed);
                }
            }
        });
    }

    fn each_row(
        &self,
        faults: &[AtomicBool],
        width: usize,
        y: &mut [f32],
        row: impl Fn(usize, &mut [f32]) -> bool + Sync,
    ) {
        let y = SharedMut::new(y);
        self.rows(faults.len(), width, &|range| {
            for t in range {
                // SAFETY: each row is written by the one member whose range holds it.
                let y = unsafe { y.range(t * width, width) };
                if !row(t, y) {
                    y.fill(0.0);
                    faults[t].store(true, Ordering::Relaxed);
                }
            }
        });
    }

    /// `h = h + x`, element by element.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add(&self, h: &mut [f32], x: &[f32]) {
        assert_eq!(h.len(), x.len(), "equal lengths");
        let shared = SharedMut::new(h);
        self.rows(x.len(), 1, &|range| {
            // SAFETY: ranges of different members do not overlap.
            let h = unsafe { shared.range(range.start, range.len()) };
            add_slice(self.isa(), h, &x[range]);
        });
    }

    /// `rows = bf16(h + x)`, the residual at a layer's end.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn add_to_bf16(&self, h: &[f32], x: &[f32], rows: &mut [u16]) {
        assert_eq!((h.len(), x.len()), (rows.len(), rows.len()), "equal lengths");
        let shared = SharedMut::new(rows);
        self.rows(x.len(), 1, &|range| {
            // SAFETY: ranges of different members do not overlap.
            let rows = unsafe { shared.range(range.start, range.len()) };
            add_to_bf16_slice(self.isa(), &h[range.clone()], &x[range], rows);
        });
    }

    /// The f32 of residual rows.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn widen(&self, rows: &[u16], h: &mut [f32]) {
        assert_eq!(rows.len(), h.len(), "equal lengths");
        for (h, &row) in h.iter_mut().zip(rows) {
            *h = from_bf16(row);
        }
    }

    /// The first residual rows of `tokens`, `[T, columns]`, read from the embedding.
    ///
    /// # Panics
    /// When a token is beyond the vocabulary or a shape does not fit.
    pub fn embed(&self, embedding: &Linear, tokens: &[usize], rows: &mut [u16]) {
        let width = embedding.shape().columns;
        assert_eq!(rows.len(), tokens.len() * width, "a row per token");
        for (&token, row) in tokens.iter().zip(rows.chunks_exact_mut(width)) {
            reference::element::embed(&embedding.row(token), row);
        }
    }
}

per_isa! {
    pub(crate) fn norm_row(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) -> bool
        = generic_norm_row;
}

/// Writes the normed row; false, with nothing written, when an element is not sound.
#[inline(always)]
fn generic_norm_row(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) -> bool {
    let max = NORM_CODE_MAX as f32;
    let bits = generic_largest_bits(x);
    if bits >= LARGEST.to_bits() {
        return false;
    }
    if bits == 0 {
        y.fill(0.0);
        return true;
    }
    let amax = f32::from_bits(bits);
    let to_code = max / amax;
    let squares: u64 = x
        .iter()
        .map(|&x| {
            let code = nearest(clamp(x * to_code, max)).unsigned_abs();
            u64::from(code) * u64::from(code)
        })
        .sum();
    let unit = amax / max;
    let mean = squares as f32 / x.len() as f32;
    let inverse = 1.0 / ((mean * unit) * unit + epsilon).sqrt();
    for ((y, &x), &weight) in y.iter_mut().zip(x).zip(weight) {
        *y = flush((x * inverse) * weight);
    }
    true
}

/// `x` within `-limit..=limit`; `x` is not NaN. Compiles to a minimum and a maximum.
#[inline(always)]
pub(crate) fn clamp(x: f32, limit: f32) -> f32 {
    let x = if x < -limit { -limit } else { x };
    if x > limit { limit } else { x }
}

per_isa! {
    fn largest_bits(x: &[f32]) -> u32 = generic_largest_bits;
}

/// The bits of the largest magnitude, NaN on top. Spec 01 §3.2.
#[inline(always)]
fn generic_largest_bits(x: &[f32]) -> u32 {
    x.iter().fold(0, |largest, &x| magnitude_bits(x).max(largest))
}

per_isa! {
    fn silu_row(gate: &mut [f32], up: &[f32]) -> bool = generic_silu_row;
}

/// Overwrites the row; false when an element is not sound.
#[inline(always)]
fn generic_silu_row(gate: &mut [f32], up: &[f32]) -> bool {
    let mut bits = 0;
    for (gate, &up) in gate.iter_mut().zip(up) {
        bits = magnitude_bits(*gate).max(magnitude_bits(up)).max(bits);
        *gate = flush(flush(silu(*gate)) * up);
    }
    bits < LARGEST.to_bits()
}

per_isa! {
    fn add_slice(h: &mut [f32], x: &[f32]) = generic_add;
}

#[inline(always)]
fn generic_add(h: &mut [f32], x: &[f32]) {
    for (h, &x) in h.iter_mut().zip(x) {
        *h = flush(*h + x);
    }
}

per_isa! {
    fn add_to_bf16_slice(h: &[f32], x: &[f32], rows: &mut [u16]) = generic_add_to_bf16;
}

#[inline(always)]
fn generic_add_to_bf16(h: &[f32], x: &[f32], rows: &mut [u16]) {
    for ((row, &h), &x) in rows.iter_mut().zip(h).zip(x) {
        *row = to_bf16(flush(h + x));
    }
}
