//! A second implementation of the forward pass, in f64 and plain loops, and small models to try.
#![expect(dead_code, reason = "each test binary uses a part")]

use std::ops::Range;

use shoal_base::Digest;
use shoal_kernels::{Isa, Kernels};
use shoal_model::{
    Architecture, Family, LinearPart, NormPart, Rope, RopeLayout, RopeScaling, TensorRole,
};
use shoal_train::{
    Decay, OptimizerSettings, Purpose, Random, Sample, Schedule, Tensor, TrainModel, Trainer,
};

/// Everything an architecture can have is on: biases, norms on heads, shared key heads.
pub(crate) fn full() -> Architecture {
    Architecture {
        family: Family::Llama,
        vocab_count: 19,
        model_width: 12,
        layer_count: 2,
        head_count: 4,
        kv_head_count: 2,
        head_width: 6,
        mlp_width: 10,
        context_tokens: 64,
        norm_epsilon: 1e-5,
        rope: Rope { theta: 100.0, dims: 4, layout: RopeLayout::Half, scaling: RopeScaling::None },
        sliding_window: Some(5),
        tied_embeddings: false,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        qk_norm: true,
    }
}

/// A plain Llama with one table for input and output.
pub(crate) fn plain() -> Architecture {
    Architecture {
        rope: Rope {
            theta: 10_000.0,
            dims: 6,
            layout: RopeLayout::Interleaved,
            scaling: RopeScaling::None,
        },
        sliding_window: None,
        tied_embeddings: true,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: false,
        ..full()
    }
}

/// About 100 thousand parameters.
pub(crate) fn small() -> Architecture {
    Architecture {
        vocab_count: 256,
        model_width: 64,
        head_width: 16,
        mlp_width: 160,
        rope: Rope {
            theta: 10_000.0,
            dims: 16,
            layout: RopeLayout::Interleaved,
            scaling: RopeScaling::None,
        },
        ..plain()
    }
}

pub(crate) fn kernels(threads: usize) -> Kernels {
    Kernels::new(Isa::choose().expect("a known one"), threads).expect("available")
}

/// A model whose every parameter is random, norms and biases too.
pub(crate) fn random_model(architecture: Architecture, seed: &str) -> TrainModel {
    let mut model = TrainModel::try_new(architecture).expect("the rules hold");
    model.initialize(Digest::of(seed.as_bytes()));
    let mut random = Random::new(Digest::of(seed.as_bytes()), Purpose::Synthesis, 0, 0);
    for place in model.parameters().layout().clone().places() {
        let data = model.parameters_mut().get_mut(place.tensor).expect("it is there");
        match place.tensor {
            Tensor::Model(TensorRole::Norm(..) | TensorRole::FinalNorm) => {
                data.iter_mut().for_each(|x| *x = 1.0 + 0.3 * random.signed_unit());
            }
            Tensor::Model(TensorRole::Bias(..)) => {
                data.iter_mut().for_each(|x| *x = 0.3 * random.signed_unit());
            }
            // Larger than real first values, so that every path carries weight.
            _ => data.iter_mut().for_each(|x| *x = 0.4 * random.signed_unit()),
        }
    }
    model
}

/// A sample of two documents; a third of the targets do not count.
pub(crate) fn sample(vocab: u32, rows: usize, seed: u64) -> Sample {
    let mut random = Random::new(Digest::of(b"sample"), Purpose::Synthesis, 1, seed);
    let mut token = || random.below(u64::from(vocab)) as u32;
    let tokens: Vec<u32> = (0..rows).map(|_| token()).collect();
    let targets: Vec<u32> = (0..rows).map(|_| token()).collect();
    let weights = (0..rows).map(|t| if t % 3 == 1 { 0.0 } else { 1.0 }).collect();
    let cut = rows * 2 / 3;
    let documents = [0..cut, cut..rows].into_iter().filter(|d| !d.is_empty()).collect();
    Sample { tokens, targets, weights, documents }
}

