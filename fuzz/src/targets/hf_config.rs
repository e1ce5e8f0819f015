//! `config.json` of a Hugging Face folder.

use shoal_model::source::fuzz;

use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "hf_config",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

/// A model that [`super::hf_weights`] has the weights of.
pub(super) const LLAMA: &str = r#"{"architectures":["LlamaForCausalLM"],"hidden_act":"silu",
"vocab_size":6,"hidden_size":4,"intermediate_size":6,"num_hidden_layers":1,
"num_attention_heads":2,"num_key_value_heads":1,"head_dim":2,"max_position_embeddings":64,
"rms_norm_eps":1e-05,"rope_theta":10000.0,"tie_word_embeddings":true}"#;
const QWEN: &str = r#"{"architectures":["Qwen2ForCausalLM"],"hidden_act":"silu",
"vocab_size":151936,"hidden_size":896,"intermediate_size":4864,"num_hidden_layers":24,
"num_attention_heads":14,"num_key_value_heads":2,"max_position_embeddings":32768,
"rms_norm_eps":1e-06,"rope_theta":1000000.0,"use_sliding_window":false,"sliding_window":32768,
"rope_scaling":{"type":"yarn","factor":4.0,"original_max_position_embeddings":32768},
"tie_word_embeddings":true,"torch_dtype":"bfloat16"}"#;
const LLAMA3: &str = r#"{"architectures":["LlamaForCausalLM"],"attention_bias":false,
"hidden_act":"silu","vocab_size":128256,"hidden_size":2048,"intermediate_size":8192,
"num_hidden_layers":16,"num_attention_heads":32,"num_key_value_heads":8,"head_dim":64,
"max_position_embeddings":131072,"mlp_bias":false,"rms_norm_eps":1e-05,"rope_theta":500000.0,
"rope_scaling":{"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,
"original_max_position_embeddings":8192,"rope_type":"llama3"},"tie_word_embeddings":true}"#;

fn seeds() -> Vec<Vec<u8>> {
    vec![LLAMA.into(), QWEN.into(), LLAMA3.into()]
}

fn run(bytes: &[u8]) {
    let _ = fuzz::hugging_face_config(bytes);
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds_are_settings() {
        for seed in super::seeds() {
            let read = super::fuzz::hugging_face_config(&seed);
            assert!(read.is_ok(), "{read:?}");
        }
    }
}
