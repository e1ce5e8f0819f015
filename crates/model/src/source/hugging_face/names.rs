//! Tensor names in Hugging Face models of the Llama shape.

use crate::architecture::{LinearPart, NormPart, TensorRole};

/// The name of a tensor.
pub(super) fn of_role(role: TensorRole) -> String {
    match role {
        TensorRole::Embedding => "model.embed_tokens.weight".to_owned(),
        TensorRole::OutputHead => "lm_head.weight".to_owned(),
        TensorRole::FinalNorm => "model.norm.weight".to_owned(),
        TensorRole::Linear(layer, part) => format!("model.layers.{layer}.{}.weight", linear(part)),
        TensorRole::Bias(layer, part) => format!("model.layers.{layer}.{}.bias", linear(part)),
        TensorRole::Norm(layer, part) => format!("model.layers.{layer}.{}.weight", norm(part)),
    }
}

fn linear(part: LinearPart) -> &'static str {
    match part {
        LinearPart::Query => "self_attn.q_proj",
        LinearPart::Key => "self_attn.k_proj",
        LinearPart::Value => "self_attn.v_proj",
        LinearPart::AttentionOutput => "self_attn.o_proj",
        LinearPart::Gate => "mlp.gate_proj",
        LinearPart::Up => "mlp.up_proj",
        LinearPart::Down => "mlp.down_proj",
    }
}

fn norm(part: NormPart) -> &'static str {
    match part {
        NormPart::Attention => "input_layernorm",
        NormPart::QueryHead => "self_attn.q_norm",
        NormPart::KeyHead => "self_attn.k_norm",
        NormPart::Mlp => "post_attention_layernorm",
    }
}

/// Tables of inverse frequencies, which old versions stored and which follow from the settings.
pub(super) fn is_table(name: &str) -> bool {
    let rest = name.strip_prefix("model.layers.");
    let layer = rest.and_then(|rest| rest.strip_suffix(".self_attn.rotary_emb.inv_freq"));
    layer.is_some_and(|layer| layer.bytes().all(|b| b.is_ascii_digit()))
}
