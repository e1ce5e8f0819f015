//! What a model looks like in a GGUF file: metadata, tensors and the order of rows.

use super::super::{ElementType, GgufVocabulary};
use super::names;
use super::rope::factors;
use super::writer::{GgufWriteError, MetadataValue, TensorPlan};
use crate::architecture::{Architecture, Family, LinearPart, RopeLayout, RopeScaling, TensorRole};

/// File types as other programs show them.
const FILE_TYPE_F32: u32 = 0;
const FILE_TYPE_F16: u32 = 1;

fn prefix(family: Family) -> &'static str {
    match family {
        Family::Llama | Family::Mistral => "llama",
        Family::Qwen2 => "qwen2",
        Family::Qwen3 => "qwen3",
    }
}

/// The metadata of a model. `weights` is the format of its matrices.
///
/// # Errors
/// [`GgufWriteError::Plan`] when readers of GGUF would compute something else.
pub fn export_metadata(
    name: &str,
    architecture: &Architecture,
    weights: ElementType,
    vocabulary: &GgufVocabulary,
    chat_template: Option<&str>,
) -> Result<Vec<(String, MetadataValue)>, GgufWriteError> {
    check(architecture)?;
    let mut entries = architecture_entries(name, architecture, weights);
    entries.extend(vocabulary_entries(vocabulary));
    if let Some(template) = chat_template {
        let value = MetadataValue::Text(template.to_owned());
        entries.push(("tokenizer.chat_template".to_owned(), value));
    }
    Ok(entries)
}

fn check(architecture: &Architecture) -> Result<(), GgufWriteError> {
    let llama = prefix(architecture.family) == "llama";
    let half = architecture.rope.layout == RopeLayout::Half;
    let rules = [
        (llama || half, "rope.layout", "qwen2 and qwen3 rotate halves"),
        (
            architecture.qk_norm == (architecture.family == Family::Qwen3),
            "qk_norm",
            "qwen3 has norms on heads, the others have none",
        ),
    ];
    match rules.into_iter().find(|(holds, ..)| !holds) {
        Some((_, name, rule)) => Err(GgufWriteError::Plan { name: name.to_owned(), rule }),
        None => Ok(()),
    }
}

fn architecture_entries(
    name: &str,
    architecture: &Architecture,
    weights: ElementType,
) -> Vec<(String, MetadataValue)> {
    use MetadataValue::{F32, Text, U32};
    let a = architecture;
    let prefix = prefix(a.family);
    let file_type = match weights {
        ElementType::F16 => FILE_TYPE_F16,
        _ => FILE_TYPE_F32,
    };
    let mut entries = vec![
        ("general.architecture".to_owned(), Text(prefix.to_owned())),
        ("general.name".to_owned(), Text(name.to_owned())),
        ("general.file_type".to_owned(), U32(file_type)),
    ];
    let mut put = |key: &str, value| entries.push((format!("{prefix}.{key}"), value));
    put("vocab_size", U32(a.vocab_count));
    put("context_length", U32(a.context_tokens));
    put("embedding_length", U32(a.model_width));
    put("block_count", U32(a.layer_count));
    put("feed_forward_length", U32(a.mlp_width));
    put("attention.head_count", U32(a.head_count));
    put("attention.head_count_kv", U32(a.kv_head_count));
    put("attention.key_length", U32(a.head_width));
    put("attention.value_length", U32(a.head_width));
    put("attention.layer_norm_rms_epsilon", F32(a.norm_epsilon));
    if let Some(window) = a.sliding_window {
        put("attention.sliding_window", U32(window));
    }
    put("rope.dimension_count", U32(a.rope.dims));
    put("rope.freq_base", F32(a.rope.theta as f32));
    match a.rope.scaling {
        // Llama 3 scaling is a tensor.
        RopeScaling::None | RopeScaling::Llama3 { .. } => {}
        RopeScaling::Linear { factor } => {
            put("rope.scaling.type", Text("linear".to_owned()));
            put("rope.scaling.factor", F32(factor as f32));
        }
        RopeScaling::Yarn { factor, beta_fast, beta_slow, attention_factor, original_context } => {
            put("rope.scaling.type", Text("yarn".to_owned()));
            put("rope.scaling.factor", F32(factor as f32));
            put("rope.scaling.original_context_length", U32(original_context));
            put("rope.scaling.yarn_beta_fast", F32(beta_fast as f32));
            put("rope.scaling.yarn_beta_slow", F32(beta_slow as f32));
            let relative = attention_factor / (0.1 * factor.ln() + 1.0);
            put("rope.scaling.attn_factor", F32(relative as f32));
        }
    }
    entries
}

