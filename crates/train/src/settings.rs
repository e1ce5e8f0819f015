//! What a run is: everything its result depends on, and its digest. Spec 05 §9.1.
//!
//! Places of files, threads and how often something is saved are not here: they change nothing.

use serde::{Deserialize, Serialize};
use shoal_base::Digest;
use shoal_model::{
    Architecture, ArchitectureError, Family, LinearPart, Rope, RopeLayout, RopeScaling,
};

use crate::schedule::{Decay, Schedule};
use crate::trainer::OptimizerSettings;

const RUN_DOMAIN: &str = "shoal/train/run/v1";

/// Longest run; a larger number is a slip of the pen.
const STEPS_MAX: u64 = 1 << 40;
/// Most samples of a step.
const SAMPLES_MAX: u32 = 1 << 16;
/// Widest adapter.
const RANK_MAX: u32 = 4096;

/// The shape of a new model. Everything else of its architecture is that of its family.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// `D`
    pub width: u32,
    /// `L`
    pub layers: u32,
    /// `H`
    pub heads: u32,
    /// `G`, divides `heads`.
    pub kv_heads: u32,
    /// `K`
    pub head_width: u32,
    /// `F`
    pub mlp_width: u32,
    /// Longest sequence.
    pub context_tokens: u32,
    /// The output head is the embedding.
    pub tied_embeddings: bool,
    /// `llama`; `qwen2`, with biases of query, key and value; `qwen3`, with norms on the heads of
    /// query and key.
    #[serde(default = "llama")]
    pub family: Family,
    /// Query, key, value and attention output have biases (Llama).
    #[serde(default)]
    pub attention_bias: bool,
    /// Gate, up and down have biases (Llama).
    #[serde(default)]
    pub mlp_bias: bool,
    /// Base of the rotary frequencies.
    #[serde(default = "rope_theta")]
    pub rope_theta: f64,
}

const fn llama() -> Family {
    Family::Llama
}

const fn rope_theta() -> f64 {
    10_000.0
}

impl ModelSettings {
    /// The architecture for a vocabulary.
    ///
    /// # Errors
    /// A rule that is broken.
    pub fn architecture(&self, vocab_count: u32) -> Result<Architecture, ArchitectureError> {
        let is_llama = self.family == Family::Llama;
        let rules = [
            (self.family != Family::Mistral, "family", "llama, qwen2 or qwen3"),
            (is_llama || !self.attention_bias, "attention_bias", "false unless family is llama"),
            (is_llama || !self.mlp_bias, "mlp_bias", "false unless family is llama"),
        ];
        if let Some((_, field, rule)) = rules.into_iter().find(|(holds, ..)| !holds) {
            return Err(ArchitectureError { field, rule });
        }
        let architecture = Architecture {
            family: self.family,
            vocab_count,
            model_width: self.width,
            layer_count: self.layers,
            head_count: self.heads,
            kv_head_count: self.kv_heads,
            head_width: self.head_width,
            mlp_width: self.mlp_width,
            context_tokens: self.context_tokens,
            norm_epsilon: 1e-5,
            rope: Rope {
                theta: self.rope_theta,
                dims: self.head_width,
                layout: if is_llama { RopeLayout::Interleaved } else { RopeLayout::Half },
                scaling: RopeScaling::None,
            },
            sliding_window: None,
            tied_embeddings: self.tied_embeddings,
            qkv_bias: self.attention_bias || self.family == Family::Qwen2,
            output_bias: self.attention_bias,
            mlp_bias: self.mlp_bias,
            qk_norm: self.family == Family::Qwen3,
        };
        architecture.check()?;
        Ok(architecture)
    }
}

/// Low-rank maps beside frozen ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdapterSettings {
    /// Width between the two maps.
    pub rank: u32,
    /// Multiplies what they add.
    pub scale: f32,
    /// The maps that get one.
    pub parts: Vec<LinearPart>,
}

/// How much is learned, in which portions, how fast.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSettings {
    /// Steps of the run.
    pub steps: u64,
    /// Samples of a step.
    pub samples: u32,
    /// Longest sample; documents share one, longer ones are cut.
    pub sample_tokens: u32,
    /// Highest learning rate.
    pub rate: f64,
    /// Rate at the end, as a share of the highest.
    pub final_rate_share: f64,
    /// Steps of a straight rise from 0.
    pub warmup_steps: u64,
    /// How the rate falls: `constant`, `cosine` or `wsd`.
    pub decay: Decay,
    /// Steps of the final line of `wsd`.
    pub decay_steps: u64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decay of matrices.
    pub weight_decay: f64,
    /// Longest gradient.
    pub clip_norm: f64,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
pub enum Objective {
    /// Cross entropy of the next token where it counts.
    NextToken,
    /// A mixture of the next token and a teacher's distribution.
    Distill {
        /// Share of the teacher.
        share: f32,
    },
    /// Chosen over rejected answers.
    Preference {
        /// How strongly the answers stay close to the first model's.
        beta: f64,
    },
}

