//! The arithmetic of training: f32 with every sum in a fixed order. Spec 05.
//!
//! Two orders exist. A *chain* adds its terms one after another with fused multiply-adds, and is
//! what matrix products are made of. A *lane sum* deals its terms to sixteen lanes and folds these
//! in a fixed tree, without fusing. Element functions use `+ - * /`, `sqrt` and `exp2` of
//! [`crate::scalar`], never a fused operation. Subnormal numbers are kept.

use crate::scalar::{LOG2_E, exp2};

/// Lanes of a lane sum.
pub const LANES: usize = 16;

/// `c + a[0] b[0] + a[1] b[1] + …`, each step one fused multiply-add. Spec 05 §2.1.
#[must_use]
pub fn chain(c: f32, terms: impl Iterator<Item = (f32, f32)>) -> f32 {
    terms.fold(c, |sum, (a, b)| a.mul_add(b, sum))
}

/// A product of matrices: `c[i, j]` becomes the chain over ascending `k` of `a(i, k) b(k, j)`,
/// begun at `c[i, j]`. `c`: `[rows, columns]`.
pub fn matrix_product(
    (rows, columns, depth): (usize, usize, usize),
    a: impl Fn(usize, usize) -> f32,
    b: impl Fn(usize, usize) -> f32,
    c: &mut [f32],
) {
    for i in 0..rows {
        for j in 0..columns {
            let terms = (0..depth).map(|k| (a(i, k), b(k, j)));
            c[i * columns + j] = chain(c[i * columns + j], terms);
        }
    }
}

/// Folds sixteen lanes: l with l + 8, then l + 4, l + 2, l + 1. Spec 05 §2.2.
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The lane sum of `x[i]`; term `i` goes to lane `i mod 16`.
#[inline(always)]
#[must_use]
pub fn lane_sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for lane in 0..LANES {
            lanes[lane] += x[lane];
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        lanes[lane] += x;
    }
    fold(lanes)
}

/// The lane sum of `x[i] * y[i]`, products rounded before they are added.
#[inline(always)]
#[must_use]
pub fn lane_dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    let (whole_x, rest_x) = x.as_chunks::<LANES>();
    let (whole_y, rest_y) = y.as_chunks::<LANES>();
    for (x, y) in whole_x.iter().zip(whole_y) {
        for lane in 0..LANES {
            lanes[lane] += x[lane] * y[lane];
        }
    }
    for (lane, (&x, &y)) in rest_x.iter().zip(rest_y).enumerate() {
        lanes[lane] += x * y;
    }
    fold(lanes)
}

