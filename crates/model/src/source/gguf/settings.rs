//! From the metadata and tensor names of a GGUF file to an [`Architecture`].

use std::collections::BTreeMap;

use super::super::tensors::FileTensor;
use super::super::{Input, SourceError, limits};
use super::metadata::{Metadata, Value, wrong};
use super::names;
use super::rope::{self, Rotation};
use crate::architecture::{
    Architecture, Family, LinearPart, NormPart, Rope, RopeLayout, RopeScaling, TensorRole,
};

/// Settings under the architecture's prefix that change the computation, with the value that does
/// not. The engine knows none of them.
const NEUTRAL: [(&str, Neutral); 14] = [
    ("attention.causal", Neutral::Bool(true)),
    ("attention.clamp_kqv", Neutral::Number(0.0)),
    ("attention.max_alibi_bias", Neutral::Number(0.0)),
    ("attention.output_scale", Neutral::Number(0.0)),
    ("attention.scale", Neutral::Number(0.0)),
    ("attention.temperature_scale", Neutral::Number(0.0)),
    ("attention.value_scale", Neutral::Number(0.0)),
    ("attn_logit_softcapping", Neutral::Number(0.0)),
    ("embedding_scale", Neutral::Number(0.0)),
    ("final_logit_softcapping", Neutral::Number(0.0)),
    ("logit_scale", Neutral::Number(0.0)),
    ("residual_scale", Neutral::Number(0.0)),
    ("rope.scaling.alpha", Neutral::Number(0.0)),
    ("use_parallel_residual", Neutral::Bool(false)),
];

/// Settings under the prefix that belong to layers or positions of several kinds. Whatever they
/// say, the engine does not know it.
const REFUSED: [&str; 9] = [
    "attention.key_length_mla",
    "attention.key_length_swa",
    "attention.recurrent_layers",
    "attention.rope_pattern",
    "attention.shared_kv_layers",
    "attention.sliding_window_pattern",
    "nextn_predict_layers",
    "rope.dimension_sections",
    "rope.freq_base_swa",
];

/// The value of a setting that means "not used".
enum Neutral {
    Bool(bool),
    Number(f64),
}

const ACCEPTED: &str = "llama, qwen2, qwen3";
const THETA_DEFAULT: f64 = 10_000.0;

/// The architecture, and the name of the model if the file gives one.
pub(super) fn read(
    input: &Input,
    metadata: &Metadata,
    inputs: &[Input],
    tensors: &BTreeMap<String, FileTensor>,
) -> Result<(Architecture, Option<String>), SourceError> {
    let text = |key| metadata.text(input, key, limits::SHORT_TEXT_BYTES_MAX);
    let key = "general.architecture";
    let prefix = text(key)?.ok_or_else(|| missing(input, key.to_owned()))?;
    let (family, layout) = match prefix.as_str() {
        "llama" => (Family::Llama, RopeLayout::Interleaved),
        "qwen2" => (Family::Qwen2, RopeLayout::Half),
        "qwen3" => (Family::Qwen3, RopeLayout::Half),
        _ => {
            return Err(SourceError::UnknownArchitecture {
                file: input.file().to_path_buf(),
                name: prefix,
                accepted: ACCEPTED,
            });
        }
    };
    let settings = Settings { input, metadata, prefix: &prefix };
    settings.refuse_other_computations()?;
    let mut architecture = settings.dimensions(family, layout, tensors)?;
    let rotation = Rotation {
        prefix: &prefix,
        theta: architecture.rope.theta,
        dims: architecture.rope.dims,
        context_tokens: architecture.context_tokens,
    };
    check(input, &architecture)?;
    architecture.rope.scaling = rope::scaling(metadata, inputs, tensors, &rotation)?;
    check(input, &architecture)?;
    Ok((architecture, text("general.name")?))
}

fn check(input: &Input, architecture: &Architecture) -> Result<(), SourceError> {
    architecture
        .check()
        .map_err(|source| SourceError::Architecture { file: input.file().to_path_buf(), source })
}

fn missing(input: &Input, key: String) -> SourceError {
    SourceError::MissingKey { file: input.file().to_path_buf(), key }
}

struct Settings<'a> {
    input: &'a Input,
    metadata: &'a Metadata,
    prefix: &'a str,
}

