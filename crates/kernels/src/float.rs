//! The row-wise operations of training, forward and backward, in f32. Spec 05 §4 to §6.
//!
//! Each is the loop of `shoal_arith::reference::float` compiled for every instruction set and
//! spread over the team: by rows, or by columns where rows are summed. All matrices are row-major
//! and contiguous. Panics when lengths do not fit each other.

mod attention;
mod loss;
mod optimizer;

use shoal_arith::reference::float;

use crate::Kernels;
use crate::per_isa::per_isa;
use crate::shared::SharedMut;

pub use attention::{AttentionBackward, AttentionForward, AttentionShape};
pub use loss::{LossRows, Teacher};

/// Columns a member sums at a time, a multiple of every vector.
const COLUMN_GROUP: usize = 64;

per_isa! {
    fn norm_rows(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32], inverse: &mut [f32])
        = norm_rows_generic;
}
per_isa! {
    fn norm_input_rows(
        dy: &[f32], x: &[f32], weight: &[f32], inverse: &[f32], dx: &mut [f32],
    ) = norm_input_rows_generic;
}
per_isa! {
    fn norm_weight(dy: &[f32], x: &[f32], inverse: f32, dw: &mut [f32])
        = float::rms_norm_weight;
}
per_isa! {
    fn swiglu(gate: &[f32], up: &[f32], h: &mut [f32]) = float::swiglu;
}
per_isa! {
    fn swiglu_backward(dh: &[f32], gate: &mut [f32], up: &mut [f32]) = float::swiglu_backward;
}
per_isa! {
    fn add(y: &mut [f32], x: &[f32]) = add_generic;
}
per_isa! {
    fn rotate_row(row: &mut [f32], rotation: Rotation<'_>, at: usize) = rotate_row_generic;
}

#[inline(always)]
fn add_generic(y: &mut [f32], x: &[f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += x;
    }
}

#[inline(always)]
fn norm_rows_generic(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32], inverse: &mut [f32]) {
    let width = weight.len();
    let rows = x.chunks_exact(width).zip(y.chunks_exact_mut(width));
    for ((x, y), inverse) in rows.zip(inverse) {
        *inverse = float::rms_norm(x, weight, epsilon, y);
    }
}

#[inline(always)]
fn norm_input_rows_generic(dy: &[f32], x: &[f32], weight: &[f32], inverse: &[f32], dx: &mut [f32]) {
    let width = weight.len();
    let mut scratch = vec![0.0; 2 * width];
    let (g, n) = scratch.split_at_mut(width);
    let rows = dy.chunks_exact(width).zip(x.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
    for (((dy, x), dx), &inverse) in rows.zip(inverse) {
        float::rms_norm_input((dy, x, weight), inverse, (g, n), dx);
    }
}

#[inline(always)]
fn rotate_row_generic(row: &mut [f32], rotation: Rotation<'_>, at: usize) {
    let pairs = rotation.pairs;
    let cos = &rotation.cos[at * pairs..][..pairs];
    let sin = &rotation.sin[at * pairs..][..pairs];
    for head in row.chunks_exact_mut(rotation.head_width) {
        float::rotate(head, cos, sin, rotation.direction, rotation.interleaved);
    }
}

/// How rows of heads are rotated.
#[derive(Clone, Copy, Debug)]
pub struct Rotation<'a> {
    /// `[positions, pairs]`
    pub cos: &'a [f32],
    /// `[positions, pairs]`
    pub sin: &'a [f32],
    /// Pairs per head.
    pub pairs: usize,
    /// Elements per head.
    pub head_width: usize,
    /// 1 forward, -1 backward.
    pub direction: f32,
    /// Pairs are elements 2 i and 2 i + 1.
    pub interleaved: bool,
}

impl Kernels {
    /// `y = (x / rms(x)) * weight` for rows of `weight.len()` elements; `inverse`: `[rows]`,
    /// 1 / rms.
    pub fn norm_forward(
        &self,
        x: &[f32],
        weight: &[f32],
        epsilon: f32,
        y: &mut [f32],
        inverse: &mut [f32],
    ) {
        let (width, rows) = (weight.len(), inverse.len());
        assert!(x.len() == rows * width && y.len() == rows * width, "shapes fit");
        let (y, inverse) = (SharedMut::new(y), SharedMut::new(inverse));
        self.rows(rows, width, &|range| {
            let (at, len) = (range.start * width, range.len() * width);
            // SAFETY: ranges of rows do not overlap.
            let (y, inverse) =
                unsafe { (y.range(at, len), inverse.range(range.start, range.len())) };
            norm_rows(self.isa(), &x[at..][..len], weight, epsilon, y, inverse);
        });
    }

    /// Backward of [`Self::norm_forward`]: adds to `dx` and, when there is one, to `d_weight`.
    pub fn norm_backward(
        &self,
        dy: &[f32],
        x: &[f32],
        weight: &[f32],
        inverse: &[f32],
        dx: &mut [f32],
        d_weight: Option<&mut [f32]>,
    ) {
        let (width, rows) = (weight.len(), inverse.len());
        let all = rows * width;
        assert!(dy.len() == all && x.len() == all && dx.len() == all, "shapes fit");
        let dx = SharedMut::new(dx);
        self.rows(rows, width, &|range| {
            let (at, len) = (range.start * width, range.len() * width);
            // SAFETY: ranges of rows do not overlap.
            let dx = unsafe { dx.range(at, len) };
            let inverse = &inverse[range];
            norm_input_rows(self.isa(), &dy[at..][..len], &x[at..][..len], weight, inverse, dx);
        });
        let Some(d_weight) = d_weight else { return };
        self.columns(rows, d_weight, &|first, dw| {
            for (t, &inverse) in inverse.iter().enumerate() {
                let at = t * width + first;
                norm_weight(self.isa(), &dy[at..][..dw.len()], &x[at..][..dw.len()], inverse, dw);
            }
        });
    }