/// The lane sum of squares in f64, where a square of an f32 is exact.
#[inline(always)]
#[must_use]
pub fn lane_squares(x: &[f32]) -> f64 {
    let mut lanes = [0.0_f64; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for lane in 0..LANES {
            lanes[lane] += f64::from(x[lane]) * f64::from(x[lane]);
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        lanes[lane] += f64::from(x) * f64::from(x);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// The largest of `x`, which is not empty and has no NaN.
#[inline(always)]
#[must_use]
pub fn largest(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for x in whole {
        for lane in 0..LANES {
            lanes[lane] = if x[lane] > lanes[lane] { x[lane] } else { lanes[lane] };
        }
    }
    for (lane, &x) in rest.iter().enumerate() {
        lanes[lane] = if x > lanes[lane] { x } else { lanes[lane] };
    }
    let greater = |a: f32, &b: &f32| if b > a { b } else { a };
    let max = lanes.iter().fold(f32::NEG_INFINITY, greater);
    // A zero of either sign may have won; the sum makes both the same zero.
    max + 0.0
}

/// e^x for x <= 0, as `2^(x log2 e)` with the exponent held at -125 or above. Spec 05 §3.1.
#[inline(always)]
#[must_use]
pub fn exp_negative(x: f32) -> f32 {
    let exponent = x * LOG2_E;
    exp2(if exponent < -125.0 { -125.0 } else { exponent })
}

/// 1 / (1 + e^-x). Spec 05 §3.2.
#[inline(always)]
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    let exponent = x * -LOG2_E;
    let exponent = if exponent < -100.0 { -100.0 } else { exponent };
    let exponent = if exponent > 120.0 { 120.0 } else { exponent };
    1.0 / (1.0 + exp2(exponent))
}

/// RMS norm of one row: `y = (x * inverse) * weight`. Returns `inverse`. Spec 05 §4.1.
#[inline(always)]
pub fn rms_norm(x: &[f32], weight: &[f32], epsilon: f32, y: &mut [f32]) -> f32 {
    let mean = lane_dot(x, x) / x.len() as f32;
    let inverse = 1.0 / (mean + epsilon).sqrt();
    for ((y, &x), &weight) in y.iter_mut().zip(x).zip(weight) {
        *y = (x * inverse) * weight;
    }
    inverse
}

/// Backward of [`rms_norm`] for its input: `dx += inverse * (g - n * mean(g n))` with
/// `g = dy * weight` and `n = x * inverse`. `g`, `n`: scratch of the row's width.
#[inline(always)]
pub fn rms_norm_input(
    (dy, x, weight): (&[f32], &[f32], &[f32]),
    inverse: f32,
    (g, n): (&mut [f32], &mut [f32]),
    dx: &mut [f32],
) {
    for ((g, &dy), &weight) in g.iter_mut().zip(dy).zip(weight) {
        *g = dy * weight;
    }
    for (n, &x) in n.iter_mut().zip(x) {
        *n = x * inverse;
    }
    let mean = lane_dot(g, n) / x.len() as f32;
    for ((dx, &g), &n) in dx.iter_mut().zip(&*g).zip(&*n) {
        *dx += inverse * (g - n * mean);
    }
}

/// Backward of [`rms_norm`] for its weight, one row: `dw += dy * (x * inverse)`.
#[inline(always)]
pub fn rms_norm_weight(dy: &[f32], x: &[f32], inverse: f32, dw: &mut [f32]) {
    for ((dw, &dy), &x) in dw.iter_mut().zip(dy).zip(x) {
        *dw += dy * (x * inverse);
    }
}

/// The gated unit: `h = (gate * sigmoid(gate)) * up`. Spec 05 §4.3.
#[inline(always)]
pub fn swiglu(gate: &[f32], up: &[f32], h: &mut [f32]) {
    for ((h, &gate), &up) in h.iter_mut().zip(gate).zip(up) {
        *h = (gate * sigmoid(gate)) * up;
    }
}

/// Backward of [`swiglu`]; `gate` and `up` become their gradients.
#[inline(always)]
pub fn swiglu_backward(dh: &[f32], gate: &mut [f32], up: &mut [f32]) {
    for ((&dh, gate), up) in dh.iter().zip(gate).zip(up) {
        let s = sigmoid(*gate);
        let slope = s * (1.0 + *gate * (1.0 - s));
        let (d_gate, d_up) = ((dh * *up) * slope, dh * (*gate * s));
        *gate = d_gate;
        *up = d_up;
    }
}

/// Softmax of one row in place. Returns (largest, 1 / sum), from which
/// [`softmax_again`] makes the same numbers. Spec 05 §4.4.
#[inline(always)]
pub fn softmax(x: &mut [f32]) -> (f32, f32) {
    let max = largest(x);
    for x in x.iter_mut() {
        *x = exp_negative(*x - max);
    }
    let inverse = 1.0 / lane_sum(x);
    for x in x.iter_mut() {
        *x *= inverse;
    }
    (max, inverse)
}

/// The softmax of one row whose largest element and inverse sum are known.
#[inline(always)]
pub fn softmax_again(x: &mut [f32], max: f32, inverse: f32) {
    for x in x.iter_mut() {
        *x = exp_negative(*x - max) * inverse;
    }
}

/// Backward of softmax in place: `dp = p * (dp - sum(p dp))`.
#[inline(always)]
pub fn softmax_backward(p: &[f32], dp: &mut [f32]) {
    let dot = lane_dot(p, dp);
    for (dp, &p) in dp.iter_mut().zip(p) {
        *dp = p * (*dp - dot);
    }
}

/// Rotates the pairs of one head; `direction` is 1 forward, -1 backward. `cos`, `sin`: `[pairs]`.
/// Interleaved pairs are elements 2 i and 2 i + 1, the others i and i + pairs. Spec 05 §4.2.
#[inline(always)]
pub fn rotate(head: &mut [f32], cos: &[f32], sin: &[f32], direction: f32, interleaved: bool) {
    let pairs = cos.len();
    for i in 0..pairs {
        let (ia, ib) = if interleaved { (2 * i, 2 * i + 1) } else { (i, i + pairs) };
        let (a, b) = (head[ia], head[ib]);
        let sin = sin[i] * direction;
        head[ia] = a * cos[i] - b * sin;
        head[ib] = a * sin + b * cos[i];
    }
}

/// What one AdamW step needs besides the numbers it changes. Spec 05 §6.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Multiplies gradients; the clipping factor.
    pub gradient_scale: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// `1 / (1 - beta1^t)`
    pub correction1: f32,
    /// `1 / (1 - beta2^t)`
    pub correction2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Learning rate.
    pub rate: f32,
    /// Decay of the parameter, before the rate.
    pub weight_decay: f32,
}

/// One AdamW step over elements that do not depend on each other.
#[inline(always)]
pub fn adam(step: AdamStep, g: &[f32], m: &mut [f32], v: &mut [f32], p: &mut [f32]) {
    let AdamStep { beta1, beta2, .. } = step;
    for (((&g, m), v), p) in g.iter().zip(m).zip(v).zip(p) {
        let g = g * step.gradient_scale;
        *m = *m * beta1 + g * (1.0 - beta1);
        *v = *v * beta2 + (g * g) * (1.0 - beta2);
        let root = (*v * step.correction2).sqrt() + step.epsilon;
        let change = (*m * step.correction1) / root + step.weight_decay * *p;
        *p -= step.rate * change;
    }
}