fn vocabulary_entries(vocabulary: &GgufVocabulary) -> Vec<(String, MetadataValue)> {
    use MetadataValue::{Bool, F32s, I32s, Text, Texts, U8s, U32};
    let v = vocabulary;
    let mut entries = Vec::new();
    let mut put = |key: &str, value: Option<MetadataValue>| {
        entries.extend(value.map(|value| (format!("tokenizer.ggml.{key}"), value)));
    };
    put("model", Some(Text(v.model.clone())));
    put("pre", v.pre.clone().map(Text));
    put("tokens", Some(Texts(v.tokens.clone())));
    put("scores", (!v.scores.is_empty()).then(|| F32s(v.scores.clone())));
    put("token_type", (!v.types.is_empty()).then(|| I32s(v.types.clone())));
    put("merges", (!v.merges.is_empty()).then(|| Texts(v.merges.clone())));
    put("bos_token_id", v.bos_id.map(U32));
    put("eos_token_id", v.eos_id.map(U32));
    put("eot_token_id", v.eot_id.map(U32));
    put("eom_token_id", v.eom_id.map(U32));
    put("unknown_token_id", v.unknown_id.map(U32));
    put("seperator_token_id", v.separator_id.map(U32));
    put("padding_token_id", v.padding_id.map(U32));
    put("add_bos_token", v.add_bos.map(Bool));
    put("add_eos_token", v.add_eos.map(Bool));
    put("add_space_prefix", v.add_space_prefix.map(Bool));
    put("remove_extra_whitespaces", v.remove_extra_whitespaces.map(Bool));
    put("precompiled_charsmap", v.precompiled_charsmap.clone().map(U8s));
    entries
}

/// A tensor to be written and where its rows come from.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportTensor {
    /// What the file says of it.
    pub plan: TensorPlan,
    /// Its rows.
    pub rows: ExportRows,
}

/// Where the rows of a tensor come from.
#[derive(Clone, Debug, PartialEq)]
pub enum ExportRows {
    /// From the model, in the order that [`export_row`] gives.
    Model(TensorRole),
    /// From the settings: these values are its only row.
    Values(Vec<f32>),
}

/// The tensors of a model in the order in which their rows are written. Matrices are in the format
/// `weights`, norms, biases and scaling factors in F32.
#[must_use]
pub fn export_tensors(architecture: &Architecture, weights: ElementType) -> Vec<ExportTensor> {
    let of_model = |(role, (rows, columns))| ExportTensor {
        plan: TensorPlan {
            name: names::of_role(role),
            rows,
            columns,
            element: match role {
                TensorRole::Embedding | TensorRole::OutputHead | TensorRole::Linear(..) => weights,
                TensorRole::FinalNorm | TensorRole::Bias(..) | TensorRole::Norm(..) => {
                    ElementType::F32
                }
            },
        },
        rows: ExportRows::Model(role),
    };
    let rope = &architecture.rope;
    let factors = factors(rope.scaling, rope.theta, rope.dims).map(|factors| ExportTensor {
        plan: TensorPlan {
            name: names::ROPE_FACTORS.to_owned(),
            rows: 1,
            columns: factors.len(),
            element: ElementType::F32,
        },
        rows: ExportRows::Values(factors),
    });
    architecture.tensors().map(of_model).chain(factors).collect()
}

/// Which row of our tensor is row `row` of the tensor in the file; for a bias, which element.
///
/// Files of the `llama` architecture rotate elements 2i and 2i + 1 of a head. A model that rotates
/// i and i + dims/2 has its query and key rows reordered in them, so that the same elements meet.
#[must_use]
pub fn export_row(architecture: &Architecture, role: TensorRole, row: usize) -> usize {
    let reordered = matches!(
        role,
        TensorRole::Linear(_, LinearPart::Query | LinearPart::Key)
            | TensorRole::Bias(_, LinearPart::Query | LinearPart::Key)
    );
    let rope = &architecture.rope;
    let llama = prefix(architecture.family) == "llama";
    let (width, dims) = (architecture.head_width as usize, rope.dims as usize);
    let (head, element) = (row / width, row % width);
    if !reordered || !llama || rope.layout == RopeLayout::Interleaved || element >= dims {
        return row;
    }
    head * width + element / 2 + element % 2 * (dims / 2)
}
