//! JSON to `Architecture`. What passes `check` has bounded shapes and reads back as it was.

use shoal_model::Architecture;

use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "architecture",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

/// Two models as a manifest describes them.
const LLAMA: &str = r#"{"family":"llama","vocab_count":512,"model_width":64,"layer_count":5,
"head_count":8,"kv_head_count":4,"head_width":8,"mlp_width":172,"context_tokens":512,
"norm_epsilon":1e-5,"rope":{"theta":10000.0,"dims":8,"layout":"interleaved",
"scaling":{"kind":"none"}},"sliding_window":null,"tied_embeddings":true,"qkv_bias":false,
"output_bias":false,"mlp_bias":false,"qk_norm":false}"#;
const QWEN3: &str = r#"{"family":"qwen3","vocab_count":151936,"model_width":1024,"layer_count":28,
"head_count":16,"kv_head_count":8,"head_width":128,"mlp_width":3072,"context_tokens":40960,
"norm_epsilon":1e-6,"rope":{"theta":1000000.0,"dims":128,"layout":"half","scaling":{"kind":"yarn",
"factor":4.0,"beta_fast":32.0,"beta_slow":1.0,"attention_factor":1.1,"original_context":32768}},
"sliding_window":4096,"tied_embeddings":false,"qkv_bias":true,"output_bias":true,"mlp_bias":true,
"qk_norm":true}"#;

fn seeds() -> Vec<Vec<u8>> {
    vec![LLAMA.into(), QWEN3.into()]
}

fn run(bytes: &[u8]) {
    let Ok(architecture) = serde_json::from_slice::<Architecture>(bytes) else {
        return;
    };
    if architecture.check().is_err() {
        return;
    }
    let elements = |(rows, columns): (usize, usize)| rows.checked_mul(columns);
    for (role, shape) in architecture.tensors() {
        assert!(elements(shape).is_some_and(|count| count > 0), "{role:?}: {shape:?}");
    }
    let text = serde_json::to_vec(&architecture).expect("an architecture has a JSON form");
    let again: Architecture = serde_json::from_slice(&text).expect("what was written is read");
    assert_eq!(again, architecture);
}
