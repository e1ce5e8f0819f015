//! What a model is made of. An architecture is data: the engine runs any value that passes
//! [`Architecture::check`], so a new family needs a mapping from its files and nothing else.
//!
//! Spec 02 §3. Dimension letters: `V` vocabulary, `D` model width, `L` layers, `H` query heads, `G`
//! key/value heads, `K` head width, `F` hidden width of the MLP.

use serde::{Deserialize, Serialize};

/// The families whose files are understood. The engine only looks at the data below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Llama 1 to 3.x, `SmolLM`, llama2.c checkpoints.
    Llama,
    /// Mistral, with sliding-window attention where the file says so.
    Mistral,
    /// Qwen2 and Qwen2.5: biases on Q, K and V.
    Qwen2,
    /// Qwen3: RMS norms on each head of Q and K.
    Qwen3,
}

/// Which pairs of a head's elements are rotated together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RopeLayout {
    /// Elements 2i and 2i + 1 (llama2.c, Llama in GGUF).
    Interleaved,
    /// Elements i and i + dims/2 (Hugging Face files, Qwen in GGUF).
    Half,
}

/// How rotation frequencies are changed for contexts longer than the trained one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Positions divided by `factor`.
    Linear {
        /// At least 1.
        factor: f64,
    },
    /// Llama 3.1: low frequencies divided by `factor`, a smooth step between.
    Llama3 {
        /// At least 1.
        factor: f64,
        /// Wavelengths above `original_context / low` are scaled.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high` are kept.
        high_freq_factor: f64,
        /// Context of the first training.
        original_context: u32,
    },
    /// `YaRN`: a ramp between interpolation and extrapolation, and a factor on the attention
    /// scores.
    Yarn {
        /// At least 1.
        factor: f64,
        /// Rotations above which a dimension is kept (32 by default).
        beta_fast: f64,
        /// Rotations below which a dimension is interpolated (1 by default).
        beta_slow: f64,
        /// Multiplies cosine and sine; `0.1 ln(factor) + 1` unless the file says otherwise.
        attention_factor: f64,
        /// Context of the first training.
        original_context: u32,
    },
}

/// Rotary position embedding.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// Elements of each head that are rotated, even, at most the head width; the rest pass
    /// through.
    pub dims: u32,
    /// Which elements pair up.
    pub layout: RopeLayout,
    /// Change for long contexts.
    pub scaling: RopeScaling,
}

/// A decoder-only transformer with RMS norms, rotary positions, grouped-query attention, SwiGLU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Architecture {
    /// Family the files belong to.
    pub family: Family,
    /// `V`
    pub vocab_count: u32,
    /// `D`
    pub model_width: u32,
    /// `L`
    pub layer_count: u32,
    /// `H`
    pub head_count: u32,
    /// `G`, divides `H`.
    pub kv_head_count: u32,
    /// `K`, even.
    pub head_width: u32,
    /// `F`
    pub mlp_width: u32,
    /// Longest sequence.
    pub context_tokens: u32,
    /// Added to the mean square in RMS norms.
    pub norm_epsilon: f32,
    /// Rotary positions.
    pub rope: Rope,
    /// A query sees this many last positions, its own included; `None` sees all.
    pub sliding_window: Option<u32>,
    /// The output head is the embedding.
    pub tied_embeddings: bool,
    /// Q, K and V have biases.
    pub qkv_bias: bool,
    /// The attention output has a bias.
    pub output_bias: bool,
    /// Gate, up and down have biases.
    pub mlp_bias: bool,
    /// Q and K heads are RMS-normed before rotation.
    pub qk_norm: bool,
}

/// The linear maps of a layer, in the order in which they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinearPart {
    /// `[H*K, D]`
    Query,
    /// `[G*K, D]`
    Key,
    /// `[G*K, D]`
    Value,
    /// `[D, H*K]`
    AttentionOutput,
    /// `[F, D]`
    Gate,
    /// `[F, D]`
    Up,
    /// `[D, F]`
    Down,
}

impl LinearPart {
    /// All parts, in storage order.
    pub const ALL: [Self; 7] = [
        Self::Query,
        Self::Key,
        Self::Value,
        Self::AttentionOutput,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];
}

/// The norm weights of a layer, in the order in which they are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPart {
    /// `[D]`, before attention.
    Attention,
    /// `[K]`, on each query head.
    QueryHead,
    /// `[K]`, on each key head.
    KeyHead,
    /// `[D]`, before the MLP.
    Mlp,
}

