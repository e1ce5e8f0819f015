//! The memory of a pass: what the backward pass needs of each layer, and scratch.
//!
//! Kept per layer and token: two residual rows, queries, keys, values, the attention's output, gate
//! and up. Norms and the gated unit are made again, since that costs one pass over memory.

use shoal_model::Architecture;

/// What a forward pass computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// A part of a layer, by its name.
    Layer(u32, &'static str),
    /// What the last layer leaves.
    Residual,
    /// The outputs.
    Logits,
}

impl std::fmt::Display for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Layer(layer, name) => write!(f, "the {name} of layer {layer}"),
            Self::Residual => f.write_str("the output of the last layer"),
            Self::Logits => f.write_str("the logits"),
        }
    }
}

/// What the backward pass needs of one layer. Sizes for `T` rows.
#[derive(Debug, Default)]
pub(super) struct LayerState {
    /// `[T, D]`, input of the layer.
    pub(super) input: Vec<f32>,
    /// `[T]`
    pub(super) attention_inverse: Vec<f32>,
    /// `[T, H*K]` and `[T, G*K]` before their norms; empty without `qk_norm`.
    pub(super) raw_q: Vec<f32>,
    pub(super) raw_k: Vec<f32>,
    /// `[T * H]`, `[T * G]`
    pub(super) q_inverse: Vec<f32>,
    pub(super) k_inverse: Vec<f32>,
    /// `[T, H*K]`, rotated
    pub(super) q: Vec<f32>,
    /// `[T, G*K]`, rotated
    pub(super) k: Vec<f32>,
    /// `[T, G*K]`
    pub(super) v: Vec<f32>,
    /// `[T, H]`
    pub(super) softmax: Vec<(f32, f32)>,
    /// `[T, H*K]`
    pub(super) attended: Vec<f32>,
    /// `[T, D]`, residual between attention and MLP.
    pub(super) middle: Vec<f32>,
    /// `[T]`
    pub(super) mlp_inverse: Vec<f32>,
    /// `[T, F]`
    pub(super) gate: Vec<f32>,
    /// `[T, F]`
    pub(super) up: Vec<f32>,
}

impl LayerState {
    fn resize(&mut self, a: &Architecture, rows: usize) {
        let (d, f) = (a.model_width as usize, a.mlp_width as usize);
        let (heads, kv_heads) = (a.head_count as usize, a.kv_head_count as usize);
        let (q, kv) = (heads * a.head_width as usize, kv_heads * a.head_width as usize);
        let norms = usize::from(a.qk_norm);
        self.input.resize(rows * d, 0.0);
        self.attention_inverse.resize(rows, 0.0);
        self.raw_q.resize(rows * q * norms, 0.0);
        self.raw_k.resize(rows * kv * norms, 0.0);
        self.q_inverse.resize(rows * heads * norms, 0.0);
        self.k_inverse.resize(rows * kv_heads * norms, 0.0);
        self.q.resize(rows * q, 0.0);
        self.k.resize(rows * kv, 0.0);
        self.v.resize(rows * kv, 0.0);
        self.softmax.resize(rows * heads, (0.0, 0.0));
        self.attended.resize(rows * q, 0.0);
        self.middle.resize(rows * d, 0.0);
        self.mlp_inverse.resize(rows, 0.0);
        self.gate.resize(rows * f, 0.0);
        self.up.resize(rows * f, 0.0);
    }
}

/// Memory of passes over one model; grows to the longest sample.
#[derive(Debug, Default)]
pub struct Workspace {
    /// One per layer; a single one when nothing is kept.
    pub(super) layers: Vec<LayerState>,
    /// `[T, D]`, the residual.
    pub(super) residual: Vec<f32>,
    /// `[T, D]`, gradient of the residual.
    pub(super) d_residual: Vec<f32>,
    /// `[T]`
    pub(super) final_inverse: Vec<f32>,
    /// `[T, D]`, an output of a norm.
    pub(super) normed: Vec<f32>,
    /// `[T, D]`, gradient of it.
    pub(super) d_normed: Vec<f32>,
    /// `[T, max(F, H*K)]`, the gated unit or what attention gave.
    pub(super) hidden: Vec<f32>,
    /// `[T, H*K]`, `[T, G*K]`, `[T, G*K]`
    pub(super) dq: Vec<f32>,
    pub(super) dk: Vec<f32>,
    pub(super) dv: Vec<f32>,
    /// `[T, rank]`
    pub(super) low: Vec<f32>,
    pub(super) d_low: Vec<f32>,
    /// `[rows at a time, V]`
    pub(super) logits: Vec<f32>,
}

impl Workspace {
    /// Makes room for `rows` rows; `keep` says how many layers are kept.
    pub(super) fn resize(&mut self, a: &Architecture, rows: usize, keep: usize) {
        let (d, f) = (a.model_width as usize, a.mlp_width as usize);
        let width = a.head_width as usize;
        let (q, kv) = (a.head_count as usize * width, a.kv_head_count as usize * width);
        self.layers.resize_with(keep, LayerState::default);
        self.layers.iter_mut().for_each(|layer| layer.resize(a, rows));
        for (space, width) in [
            (&mut self.residual, d),
            (&mut self.d_residual, d),
            (&mut self.final_inverse, 1),
            (&mut self.normed, d),
            (&mut self.d_normed, d),
            (&mut self.hidden, f.max(q)),
            (&mut self.dq, q),
            (&mut self.dk, kv),
            (&mut self.dv, kv),
        ] {
            space.resize(rows * width, 0.0);
        }
    }

    /// The first tensor of the last forward pass, its logits left out, that is not finite.
    pub(super) fn first_not_finite(&self) -> Option<Activation> {
        let finite = |values: &[f32]| values.iter().all(|x| x.is_finite());
        let mut layers = (0..).zip(&self.layers);
        let of_layer = |(index, layer): (u32, &LayerState)| {
            let parts = [
                ("input", &layer.input),
                ("queries", &layer.q),
                ("keys", &layer.k),
                ("values", &layer.v),
                ("attention", &layer.attended),
                ("residual", &layer.middle),
                ("gate", &layer.gate),
                ("up", &layer.up),
            ];
            let (name, _) = parts.into_iter().find(|(_, values)| !finite(values))?;
            Some(Activation::Layer(index, name))
        };
        let residual = || (!finite(&self.residual)).then_some(Activation::Residual);
        layers.find_map(of_layer).or_else(residual)
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let layer = |l: &LayerState| {
            let floats = [
                &l.input,
                &l.attention_inverse,
                &l.raw_q,
                &l.raw_k,
                &l.q_inverse,
                &l.k_inverse,
                &l.q,
                &l.k,
                &l.v,
                &l.attended,
                &l.middle,
                &l.mlp_inverse,
                &l.gate,
                &l.up,
            ];
            floats.iter().map(|v| v.capacity()).sum::<usize>() + 2 * l.softmax.capacity()
        };
        let floats = [
            &self.residual,
            &self.d_residual,
            &self.final_inverse,
            &self.normed,
            &self.d_normed,
            &self.hidden,
            &self.dq,
            &self.dk,
            &self.dv,
            &self.low,
            &self.d_low,
            &self.logits,
        ];
        let scratch = floats.iter().map(|v| v.capacity()).sum::<usize>();
        4 * (self.layers.iter().map(layer).sum::<usize>() + scratch)
    }
}
