//! The backward pass of one sample, after the head's. Every gradient continues the chain that
//! earlier samples of the step began, so the split of a step into passes changes nothing.

use shoal_kernels::Kernels;
use shoal_kernels::float::AttentionBackward;
use shoal_kernels::gemm::{MatrixMut, MatrixRef, Start};
use shoal_model::{LinearPart, NormPart, TensorRole};

use super::workspace::LayerState;
use super::{TrainModel, Workspace};
use crate::parameters::{Parameters, Tensor};
use crate::sample::Sample;

/// One linear map in the backward pass.
struct Map<'a> {
    layer: u32,
    part: LinearPart,
    /// `[T, inputs]`
    x: &'a [f32],
    /// `[T, outputs]`
    dy: &'a [f32],
}

impl TrainModel {
    /// Continues from `space.d_residual` down to the embedding.
    pub(crate) fn backward(
        &self,
        kernels: &Kernels,
        sample: &Sample,
        space: &mut Workspace,
        gradients: &mut Parameters,
    ) {
        let positions = sample.positions();
        for layer in (0..self.architecture.layer_count).rev() {
            let mut state = std::mem::take(&mut space.layers[layer as usize]);
            self.mlp_backward(kernels, layer, &mut state, space, gradients);
            self.attention_backward(kernels, layer, sample, &positions, &state, space, gradients);
            space.layers[layer as usize] = state;
        }
        if let Some(table) = gradients.get_mut(Tensor::Model(TensorRole::Embedding)) {
            kernels.embed_backward(&space.d_residual, &sample.tokens, table);
        }
    }

    fn mlp_backward(
        &self,
        kernels: &Kernels,
        layer: u32,
        state: &mut LayerState,
        space: &mut Workspace,
        gradients: &mut Parameters,
    ) {
        let norm = self.norm(layer, NormPart::Mlp);
        let hidden = &mut space.hidden[..state.gate.len()];
        kernels.swiglu_forward(&state.gate, &state.up, hidden);
        let low = (&mut space.low, &mut space.d_low);
        let down = Map { layer, part: LinearPart::Down, x: hidden, dy: &space.d_residual };
        self.weight_backward(kernels, &down, low, gradients);
        let d_hidden = &mut space.hidden[..state.gate.len()];
        let low = &mut space.d_low;
        self.input_backward(
            kernels,
            (layer, LinearPart::Down),
            &space.d_residual,
            d_hidden,
            low,
            Start::Zero,
        );
        kernels.swiglu_backward(d_hidden, &mut state.gate, &mut state.up);
        let epsilon = self.architecture.norm_epsilon;
        kernels.norm_forward(
            &state.middle,
            norm,
            epsilon,
            &mut space.normed,
            &mut state.mlp_inverse,
        );
        let maps = [(LinearPart::Gate, &state.gate), (LinearPart::Up, &state.up)];
        self.maps_backward(kernels, layer, &maps, space, gradients);
        kernels.norm_backward(
            &space.d_normed,
            &state.middle,
            norm,
            &state.mlp_inverse,
            &mut space.d_residual,
            gradients.get_mut(Tensor::Model(TensorRole::Norm(layer, NormPart::Mlp))),
        );
    }

    #[expect(clippy::too_many_arguments, reason = "a pass needs all of them once")]
    fn attention_backward(
        &self,
        kernels: &Kernels,
        layer: u32,
        sample: &Sample,
        positions: &[u32],
        state: &LayerState,
        space: &mut Workspace,
        gradients: &mut Parameters,
    ) {
        let part = LinearPart::AttentionOutput;
        let low = (&mut space.low, &mut space.d_low);
        let output = Map { layer, part, x: &state.attended, dy: &space.d_residual };
        self.weight_backward(kernels, &output, low, gradients);
        let d_out = &mut space.hidden[..state.attended.len()];
        let low = &mut space.d_low;
        self.input_backward(kernels, (layer, part), &space.d_residual, d_out, low, Start::Zero);
        let pass = AttentionBackward {
            q: &state.q,
            k: &state.k,
            v: &state.v,
            softmax: &state.softmax,
            d_out,
            dq: &mut space.dq,
            dk: &mut space.dk,
            dv: &mut space.dv,
        };
        kernels.attention_backward(self.attention_shape(sample), pass);
        kernels.rotate(&mut space.dq, positions, self.rotation(-1.0));
        kernels.rotate(&mut space.dk, positions, self.rotation(-1.0));
        if self.architecture.qk_norm {
            self.head_norms_backward(kernels, layer, state, space, gradients);
        }
        let norm = self.norm(layer, NormPart::Attention);
        let mut inverse = state.attention_inverse.clone();
        let epsilon = self.architecture.norm_epsilon;
        kernels.norm_forward(&state.input, norm, epsilon, &mut space.normed, &mut inverse);
        let (dq, dk, dv) = (
            std::mem::take(&mut space.dq),
            std::mem::take(&mut space.dk),
            std::mem::take(&mut space.dv),
        );
        let maps = [(LinearPart::Query, &dq), (LinearPart::Key, &dk), (LinearPart::Value, &dv)];
        self.maps_backward(kernels, layer, &maps, space, gradients);
        (space.dq, space.dk, space.dv) = (dq, dk, dv);
        kernels.norm_backward(
            &space.d_normed,
            &state.input,
            norm,
            &state.attention_inverse,
            &mut space.d_residual,
            gradients.get_mut(Tensor::Model(TensorRole::Norm(layer, NormPart::Attention))),
        );
    }