    /// `h = silu(gate) * up`.
    pub fn swiglu_forward(&self, gate: &[f32], up: &[f32], h: &mut [f32]) {
        assert!(gate.len() == h.len() && up.len() == h.len(), "shapes fit");
        let h = SharedMut::new(h);
        self.rows(gate.len() / COLUMN_GROUP + 1, COLUMN_GROUP, &|range| {
            let (at, len) = clip(range, gate.len());
            // SAFETY: ranges do not overlap.
            let h = unsafe { h.range(at, len) };
            swiglu(self.isa(), &gate[at..][..len], &up[at..][..len], h);
        });
    }

    /// Backward of [`Self::swiglu_forward`]; `gate` and `up` become their gradients.
    pub fn swiglu_backward(&self, dh: &[f32], gate: &mut [f32], up: &mut [f32]) {
        assert!(gate.len() == dh.len() && up.len() == dh.len(), "shapes fit");
        let (gate, up) = (SharedMut::new(gate), SharedMut::new(up));
        self.rows(dh.len() / COLUMN_GROUP + 1, COLUMN_GROUP, &|range| {
            let (at, len) = clip(range, dh.len());
            // SAFETY: ranges do not overlap.
            let (gate, up) = unsafe { (gate.range(at, len), up.range(at, len)) };
            swiglu_backward(self.isa(), &dh[at..][..len], gate, up);
        });
    }

    /// `y += x`.
    pub fn add_rows(&self, y: &mut [f32], x: &[f32]) {
        assert_eq!(y.len(), x.len(), "shapes fit");
        let y = SharedMut::new(y);
        self.rows(x.len() / COLUMN_GROUP + 1, COLUMN_GROUP, &|range| {
            let (at, len) = clip(range, x.len());
            // SAFETY: ranges do not overlap.
            add(self.isa(), unsafe { y.range(at, len) }, &x[at..][..len]);
        });
    }

    /// Adds `bias` to every row of `y`.
    pub fn add_bias(&self, y: &mut [f32], bias: &[f32]) {
        assert!(y.len().is_multiple_of(bias.len()), "shapes fit");
        y.chunks_exact_mut(bias.len()).for_each(|row| add(self.isa(), row, bias));
    }

    /// Adds every row of `dy` to `d_bias`, first row first.
    pub fn bias_backward(&self, dy: &[f32], d_bias: &mut [f32]) {
        let width = d_bias.len();
        assert!(dy.len().is_multiple_of(width), "shapes fit");
        self.columns(dy.len() / width, d_bias, &|first, sums| {
            for row in dy.chunks_exact(width) {
                add(self.isa(), sums, &row[first..][..sums.len()]);
            }
        });
    }

    /// Rotates the heads of every row; row t stands at `positions[t]`.
    pub fn rotate(&self, x: &mut [f32], positions: &[u32], rotation: Rotation<'_>) {
        if positions.is_empty() {
            return;
        }
        let width = x.len() / positions.len();
        assert_eq!(width * positions.len(), x.len(), "shapes fit");
        let x = SharedMut::new(x);
        self.rows(positions.len(), width, &|range| {
            for t in range {
                // SAFETY: rows do not overlap.
                let row = unsafe { x.range(t * width, width) };
                rotate_row(self.isa(), row, rotation, positions[t] as usize);
            }
        });
    }

    /// Copies row `tokens[t]` of `table` to row t of `x`.
    pub fn embed_forward(&self, table: &[f32], tokens: &[u32], x: &mut [f32]) {
        let width = x.len().checked_div(tokens.len()).unwrap_or(0);
        for (&token, row) in tokens.iter().zip(x.chunks_exact_mut(width.max(1))) {
            row.copy_from_slice(&table[token as usize * width..][..width]);
        }
    }

    /// Adds row t of `dx` to row `tokens[t]` of `d_table`, first row first.
    pub fn embed_backward(&self, dx: &[f32], tokens: &[u32], d_table: &mut [f32]) {
        let width = dx.len().checked_div(tokens.len()).unwrap_or(0);
        for (&token, row) in tokens.iter().zip(dx.chunks_exact(width.max(1))) {
            add(self.isa(), &mut d_table[token as usize * width..][..width], row);
        }
    }

    /// Spreads columns over the team: `job(first, columns)`.
    fn columns(&self, rows: usize, sums: &mut [f32], job: &(dyn Fn(usize, &mut [f32]) + Sync)) {
        let width = sums.len();
        let sums = SharedMut::new(sums);
        self.rows(width.div_ceil(COLUMN_GROUP), COLUMN_GROUP * rows.max(1), &|groups| {
            let (first, len) = clip(groups, width);
            // SAFETY: groups of columns do not overlap.
            job(first, unsafe { sums.range(first, len) });
        });
    }
}

/// The part of `0..len` that a range of column groups covers: where it begins, how long it is.
fn clip(groups: std::ops::Range<usize>, len: usize) -> (usize, usize) {
    let first = (groups.start * COLUMN_GROUP).min(len);
    (first, (groups.end * COLUMN_GROUP).min(len) - first)
}
