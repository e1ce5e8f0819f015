//! Cross entropy and distillation: logits become their gradient in place. Spec 05 §5.

use shoal_arith::reference::float;
use shoal_arith::scalar::ln;

use crate::Kernels;
use crate::per_isa::per_isa;
use crate::shared::SharedMut;

/// Rows of logits and what they should have predicted.
#[derive(Debug)]
pub struct LossRows<'a> {
    /// `[rows, V]`; become the gradients of the weighted losses.
    pub logits: &'a mut [f32],
    /// `[rows]`, the token that follows.
    pub targets: &'a [u32],
    /// `[rows]`, the weight of a row's loss; 0 leaves it out.
    pub weights: &'a [f32],
    /// `[rows]`, the losses without weight, overwritten: of the targets, whatever the teacher says.
    pub losses: &'a mut [f64],
    /// Whose distribution is learned besides the targets.
    pub teacher: Option<Teacher<'a>>,
}

/// A second opinion on every row.
#[derive(Clone, Copy, Debug)]
pub struct Teacher<'a> {
    /// `[rows, V]`
    pub logits: &'a [f32],
    /// Share of the teacher's distribution, 0 to 1; the rest is the target's.
    pub share: f32,
}

per_isa! {
    fn loss_row(logits: &mut [f32], target: usize, weight: f32) -> f64 = loss_row_generic;
}
per_isa! {
    fn distill_row(
        logits: &mut [f32], teacher: &mut [f32], target: usize, weight: f32, share: f32,
    ) -> f64 = distill_row_generic;
}

/// Loss of one row from its softmax: `ln(sum) - (logit - max)` with `1 / sum` as it was rounded.
#[inline(always)]
fn loss((max, inverse): (f32, f32), logit: f32) -> f64 {
    -ln(f64::from(inverse)) - (f64::from(logit) - f64::from(max))
}

#[inline(always)]
fn loss_row_generic(logits: &mut [f32], target: usize, weight: f32) -> f64 {
    let logit = logits[target];
    let pair = float::softmax(logits);
    for p in logits.iter_mut() {
        *p *= weight;
    }
    logits[target] -= weight;
    loss(pair, logit)
}

#[inline(always)]
fn distill_row_generic(
    logits: &mut [f32],
    teacher: &mut [f32],
    target: usize,
    weight: f32,
    share: f32,
) -> f64 {
    let logit = logits[target];
    let pair = float::softmax(logits);
    float::softmax(teacher);
    for (p, &t) in logits.iter_mut().zip(&*teacher) {
        *p = (*p - share * t) * weight;
    }
    logits[target] -= (1.0 - share) * weight;
    loss(pair, logit)
}

impl Kernels {
    /// Turns logits into gradients of `weight * loss`, with
    /// `loss = -(1 - share) ln p[target] - share sum(t ln p)`.
    ///
    /// # Panics
    /// When the shapes do not fit or a target is beyond the vocabulary.
    pub fn loss_backward(&self, pass: LossRows<'_>) {
        let rows = pass.targets.len();
        let width = pass.logits.len().checked_div(rows).unwrap_or(0);
        assert!(pass.logits.len() == rows * width, "shapes fit");
        assert!(pass.weights.len() == rows && pass.losses.len() == rows, "one per row");
        if let Some(teacher) = pass.teacher {
            assert_eq!(teacher.logits.len(), rows * width, "the teacher knows every row");
        }
        let (logits, losses) = (SharedMut::new(pass.logits), SharedMut::new(pass.losses));
        self.rows(rows, width, &|range| {
            let mut scratch = Vec::new();
            for t in range {
                // SAFETY: rows do not overlap.
                let (row, out) = unsafe { (logits.range(t * width, width), losses.range(t, 1)) };
                let (target, weight) = (pass.targets[t] as usize, pass.weights[t]);
                out[0] = match pass.teacher {
                    _ if weight == 0.0 => {
                        row.fill(0.0);
                        0.0
                    }
                    None => loss_row(self.isa(), row, target, weight),
                    Some(teacher) => {
                        scratch.clear();
                        scratch.extend_from_slice(&teacher.logits[t * width..][..width]);
                        let share = teacher.share;
                        distill_row(self.isa(), row, &mut scratch, target, weight, share)
                    }
                };
            }
        });
    }
}