    /// Gradients of `dq` and `dk` through the norms of their heads, in place.
    fn head_norms_backward(
        &self,
        kernels: &Kernels,
        layer: u32,
        state: &LayerState,
        space: &mut Workspace,
        gradients: &mut Parameters,
    ) {
        for (part, raw, inverse, d) in [
            (NormPart::QueryHead, &state.raw_q, &state.q_inverse, &mut space.dq),
            (NormPart::KeyHead, &state.raw_k, &state.k_inverse, &mut space.dk),
        ] {
            let mut dx = vec![0.0; d.len()];
            let dw = gradients.get_mut(Tensor::Model(TensorRole::Norm(layer, part)));
            kernels.norm_backward(d, raw, self.norm(layer, part), inverse, &mut dx, dw);
            d.copy_from_slice(&dx);
        }
    }

    /// Maps that share the input `space.normed`: weights, then `space.d_normed` as one chain.
    fn maps_backward(
        &self,
        kernels: &Kernels,
        layer: u32,
        maps: &[(LinearPart, &Vec<f32>)],
        space: &mut Workspace,
        gradients: &mut Parameters,
    ) {
        for (index, &(part, dy)) in maps.iter().enumerate() {
            let low = (&mut space.low, &mut space.d_low);
            let map = Map { layer, part, x: &space.normed, dy };
            self.weight_backward(kernels, &map, low, gradients);
            let start = if index == 0 { Start::Zero } else { Start::Output };
            let (dx, low) = (&mut space.d_normed, &mut space.d_low);
            self.input_backward(kernels, (layer, part), dy, dx, low, start);
        }
    }

    /// Gradients of what is trained of a map: weight and bias, or the adapter.
    fn weight_backward(
        &self,
        kernels: &Kernels,
        map: &Map<'_>,
        (low, d_low): (&mut Vec<f32>, &mut Vec<f32>),
        gradients: &mut Parameters,
    ) {
        let Map { layer, part, x, dy } = *map;
        let (outputs, inputs) = self.architecture.linear_shape(part);
        let rows = x.len() / inputs;
        let x = MatrixRef::new(x, rows, inputs);
        let dy_rows = MatrixRef::new(dy, rows, outputs);
        if let Some(dw) = gradients.get_mut(Tensor::Model(TensorRole::Linear(layer, part))) {
            let out = MatrixMut::new(dw, outputs, inputs);
            kernels.gemm(dy_rows.transposed(), x, out, Start::Output);
        }
        if let Some(d_bias) = gradients.get_mut(Tensor::Model(TensorRole::Bias(layer, part))) {
            kernels.bias_backward(dy, d_bias);
        }
        let Some((a, b, adapter)) = self.adapter_of(layer, part) else { return };
        let rank = adapter.rank;
        low.resize(rows * rank, 0.0);
        d_low.resize(rows * rank, 0.0);
        let a = MatrixRef::new(a, rank, inputs).transposed();
        kernels.gemm(x, a, MatrixMut::new(low, rows, rank), Start::Zero);
        let b = MatrixRef::new(b, outputs, rank);
        kernels.gemm(dy_rows, b, MatrixMut::new(d_low, rows, rank), Start::Zero);
        for space in [&mut *low, &mut *d_low] {
            space.iter_mut().for_each(|x| *x *= adapter.scale);
        }
        if let Some(db) = gradients.get_mut(Tensor::AdapterOut(layer, part)) {
            let out = MatrixMut::new(db, outputs, rank);
            let low = MatrixRef::new(low, rows, rank);
            kernels.gemm(dy_rows.transposed(), low, out, Start::Output);
        }
        if let Some(da) = gradients.get_mut(Tensor::AdapterIn(layer, part)) {
            let d_low = MatrixRef::new(d_low, rows, rank).transposed();
            kernels.gemm(d_low, x, MatrixMut::new(da, rank, inputs), Start::Output);
        }
    }

    /// `dx = dy W`, continued by the adapter's part; `d_low` is what [`Self::weight_backward`]
    /// left.
    fn input_backward(
        &self,
        kernels: &Kernels,
        (layer, part): (u32, LinearPart),
        dy: &[f32],
        dx: &mut [f32],
        d_low: &mut [f32],
        start: Start,
    ) {
        let (outputs, inputs) = self.architecture.linear_shape(part);
        let rows = dy.len() / outputs;
        let w = MatrixRef::new(self.tensor(TensorRole::Linear(layer, part)), outputs, inputs);
        let dy = MatrixRef::new(dy, rows, outputs);
        kernels.gemm(dy, w, MatrixMut::new(dx, rows, inputs), start);
        if let Some((a, _, adapter)) = self.adapter_of(layer, part) {
            let d_low = MatrixRef::new(d_low, rows, adapter.rank);
            let a = MatrixRef::new(a, adapter.rank, inputs);
            kernels.gemm(d_low, a, MatrixMut::new(dx, rows, inputs), Start::Output);
        }
    }
}
