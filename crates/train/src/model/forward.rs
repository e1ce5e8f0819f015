//! The forward pass of one sample.

use shoal_kernels::Kernels;
use shoal_kernels::float::{AttentionForward, AttentionShape};
use shoal_kernels::gemm::{MatrixMut, MatrixRef, Start};
use shoal_model::{LinearPart, NormPart, TensorRole};

use super::workspace::LayerState;
use super::{TrainModel, Workspace, expect};
use crate::parameters::Tensor;
use crate::sample::Sample;

/// Whether the backward pass will follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keep {
    /// Every layer is kept.
    Everything,
    /// Only the result.
    Nothing,
}

impl TrainModel {
    /// Computes the residual after the last layer, and its final norm, into `space`.
    pub(crate) fn forward(
        &self,
        kernels: &Kernels,
        sample: &Sample,
        keep: Keep,
        space: &mut Workspace,
    ) {
        let (a, rows) = (&self.architecture, sample.tokens.len());
        let layers = a.layer_count as usize;
        space.resize(a, rows, if keep == Keep::Everything { layers } else { 1 });
        let positions = sample.positions();
        kernels.embed_forward(
            self.tensor(TensorRole::Embedding),
            &sample.tokens,
            &mut space.residual,
        );
        for layer in 0..a.layer_count {
            let index = if keep == Keep::Everything { layer as usize } else { 0 };
            let mut state = std::mem::take(&mut space.layers[index]);
            self.layer_forward(kernels, layer, sample, &positions, &mut state, space);
            space.layers[index] = state;
        }
        let weight = self.tensor(TensorRole::FinalNorm);
        kernels.norm_forward(
            &space.residual,
            weight,
            a.norm_epsilon,
            &mut space.normed,
            &mut space.final_inverse,
        );
    }

    fn layer_forward(
        &self,
        kernels: &Kernels,
        layer: u32,
        sample: &Sample,
        positions: &[u32],
        state: &mut LayerState,
        space: &mut Workspace,
    ) {
        let epsilon = self.architecture.norm_epsilon;
        state.input.copy_from_slice(&space.residual);
        let weight = self.norm(layer, NormPart::Attention);
        let (x, inverse) = (&mut space.normed, &mut state.attention_inverse);
        kernels.norm_forward(&state.input, weight, epsilon, x, inverse);
        let x = &space.normed;
        self.linear(kernels, layer, LinearPart::Query, x, &mut state.q, &mut space.low);
        self.linear(kernels, layer, LinearPart::Key, x, &mut state.k, &mut space.low);
        self.linear(kernels, layer, LinearPart::Value, x, &mut state.v, &mut space.low);
        if self.architecture.qk_norm {
            state.raw_q.copy_from_slice(&state.q);
            state.raw_k.copy_from_slice(&state.k);
            let weight = self.norm(layer, NormPart::QueryHead);
            let (q, inverse) = (&mut state.q, &mut state.q_inverse);
            kernels.norm_forward(&state.raw_q, weight, epsilon, q, inverse);
            let weight = self.norm(layer, NormPart::KeyHead);
            let (k, inverse) = (&mut state.k, &mut state.k_inverse);
            kernels.norm_forward(&state.raw_k, weight, epsilon, k, inverse);
        }
        kernels.rotate(&mut state.q, positions, self.rotation(1.0));
        kernels.rotate(&mut state.k, positions, self.rotation(1.0));
        let pass = AttentionForward {
            q: &state.q,
            k: &state.k,
            v: &state.v,
            out: &mut state.attended,
            softmax: &mut state.softmax,
        };
        kernels.attention_forward(self.attention_shape(sample), pass);
        let (y, low) = (&mut space.normed, &mut space.low);
        self.linear(kernels, layer, LinearPart::AttentionOutput, &state.attended, y, low);
        kernels.add_rows(&mut space.residual, y);
        state.middle.copy_from_slice(&space.residual);
        let weight = self.norm(layer, NormPart::Mlp);
        let (x, inverse) = (&mut space.normed, &mut state.mlp_inverse);
        kernels.norm_forward(&state.middle, weight, epsilon, x, inverse);
        let x = &space.normed;
        self.linear(kernels, layer, LinearPart::Gate, x, &mut state.gate, &mut space.low);
        self.linear(kernels, layer, LinearPart::Up, x, &mut state.up, &mut space.low);
        let hidden = &mut space.hidden[..state.gate.len()];
        kernels.swiglu_forward(&state.gate, &state.up, hidden);
        let (y, low) = (&mut space.normed, &mut space.low);
        self.linear(kernels, layer, LinearPart::Down, hidden, y, low);
        kernels.add_rows(&mut space.residual, y);
    }

    /// `y = W x`, then the adapter, then the bias.
    fn linear(
        &self,
        kernels: &Kernels,
        layer: u32,
        part: LinearPart,
        x: &[f32],
        y: &mut [f32],
        low: &mut Vec<f32>,
    ) {
        let (outputs, inputs) = self.architecture.linear_shape(part);
        let rows = x.len() / inputs;
        let x = MatrixRef::new(x, rows, inputs);
        let w = self.tensor(TensorRole::Linear(layer, part));
        let w = MatrixRef::new(w, outputs, inputs).transposed();
        kernels.gemm(x, w, MatrixMut::new(y, rows, outputs), Start::Zero);
        if let Some((a, b, adapter)) = self.adapter_of(layer, part) {
            let rank = adapter.rank;
            low.resize(rows * rank, 0.0);
            let a = MatrixRef::new(a, rank, inputs).transposed();
            kernels.gemm(x, a, MatrixMut::new(low, rows, rank), Start::Zero);
            low.iter_mut().for_each(|x| *x *= adapter.scale);
            let b = MatrixRef::new(b, outputs, rank).transposed();
            let low = MatrixRef::new(low, rows, rank);
            kernels.gemm(low, b, MatrixMut::new(y, rows, outputs), Start::Output);
        }
        if self.architecture.has_bias(part) {
            kernels.add_bias(y, self.tensor(TensorRole::Bias(layer, part)));
        }
    }

    /// Both maps of an adapter.
    pub(super) fn adapter_of(
        &self,
        layer: u32,
        part: LinearPart,
    ) -> Option<(&[f32], &[f32], &super::Adapter)> {
        let adapter = self.adapter.as_ref()?;
        let a = adapter.parameters.get(Tensor::AdapterIn(layer, part))?;
        let b = expect(adapter.parameters.get(Tensor::AdapterOut(layer, part)));
        Some((a, b, adapter))
    }

    pub(super) fn attention_shape<'a>(&self, sample: &'a Sample) -> AttentionShape<'a> {
        let a = &self.architecture;
        AttentionShape {
            heads: a.head_count as usize,
            kv_heads: a.kv_head_count as usize,
            head_width: a.head_width as usize,
            window: a.sliding_window.map_or(usize::MAX, |window| window as usize),
            documents: &sample.documents,
        }
    }
}