/// The place of a tensor in an architecture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TensorRole {
    /// `[V, D]`
    Embedding,
    /// `[V, D]`, absent when tied.
    OutputHead,
    /// `[D]`
    FinalNorm,
    /// A linear map of layer `.0`.
    Linear(u32, LinearPart),
    /// The bias of a linear map of layer `.0`, one element per row.
    Bias(u32, LinearPart),
    /// A norm of layer `.0`.
    Norm(u32, NormPart),
}

/// A rule an architecture breaks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("architecture: {field} {rule}")]
pub struct ArchitectureError {
    /// The field.
    pub field: &'static str,
    /// What it must satisfy.
    pub rule: &'static str,
}

/// Largest values accepted; they bound every allocation that follows from a file's header.
mod limits {
    pub(super) const VOCAB_COUNT: u32 = 1 << 20;
    pub(super) const WIDTH: u32 = 1 << 17;
    pub(super) const LAYER_COUNT: u32 = 1024;
    pub(super) const HEAD_COUNT: u32 = 1024;
    pub(super) const HEAD_WIDTH: u32 = 512;
    pub(super) const CONTEXT: u32 = 1 << 20;
}

impl Architecture {
    /// Checks every field against its range and against the others.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), ArchitectureError> {
        let ratio_ok =
            self.kv_head_count != 0 && self.head_count.is_multiple_of(self.kv_head_count);
        let epsilon_ok = (1e-12..=1.0).contains(&self.norm_epsilon);
        let rules = [
            (in_range(self.vocab_count, limits::VOCAB_COUNT), "vocab_count", "in 1..=2^20"),
            (in_range(self.model_width, limits::WIDTH), "model_width", "in 1..=2^17"),
            (self.model_width.is_multiple_of(2), "model_width", "even"),
            (in_range(self.layer_count, limits::LAYER_COUNT), "layer_count", "in 1..=1024"),
            (in_range(self.head_count, limits::HEAD_COUNT), "head_count", "in 1..=1024"),
            (in_range(self.kv_head_count, self.head_count), "kv_head_count", "in 1..=head_count"),
            (ratio_ok, "kv_head_count", "a divisor of head_count"),
            (in_range(self.head_width, limits::HEAD_WIDTH), "head_width", "in 2..=512"),
            (self.head_width.is_multiple_of(2), "head_width", "even"),
            (in_range(self.mlp_width, limits::WIDTH), "mlp_width", "in 1..=2^17"),
            (in_range(self.context_tokens, limits::CONTEXT), "context_tokens", "in 1..=2^20"),
            (epsilon_ok, "norm_epsilon", "in 1e-12..=1"),
            (self.sliding_window != Some(0), "sliding_window", "at least 1"),
        ];
        let mut rules = rules.into_iter().chain(self.rope.rules(self.head_width));
        match rules.find(|(holds, ..)| !holds) {
            Some((_, field, rule)) => Err(ArchitectureError { field, rule }),
            None => Ok(()),
        }
    }

    /// Rows and columns of a linear map.
    #[must_use]
    pub fn linear_shape(&self, part: LinearPart) -> (usize, usize) {
        let d = self.model_width as usize;
        let f = self.mlp_width as usize;
        let q = (self.head_count * self.head_width) as usize;
        let kv = (self.kv_head_count * self.head_width) as usize;
        match part {
            LinearPart::Query => (q, d),
            LinearPart::Key | LinearPart::Value => (kv, d),
            LinearPart::AttentionOutput => (d, q),
            LinearPart::Gate | LinearPart::Up => (f, d),
            LinearPart::Down => (d, f),
        }
    }

    /// Whether a linear map has a bias.
    #[must_use]
    pub fn has_bias(&self, part: LinearPart) -> bool {
        match part {
            LinearPart::Query | LinearPart::Key | LinearPart::Value => self.qkv_bias,
            LinearPart::AttentionOutput => self.output_bias,
            LinearPart::Gate | LinearPart::Up | LinearPart::Down => self.mlp_bias,
        }
    }

    /// Every tensor this architecture has, in storage order, with its rows and columns.
    pub fn tensors(&self) -> impl Iterator<Item = (TensorRole, (usize, usize))> + '_ {
        let d = self.model_width as usize;
        let vd = (self.vocab_count as usize, d);
        let head = (!self.tied_embeddings).then_some((TensorRole::OutputHead, vd));
        std::iter::once((TensorRole::Embedding, vd))
            .chain((0..self.layer_count).flat_map(move |layer| self.layer_tensors(layer)))
            .chain([(TensorRole::FinalNorm, (1, d))])
            .chain(head)
    }

    fn layer_tensors(&self, layer: u32) -> Vec<(TensorRole, (usize, usize))> {
        let d = self.model_width as usize;
        let k = self.head_width as usize;
        let mut tensors = vec![(TensorRole::Norm(layer, NormPart::Attention), (1, d))];
        if self.qk_norm {
            tensors.push((TensorRole::Norm(layer, NormPart::QueryHead), (1, k)));
            tensors.push((TensorRole::Norm(layer, NormPart::KeyHead), (1, k)));
        }
        tensors.push((TensorRole::Norm(layer, NormPart::Mlp), (1, d)));
        for part in LinearPart::ALL {
            let shape = self.linear_shape(part);
            tensors.push((TensorRole::Linear(layer, part), shape));
            if self.has_bias(part) {
                tensors.push((TensorRole::Bias(layer, part), (1, shape.0)));
            }
        }
        tensors
    }
}

