//! The output head: logits, losses and their gradients, some rows at a time so that `[T, V]` is
//! never held. How many at a time changes nothing: rows are independent, and the gradient of the
//! head is a chain over ascending rows.

use shoal_kernels::Kernels;
use shoal_kernels::float::{LossRows, Teacher};
use shoal_kernels::gemm::{MatrixMut, MatrixRef, Start};
use shoal_model::TensorRole;

use super::{Activation, Keep, TrainModel, Workspace};
use crate::parameters::{Parameters, Tensor};
use crate::sample::Sample;

/// Rows of logits held at a time.
const ROWS: usize = 256;

/// Another model on the same sample, its forward pass done.
#[derive(Debug)]
pub(crate) struct TeacherPass<'a> {
    pub(crate) model: &'a TrainModel,
    pub(crate) space: &'a mut Workspace,
    pub(crate) share: f32,
}

impl TrainModel {
    /// Writes the logits of rows `first ..` of the last forward pass; `[count, V]`.
    pub(crate) fn logits(
        &self,
        kernels: &Kernels,
        normed: &[f32],
        first: usize,
        logits: &mut Vec<f32>,
    ) {
        let (d, v) = self.head_shape();
        let count = (normed.len() / d - first).min(ROWS);
        logits.resize(count * v, 0.0);
        let x = MatrixRef::new(&normed[first * d..], count, d);
        let w = MatrixRef::new(self.tensor(self.output_role()), v, d).transposed();
        kernels.gemm(x, w, MatrixMut::new(logits, count, v), Start::Zero);
    }

    /// The losses of the last forward pass, unweighted; 0 where the weight is 0.
    pub(crate) fn losses(
        &self,
        kernels: &Kernels,
        sample: &Sample,
        space: &mut Workspace,
    ) -> Vec<f64> {
        let mut losses = vec![0.0; sample.tokens.len()];
        for first in (0..losses.len()).step_by(ROWS) {
            self.logits(kernels, &space.normed, first, &mut space.logits);
            let end = (first + ROWS).min(losses.len());
            kernels.loss_backward(LossRows {
                logits: &mut space.logits,
                targets: &sample.targets[first..end],
                weights: &sample.weights[first..end],
                losses: &mut losses[first..end],
                teacher: None,
            });
        }
        losses
    }

    /// The first tensor of the forward pass that holds a number that is not finite.
    pub(crate) fn first_not_finite(
        &self,
        kernels: &Kernels,
        sample: &Sample,
        space: &mut Workspace,
    ) -> Option<Activation> {
        self.forward(kernels, sample, Keep::Everything, space);
        space.first_not_finite().or_else(|| {
            let mut parts = (0..sample.tokens.len()).step_by(ROWS);
            let overflows = parts.any(|first| {
                self.logits(kernels, &space.normed, first, &mut space.logits);
                space.logits.iter().any(|x| !x.is_finite())
            });
            overflows.then_some(Activation::Logits)
        })
    }

    /// Losses and gradients of the head: `space.d_residual` becomes the gradient of the residual
    /// after the last layer.
    pub(crate) fn head_backward(
        &self,
        kernels: &Kernels,
        sample: &Sample,
        mut teacher: Option<TeacherPass<'_>>,
        space: &mut Workspace,
        gradients: &mut Parameters,
    ) -> Vec<f64> {
        let (d, v) = self.head_shape();
        let rows = sample.tokens.len();
        let mut losses = vec![0.0; rows];
        for first in (0..rows).step_by(ROWS) {
            let end = (first + ROWS).min(rows);
            let count = end - first;
            self.logits(kernels, &space.normed, first, &mut space.logits);
            let teacher = teacher.as_mut().map(|t| {
                t.model.logits(kernels, &t.space.normed, first, &mut t.space.logits);
                Teacher { logits: &t.space.logits, share: t.share }
            });
            kernels.loss_backward(LossRows {
                logits: &mut space.logits,
                targets: &sample.targets[first..end],
                weights: &sample.weights[first..end],
                losses: &mut losses[first..end],
                teacher,
            });
            let d_logits = MatrixRef::new(&space.logits, count, v);
            let w = MatrixRef::new(self.tensor(self.output_role()), v, d);
            let out = MatrixMut::new(&mut space.d_normed[first * d..end * d], count, d);
            kernels.gemm(d_logits, w, out, Start::Zero);
            if let Some(dw) = gradients.get_mut(Tensor::Model(self.output_role())) {
                let x = MatrixRef::new(&space.normed[first * d..end * d], count, d);
                let out = MatrixMut::new(dw, v, d);
                kernels.gemm(d_logits.transposed(), x, out, Start::Output);
            }
        }
        space.d_residual.fill(0.0);
        kernels.norm_backward(
            &space.d_normed,
            &space.residual,
            self.tensor(TensorRole::FinalNorm),
            &space.final_inverse,
            &mut space.d_residual,
            gradients.get_mut(Tensor::Model(TensorRole::FinalNorm)),
        );
        losses
    }

    fn head_shape(&self) -> (usize, usize) {
        (self.architecture.model_width as usize, self.architecture.vocab_count as usize)
    }
}
