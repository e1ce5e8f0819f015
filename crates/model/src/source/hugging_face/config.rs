//! From `config.json` to an [`Architecture`].
//!
//! Only settings that change the computation are read; those that the engine does not know are
//! refused, the others are passed over. Where a setting is absent, the default is the one of the
//! class that the file names.

use serde::Deserialize;

use super::super::{Input, SourceError, limits};
use super::bounded::Bounded;
use super::rope::{self, RopeSettings};
use crate::architecture::{Architecture, Family, Rope, RopeLayout};

const ACCEPTED: &str = "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM";
/// Defaults of the classes.
const EPSILON_DEFAULT: f64 = 1e-6;
const QWEN3_HEAD_WIDTH_DEFAULT: u32 = 128;
const MISTRAL_WINDOW_DEFAULT: u32 = 4096;
const QWEN_FULL_LAYERS_DEFAULT: u32 = 28;
/// A file names one class; more are shown when they are refused.
const CLASS_COUNT_MAX: usize = 16;
/// Layers of the deepest architecture that is accepted.
const LAYER_COUNT_MAX: usize = 1024;
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

/// What is read of `config.json`. An explicit `null` is the same as an absent key, except for the
/// window, where it means "none" and absence means the default of the class.
#[derive(Deserialize)]
pub(super) struct Config {
    architectures: Option<Bounded<String, CLASS_COUNT_MAX>>,
    quantization_config: Option<serde::de::IgnoredAny>,
    auto_map: Option<serde::de::IgnoredAny>,
    hidden_act: Option<String>,
    vocab_size: Option<u32>,
    hidden_size: Option<u32>,
    intermediate_size: Option<u32>,
    num_hidden_layers: Option<u32>,
    num_attention_heads: Option<u32>,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    pub(super) max_position_embeddings: Option<u32>,
    rms_norm_eps: Option<f64>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_scaling: Option<RopeSettings>,
    pub(super) rope_parameters: Option<RopeSettings>,
    pub(super) partial_rotary_factor: Option<f64>,
    #[serde(default, deserialize_with = "present")]
    sliding_window: Option<Option<u32>>,
    use_sliding_window: Option<bool>,
    max_window_layers: Option<u32>,
    layer_types: Option<Bounded<String, LAYER_COUNT_MAX>>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
}

/// Tells an explicit `null` from an absent key.
fn present<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<u32>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The architecture that a `config.json` describes.
pub(in super::super) fn read(input: &Input) -> Result<Architecture, SourceError> {
    let bytes = input.read_all(limits::CONFIG_BYTES_MAX)?;
    let config: Config = serde_json::from_slice(&bytes)
        .map_err(|source| SourceError::Json { file: input.file().to_path_buf(), source })?;
    let reader = Reader { input, config: &config };
    let architecture = reader.architecture()?;
    let check = architecture.check();
    check
        .map_err(|source| SourceError::Architecture { file: input.file().to_path_buf(), source })?;
    Ok(architecture)
}

/// A configuration and the file that errors name.
pub(super) struct Reader<'a> {
    pub(super) input: &'a Input,
    pub(super) config: &'a Config,
}