fn in_range(value: u32, limit: u32) -> bool {
    (1..=limit).contains(&value)
}

impl Rope {
    /// Rules as [`Architecture::check`] lists them: whether it holds, field, rule.
    fn rules(self, head_width: u32) -> [(bool, &'static str, &'static str); 4] {
        [
            ((1.0..=1e12).contains(&self.theta), "rope.theta", "in 1..=1e12"),
            (in_range(self.dims, head_width), "rope.dims", "in 2..=head_width"),
            (self.dims.is_multiple_of(2), "rope.dims", "even"),
            (self.scaling.is_sane(), "rope.scaling", "finite, with factor in 1..=1e4"),
        ]
    }
}

impl RopeScaling {
    fn is_sane(self) -> bool {
        let factor_ok = |factor: f64| (1.0..=1e4).contains(&factor);
        match self {
            Self::None => true,
            Self::Linear { factor } => factor_ok(factor),
            Self::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } => {
                factor_ok(factor)
                    && (1e-3..=1e3).contains(&low_freq_factor)
                    && high_freq_factor > low_freq_factor
                    && high_freq_factor <= 1e3
                    && in_range(original_context, limits::CONTEXT)
            }
            Self::Yarn { factor, beta_fast, beta_slow, attention_factor, original_context } => {
                factor_ok(factor)
                    && beta_slow > 0.0
                    && beta_fast > beta_slow
                    && beta_fast <= 1e4
                    && (1e-3..=1e3).contains(&attention_factor)
                    && in_range(original_context, limits::CONTEXT)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Architecture {
        Architecture {
            family: Family::Llama,
            vocab_count: 512,
            model_width: 64,
            layer_count: 5,
            head_count: 8,
            kv_head_count: 4,
            head_width: 8,
            mlp_width: 172,
            context_tokens: 512,
            norm_epsilon: 1e-5,
            rope: Rope {
                theta: 10_000.0,
                dims: 8,
                layout: RopeLayout::Interleaved,
                scaling: RopeScaling::None,
            },
            sliding_window: None,
            tied_embeddings: true,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
        }
    }

    #[test]
    fn parameter_count_follows_from_the_shapes() {
        let count: usize = tiny().tensors().map(|(_, (rows, columns))| rows * columns).sum();
        assert_eq!(count, 260_032);
    }

    #[test]
    fn each_broken_rule_is_named() {
        type Break = fn(&mut Architecture);
        let cases: [(&str, Break); 9] = [
            ("vocab_count", |a| a.vocab_count = 0),
            ("model_width", |a| a.model_width = 63),
            ("layer_count", |a| a.layer_count = 4096),
            ("kv_head_count", |a| a.kv_head_count = 3),
            ("head_width", |a| a.head_width = 7),
            ("norm_epsilon", |a| a.norm_epsilon = f32::NAN),
            ("sliding_window", |a| a.sliding_window = Some(0)),
            ("rope.dims", |a| a.rope.dims = 10),
            ("rope.scaling", |a| a.rope.scaling = RopeScaling::Linear { factor: f64::INFINITY }),
        ];
        assert_eq!(tiny().check(), Ok(()));
        for (field, damage) in cases {
            let mut architecture = tiny();
            damage(&mut architecture);
            assert_eq!(architecture.check().map_err(|e| e.field), Err(field));
        }
    }
}
