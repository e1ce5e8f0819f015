//! A safetensors file with the weights of a model whose settings are sound.

use shoal_model::source::fuzz;

use super::hf_config::LLAMA;
use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "hf_weights",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let layer = "model.layers.0.";
    let tensors = [
        ("model.embed_tokens.weight".to_owned(), vec![6, 4]),
        ("model.norm.weight".to_owned(), vec![4]),
        (format!("{layer}input_layernorm.weight"), vec![4]),
        (format!("{layer}post_attention_layernorm.weight"), vec![4]),
        (format!("{layer}self_attn.q_proj.weight"), vec![4, 4]),
        (format!("{layer}self_attn.k_proj.weight"), vec![2, 4]),
        (format!("{layer}self_attn.v_proj.weight"), vec![2, 4]),
        (format!("{layer}self_attn.o_proj.weight"), vec![4, 4]),
        (format!("{layer}mlp.gate_proj.weight"), vec![6, 4]),
        (format!("{layer}mlp.up_proj.weight"), vec![6, 4]),
        (format!("{layer}mlp.down_proj.weight"), vec![4, 6]),
    ];
    [("F32", 4), ("BF16", 2)].map(|(kind, size)| file(&tensors, kind, size)).to_vec()
}

fn file(tensors: &[(String, Vec<usize>)], kind: &str, size: usize) -> Vec<u8> {
    let mut header = serde_json::json!({"__metadata__": {"format": "pt"}});
    let mut at = 0;
    for (name, shape) in tensors {
        let end = at + shape.iter().product::<usize>() * size;
        let offsets = [at, end];
        header[name] = serde_json::json!({"dtype": kind, "shape": shape, "data_offsets": offsets});
        at = end;
    }
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &vec![0; at]].concat()
}

fn run(bytes: &[u8]) {
    let _ = fuzz::hugging_face_weights(LLAMA.as_bytes(), bytes);
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds_are_models() {
        for seed in super::seeds() {
            let read = super::fuzz::hugging_face_weights(super::LLAMA.as_bytes(), &seed);
            assert!(read.is_ok(), "{read:?}");
        }
    }
}