impl Reader<'_> {
    pub(super) fn required<T>(&self, key: &str, value: Option<T>) -> Result<T, SourceError> {
        value.ok_or_else(|| SourceError::MissingKey {
            file: self.input.file().to_path_buf(),
            key: key.to_owned(),
        })
    }

    pub(super) fn unsupported(&self, key: &str, value: String) -> SourceError {
        SourceError::Unsupported {
            file: self.input.file().to_path_buf(),
            key: key.to_owned(),
            value,
        }
    }

    fn architecture(&self) -> Result<Architecture, SourceError> {
        let config = self.config;
        let family = self.family()?;
        if config.quantization_config.is_some() {
            return Err(self.unsupported("quantization_config", "a quantised model".to_owned()));
        }
        if config.auto_map.is_some() {
            return Err(self.unsupported("auto_map", "code from the folder".to_owned()));
        }
        match config.hidden_act.as_deref() {
            None | Some("silu" | "swish") => {}
            Some(other) => return Err(self.unsupported("hidden_act", format!("{other:?}"))),
        }
        let model_width = self.required("hidden_size", config.hidden_size)?;
        let head_count = self.required("num_attention_heads", config.num_attention_heads)?;
        let kv_head_count = match (config.num_key_value_heads, family) {
            (Some(count), _) => count,
            // Llama 1 and 2 files do not have the key; the other families always do.
            (None, Family::Llama) => head_count,
            (None, _) => self.required("num_key_value_heads", None)?,
        };
        let head_width = match (config.head_dim, family) {
            (Some(width), _) => width,
            (None, Family::Qwen3) => QWEN3_HEAD_WIDTH_DEFAULT,
            (None, _) => model_width.checked_div(head_count).unwrap_or(0),
        };
        let context_tokens =
            self.required("max_position_embeddings", config.max_position_embeddings)?;
        let layer_count = self.required("num_hidden_layers", config.num_hidden_layers)?;
        // The other classes do not look at these keys.
        let attention_bias = matches!(family, Family::Llama | Family::Qwen3)
            && config.attention_bias.unwrap_or(false);
        Ok(Architecture {
            family,
            vocab_count: self.required("vocab_size", config.vocab_size)?,
            model_width,
            layer_count,
            head_count,
            kv_head_count,
            head_width,
            mlp_width: self.required("intermediate_size", config.intermediate_size)?,
            context_tokens,
            norm_epsilon: config.rms_norm_eps.unwrap_or(EPSILON_DEFAULT) as f32,
            rope: Rope {
                theta: rope::theta(self)?,
                dims: rope::dims(self, head_width)?,
                layout: RopeLayout::Half,
                scaling: rope::scaling(self, context_tokens)?,
            },
            sliding_window: self.sliding_window(family, layer_count)?,
            tied_embeddings: config.tie_word_embeddings.unwrap_or(false),
            qkv_bias: family == Family::Qwen2 || attention_bias,
            output_bias: attention_bias,
            mlp_bias: family == Family::Llama && config.mlp_bias.unwrap_or(false),
            qk_norm: family == Family::Qwen3,
        })
    }

    fn family(&self) -> Result<Family, SourceError> {
        let names = self.config.architectures.as_ref();
        let names = &self.required("architectures", names)?.0;
        match names.as_slice() {
            [name] if name == "LlamaForCausalLM" => Ok(Family::Llama),
            [name] if name == "MistralForCausalLM" => Ok(Family::Mistral),
            [name] if name == "Qwen2ForCausalLM" => Ok(Family::Qwen2),
            [name] if name == "Qwen3ForCausalLM" => Ok(Family::Qwen3),
            _ => Err(SourceError::UnknownArchitecture {
                file: self.input.file().to_path_buf(),
                name: names.join(", "),
                accepted: ACCEPTED,
            }),
        }
    }

    /// The window of all layers. Layers of two kinds are refused.
    fn sliding_window(&self, family: Family, layer_count: u32) -> Result<Option<u32>, SourceError> {
        let config = self.config;
        let window = match (config.sliding_window, family) {
            (_, Family::Llama) => None,
            (None, Family::Mistral) => Some(MISTRAL_WINDOW_DEFAULT),
            (window, Family::Mistral) => window.flatten(),
            // The Qwen classes look at the window only when this is set.
            (window, Family::Qwen2 | Family::Qwen3) => {
                let used = config.use_sliding_window.unwrap_or(false);
                window.flatten().filter(|_| used)
            }
        };
        if let Some(Bounded(types)) = &config.layer_types {
            let all = |kind: &str| types.iter().all(|layer| layer == kind);
            return match window {
                _ if all(FULL) => Ok(None),
                Some(_) if all(SLIDING) => Ok(window),
                _ => Err(self.unsupported(
                    "layer_types",
                    "sliding attention in some layers, or without a window".to_owned(),
                )),
            };
        }
        if window.is_none() || family == Family::Mistral {
            return Ok(window);
        }
        // Layers from this one on have the window.
        match config.max_window_layers.unwrap_or(QWEN_FULL_LAYERS_DEFAULT) {
            0 => Ok(window),
            full if full >= layer_count => Ok(None),
            full => Err(self.unsupported("max_window_layers", full.to_string())),
        }
    }
}