impl Settings<'_> {
    fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    fn u32(&self, name: &str) -> Result<Option<u32>, SourceError> {
        self.metadata.u32_of_layers(self.input, &self.key(name))
    }

    fn required(&self, name: &str) -> Result<u32, SourceError> {
        let value = self.u32(name)?;
        value.ok_or_else(|| missing(self.input, self.key(name)))
    }

    fn float(&self, name: &str) -> Result<Option<f64>, SourceError> {
        self.metadata.float(self.input, &self.key(name))
    }

    fn refuse_other_computations(&self) -> Result<(), SourceError> {
        if self.u32("expert_count")?.unwrap_or(0) > 0 {
            return Err(SourceError::MixtureOfExperts { file: self.input.file().to_path_buf() });
        }
        let mut refused = REFUSED.iter().map(|name| self.key(name));
        if let Some(key) = refused.find(|key| self.metadata.get(key).is_some()) {
            return Err(SourceError::Unsupported {
                file: self.input.file().to_path_buf(),
                key,
                value: "anything".to_owned(),
            });
        }
        for (name, neutral) in &NEUTRAL {
            let key = self.key(name);
            let value = match (self.metadata.get(&key), neutral) {
                (None, _) => continue,
                (Some(Value::Bool(x)), Neutral::Bool(same)) if x == *same => continue,
                (Some(Value::Float(x)), Neutral::Number(same)) if x == *same => continue,
                (Some(Value::Bool(x)), _) => x.to_string(),
                (Some(Value::Float(x)), _) => x.to_string(),
                (Some(_), Neutral::Bool(_)) => return Err(wrong(self.input, &key, "a bool")),
                (Some(_), Neutral::Number(_)) => return Err(wrong(self.input, &key, "a float")),
            };
            return Err(SourceError::Unsupported {
                file: self.input.file().to_path_buf(),
                key,
                value,
            });
        }
        Ok(())
    }

    /// Everything but the rope scaling.
    fn dimensions(
        &self,
        family: Family,
        layout: RopeLayout,
        tensors: &BTreeMap<String, FileTensor>,
    ) -> Result<Architecture, SourceError> {
        let model_width = self.required("embedding_length")?;
        let head_count = self.required("attention.head_count")?;
        let head_width = match self.u32("attention.key_length")? {
            Some(width) => width,
            None => model_width.checked_div(head_count).unwrap_or(0),
        };
        let value_width = self.u32("attention.value_length")?;
        if value_width.is_some_and(|width| width != head_width) {
            let key = self.key("attention.value_length");
            return Err(wrong(self.input, &key, "equal to the width of the keys"));
        }
        let epsilon = "attention.layer_norm_rms_epsilon";
        let epsilon = self.float(epsilon)?.ok_or_else(|| missing(self.input, self.key(epsilon)))?;
        let has = |role| tensors.contains_key(&names::of_role(role));
        let embedding = names::of_role(TensorRole::Embedding);
        let Some(embedding) = tensors.get(&embedding) else {
            return Err(SourceError::MissingTensor {
                file: self.input.file().to_path_buf(),
                tensor: embedding,
            });
        };
        // Writers put 0 for "no window".
        let window = self.u32("attention.sliding_window")?.filter(|&n| n != 0);
        Ok(Architecture {
            // Files of both families have one architecture name; only Mistral has windows.
            family: match (family, window) {
                (Family::Llama, Some(_)) => Family::Mistral,
                _ => family,
            },
            // The larger of the possible values is refused by the check of the architecture.
            vocab_count: u32::try_from(embedding.shape[0]).unwrap_or(u32::MAX),
            model_width,
            layer_count: self.required("block_count")?,
            head_count,
            kv_head_count: self.u32("attention.head_count_kv")?.unwrap_or(head_count),
            head_width,
            mlp_width: self.required("feed_forward_length")?,
            context_tokens: self.required("context_length")?,
            norm_epsilon: epsilon as f32,
            rope: Rope {
                theta: self.float("rope.freq_base")?.unwrap_or(THETA_DEFAULT),
                dims: self.u32("rope.dimension_count")?.unwrap_or(head_width),
                layout,
                scaling: RopeScaling::None,
            },
            sliding_window: window,
            tied_embeddings: !has(TensorRole::OutputHead),
            qkv_bias: has(TensorRole::Bias(0, LinearPart::Query)),
            output_bias: has(TensorRole::Bias(0, LinearPart::AttentionOutput)),
            mlp_bias: has(TensorRole::Bias(0, LinearPart::Gate)),
            // With interleaved rotation the order of their elements would not be defined.
            qk_norm: family == Family::Qwen3 && has(TensorRole::Norm(0, NormPart::QueryHead)),
        })
    }
}
