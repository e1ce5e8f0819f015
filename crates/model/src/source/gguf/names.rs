//! Tensor names in GGUF files.

use crate::architecture::{LinearPart, NormPart, TensorRole};

/// The tensor of scaling factors, one per rotated pair.
pub(super) const ROPE_FACTORS: &str = "rope_freqs.weight";

/// The name of a tensor.
pub(super) fn of_role(role: TensorRole) -> String {
    match role {
        TensorRole::Embedding => "token_embd.weight".to_owned(),
        TensorRole::OutputHead => "output.weight".to_owned(),
        TensorRole::FinalNorm => "output_norm.weight".to_owned(),
        TensorRole::Linear(layer, part) => format!("blk.{layer}.{}.weight", linear(part)),
        TensorRole::Bias(layer, part) => format!("blk.{layer}.{}.bias", linear(part)),
        TensorRole::Norm(layer, part) => format!("blk.{layer}.{}.weight", norm(part)),
    }
}

fn linear(part: LinearPart) -> &'static str {
    match part {
        LinearPart::Query => "attn_q",
        LinearPart::Key => "attn_k",
        LinearPart::Value => "attn_v",
        LinearPart::AttentionOutput => "attn_output",
        LinearPart::Gate => "ffn_gate",
        LinearPart::Up => "ffn_up",
        LinearPart::Down => "ffn_down",
    }
}

fn norm(part: NormPart) -> &'static str {
    match part {
        NormPart::Attention => "attn_norm",
        NormPart::QueryHead => "attn_q_norm",
        NormPart::KeyHead => "attn_k_norm",
        NormPart::Mlp => "ffn_norm",
    }
}

/// Tensors that follow from the settings: the factors (read into the rope scaling) and the tables
/// of inverse frequencies that old converters kept.
pub(super) fn is_harmless(name: &str) -> bool {
    let table = |rest: &str| {
        let layer = rest.strip_suffix(".attn_rot_embd.weight");
        layer.is_some_and(|layer| layer.bytes().all(|b| b.is_ascii_digit()))
    };
    name == ROPE_FACTORS || name.strip_prefix("blk.").is_some_and(table)
}