/// Everything the result of a run depends on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunDefinition {
    /// Any text; it names the randomness.
    pub seed: String,
    /// The model.
    pub architecture: Architecture,
    /// Low-rank maps, when the model itself is frozen.
    pub adapter: Option<AdapterSettings>,
    /// What is minimised.
    pub objective: Objective,
    /// Steps and rates.
    pub step: StepSettings,
    /// Root over the documents, in their order.
    pub data: Digest,
    /// Digest of the first parameters of a model that is trained further.
    pub base: Option<Digest>,
    /// Digest of the teacher's parameters.
    pub teacher: Option<Digest>,
    /// Digest of the tokenizer.
    pub tokenizer: Digest,
}

/// A setting that cannot be honoured.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// A number out of its range, or one that contradicts another.
    #[error("{field} {rule}")]
    Rule {
        /// The setting.
        field: &'static str,
        /// What must hold.
        rule: &'static str,
    },
    /// The model.
    #[error(transparent)]
    Architecture(#[from] ArchitectureError),
}

impl StepSettings {
    /// AdamW, clipping and the schedule.
    #[must_use]
    pub const fn optimizer(&self) -> OptimizerSettings {
        OptimizerSettings {
            schedule: Schedule {
                rate: self.rate,
                final_share: self.final_rate_share,
                warmup_steps: self.warmup_steps,
                steps: self.steps,
                decay: self.decay,
                decay_steps: self.decay_steps,
            },
            beta1: self.beta1,
            beta2: self.beta2,
            epsilon: self.epsilon,
            weight_decay: self.weight_decay,
            clip_norm: self.clip_norm,
        }
    }

    fn rules(&self) -> [(bool, &'static str, &'static str); 12] {
        let positive = |x: f64| x.is_finite() && x > 0.0;
        let wsd = self.decay == Decay::Wsd;
        [
            ((1..=STEPS_MAX).contains(&self.steps), "steps", "is in 1..=2^40"),
            ((1..=SAMPLES_MAX).contains(&self.samples), "samples", "is in 1..=65536"),
            (self.sample_tokens > 0, "sample_tokens", "is at least 1"),
            (positive(self.rate) && self.rate <= 1.0, "rate", "is above 0 and at most 1"),
            ((0.0..=1.0).contains(&self.final_rate_share), "final_rate_share", "is in 0..=1"),
            (self.warmup_steps <= self.steps, "warmup_steps", "is at most steps"),
            (!wsd || self.decay_steps <= self.steps, "decay_steps", "is at most steps"),
            ((0.0..1.0).contains(&self.beta1), "beta1", "is in 0..1"),
            ((0.0..1.0).contains(&self.beta2), "beta2", "is in 0..1"),
            (positive(self.epsilon), "epsilon", "is above 0"),
            ((0.0..=10.0).contains(&self.weight_decay), "weight_decay", "is in 0..=10"),
            (positive(self.clip_norm), "clip_norm", "is above 0"),
        ]
    }
}

impl RunDefinition {
    /// Checks every number against its range and against the others.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.architecture.check()?;
        let distill = matches!(self.objective, Objective::Distill { .. });
        let objective = match self.objective {
            Objective::NextToken => true,
            Objective::Distill { share } => (0.0..=1.0).contains(&share),
            Objective::Preference { beta } => beta > 0.0 && beta <= 100.0,
        };
        let adapter = self.adapter.as_ref();
        let rank = adapter.is_none_or(|a| (1..=RANK_MAX).contains(&a.rank));
        let scale = adapter.is_none_or(|a| a.scale.is_finite() && a.scale != 0.0);
        let tokens = self.step.sample_tokens <= self.architecture.context_tokens;
        let own = [
            (tokens, "sample_tokens", "is at most the context of the model"),
            (objective, "objective", "has a share in 0..=1, or a beta above 0 and at most 100"),
            (distill == self.teacher.is_some(), "teacher", "is given for distillation only"),
            (rank, "adapter.rank", "is in 1..=4096"),
            (scale, "adapter.scale", "is a number other than 0"),
            (adapter.is_none_or(|a| !a.parts.is_empty()), "adapter.parts", "names a map"),
            (adapter.is_none() || self.base.is_some(), "adapter", "needs a base model"),
        ];
        let mut rules = self.step.rules().into_iter().chain(own);
        match rules.find(|(holds, ..)| !holds) {
            Some((_, field, rule)) => Err(SettingsError::Rule { field, rule }),
            None => Ok(()),
        }
    }

    /// What names the randomness of the run.
    #[must_use]
    pub fn seed_digest(&self) -> Digest {
        seed_digest(&self.seed)
    }

    /// What names the run: two runs of one digest have the same states.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let text = serde_json::to_vec(self).expect("plain data has a JSON form");
        Digest::tagged(RUN_DOMAIN, &text)
    }
}

/// The randomness that a text names. Every use of it has a domain of its own.
#[must_use]
pub fn seed_digest(seed: &str) -> Digest {
    Digest::of(seed.as_bytes())
}