pub(crate) fn settings(steps: u64) -> OptimizerSettings {
    OptimizerSettings {
        schedule: Schedule {
            rate: 1e-2,
            final_share: 0.1,
            warmup_steps: 3,
            steps,
            decay: Decay::Cosine,
            decay_steps: 0,
        },
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: 1.0,
    }
}

pub(crate) fn trainer(model: TrainModel, threads: usize) -> Trainer {
    Trainer::new(kernels(threads), model, settings(100))
}

/// The model in f64. `tensor` gives the numbers of a tensor.
pub(crate) struct Wide<'a> {
    pub(crate) architecture: &'a Architecture,
    pub(crate) tensor: &'a dyn Fn(Tensor) -> Option<Vec<f64>>,
    pub(crate) adapter_scale: f64,
}

impl Wide<'_> {
    fn role(&self, role: TensorRole) -> Vec<f64> {
        (self.tensor)(Tensor::Model(role)).expect("the architecture has it")
    }

    fn norm(&self, x: &[f64], weight: &[f64]) -> Vec<f64> {
        let mean = x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64;
        let inverse = 1.0 / (mean + f64::from(self.architecture.norm_epsilon)).sqrt();
        x.iter().zip(weight).map(|(x, w)| x * inverse * w).collect()
    }

    fn linear(&self, layer: u32, part: LinearPart, x: &[f64]) -> Vec<f64> {
        let product = |w: &[f64], x: &[f64]| -> Vec<f64> {
            w.chunks_exact(x.len()).map(|w| w.iter().zip(x).map(|(w, x)| w * x).sum()).collect()
        };
        let mut y = product(&self.role(TensorRole::Linear(layer, part)), x);
        if let Some(a) = (self.tensor)(Tensor::AdapterIn(layer, part)) {
            let b = (self.tensor)(Tensor::AdapterOut(layer, part)).expect("both or none");
            let low = product(&a, x);
            for (y, add) in y.iter_mut().zip(product(&b, &low)) {
                *y += self.adapter_scale * add;
            }
        }
        if self.architecture.has_bias(part) {
            let bias = self.role(TensorRole::Bias(layer, part));
            y.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
        y
    }

    /// Norms of heads, then rotation.
    fn heads(&self, layer: u32, part: NormPart, x: &[f64], position: usize) -> Vec<f64> {
        let a = self.architecture;
        let width = a.head_width as usize;
        let mut out = Vec::new();
        for head in x.chunks_exact(width) {
            let mut head = match a.qk_norm {
                true => self.norm(head, &self.role(TensorRole::Norm(layer, part))),
                false => head.to_vec(),
            };
            let pairs = a.rope.dims as usize / 2;
            for i in 0..pairs {
                let power = -2.0 * i as f64 / f64::from(a.rope.dims);
                let angle = position as f64 * a.rope.theta.powf(power);
                let (first, second) = match a.rope.layout {
                    RopeLayout::Interleaved => (2 * i, 2 * i + 1),
                    RopeLayout::Half => (i, i + pairs),
                };
                let (x, y) = (head[first], head[second]);
                head[first] = x * angle.cos() - y * angle.sin();
                head[second] = x * angle.sin() + y * angle.cos();
            }
            out.extend(head);
        }
        out
    }

    fn attend(&self, layer: u32, x: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let a = self.architecture;
        let (width, group) = (a.head_width as usize, (a.head_count / a.kv_head_count) as usize);
        let rows = |part, norm: Option<NormPart>| -> Vec<Vec<f64>> {
            let one = |(t, x): (usize, &Vec<f64>)| {
                let y = self.linear(layer, part, x);
                norm.map_or(y.clone(), |norm| self.heads(layer, norm, &y, t))
            };
            x.iter().enumerate().map(one).collect()
        };
        let q = rows(LinearPart::Query, Some(NormPart::QueryHead));
        let k = rows(LinearPart::Key, Some(NormPart::KeyHead));
        let v = rows(LinearPart::Value, None);
        let window = a.sliding_window.map_or(usize::MAX, |w| w as usize);
        let mut out = vec![vec![0.0; a.head_count as usize * width]; x.len()];
        for (t, out) in out.iter_mut().enumerate() {
            let seen = (t + 1).saturating_sub(window)..t + 1;
            for head in 0..a.head_count as usize {
                let (at, kv) = (head * width, head / group * width);
                let score = |j: usize| -> f64 {
                    let dot: f64 = (0..width).map(|i| q[t][at + i] * k[j][kv + i]).sum();
                    dot / (width as f64).sqrt()
                };
                let scores: Vec<f64> = seen.clone().map(score).collect();
                let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
                for (j, s) in seen.clone().zip(&scores) {
                    let p = (s - max).exp() / sum;
                    (0..width).for_each(|i| out[at + i] += p * v[j][kv + i]);
                }
            }
        }
        out
    }

    /// Logits of every row of one document.
    pub(crate) fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let a = self.architecture;
        let d = a.model_width as usize;
        let table = self.role(TensorRole::Embedding);
        let embed = |&token: &u32| table[token as usize * d..][..d].to_vec();
        let mut residual: Vec<Vec<f64>> = tokens.iter().map(embed).collect();
        for layer in 0..a.layer_count {
            let weight = self.role(TensorRole::Norm(layer, NormPart::Attention));
            let x: Vec<_> = residual.iter().map(|x| self.norm(x, &weight)).collect();
            for (x, out) in residual.iter_mut().zip(self.attend(layer, &x)) {
                let y = self.linear(layer, LinearPart::AttentionOutput, &out);
                x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
            }
            let weight = self.role(TensorRole::Norm(layer, NormPart::Mlp));
            for x in &mut residual {
                let n = self.norm(x, &weight);
                let gate = self.linear(layer, LinearPart::Gate, &n);
                let up = self.linear(layer, LinearPart::Up, &n);
                let silu = |g: f64| g / (1.0 + (-g).exp());
                let h: Vec<f64> = gate.iter().zip(up).map(|(&g, u)| silu(g) * u).collect();
                let y = self.linear(layer, LinearPart::Down, &h);
                x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
            }
        }
        let weight = self.role(TensorRole::FinalNorm);
        let head = match a.tied_embeddings {
            true => table.clone(),
            false => self.role(TensorRole::OutputHead),
        };
        let row = |x: &Vec<f64>| -> Vec<f64> {
            let n = self.norm(x, &weight);
            head.chunks_exact(d).map(|w| w.iter().zip(&n).map(|(w, n)| w * n).sum()).collect()
        };
        residual.iter().map(row).collect()
    }

    /// `ln softmax` of every row of a sample.
    pub(crate) fn log_probabilities(&self, sample: &Sample) -> Vec<Vec<f64>> {
        let of = |document: &Range<usize>| self.logits(&sample.tokens[document.clone()]);
        let logits = sample.documents.iter().flat_map(of);
        logits.map(|row| log_softmax(&row)).collect()
    }

    /// Weighted mean of the losses over samples.
    pub(crate) fn loss(&self, samples: &[Sample]) -> f64 {
        let total: f64 = samples.iter().map(Sample::weight).sum();
        let mut sum = 0.0;
        for sample in samples {
            for (t, row) in self.log_probabilities(sample).iter().enumerate() {
                sum -= f64::from(sample.weights[t]) * row[sample.targets[t] as usize];
            }
        }
        sum / total
    }
}

pub(crate) fn log_softmax(row: &[f64]) -> Vec<f64> {
    let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum = row.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
    row.iter().map(|x| x - max - sum).collect()
}

/// Central differences of `loss(parameters)` in f64 for every element of a flat vector.
pub(crate) fn differences(parameters: &[f64], loss: &dyn Fn(&[f64]) -> f64) -> Vec<f64> {
    const H: f64 = 1e-5;
    let mut at = parameters.to_vec();
    (0..at.len())
        .map(|i| {
            let x = at[i];
            at[i] = x + H;
            let above = loss(&at);
            at[i] = x - H;
            let below = loss(&at);
            at[i] = x;
            (above - below) / (2.0 * H)
        })
        .collect()
}
