//! Hugging Face folders, written here without the crate.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shoal_model::source::hugging_face::Folder;
use shoal_model::source::{SourceError, TokenizerFiles, WeightSource, open_folder};
use shoal_model::{
    Architecture, Family, LinearPart, NormPart, RopeLayout, RopeScaling, TensorRole,
};

use crate::support::{assert_weights, f32_bytes, tiny, weights};

/// Files of a folder by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

fn name(role: TensorRole) -> String {
    let linear = |part| match part {
        LinearPart::Query => "self_attn.q_proj",
        LinearPart::Key => "self_attn.k_proj",
        LinearPart::Value => "self_attn.v_proj",
        LinearPart::AttentionOutput => "self_attn.o_proj",
        LinearPart::Gate => "mlp.gate_proj",
        LinearPart::Up => "mlp.up_proj",
        LinearPart::Down => "mlp.down_proj",
    };
    match role {
        TensorRole::Embedding => "model.embed_tokens.weight".to_owned(),
        TensorRole::OutputHead => "lm_head.weight".to_owned(),
        TensorRole::FinalNorm => "model.norm.weight".to_owned(),
        TensorRole::Linear(layer, part) => format!("model.layers.{layer}.{}.weight", linear(part)),
        TensorRole::Bias(layer, part) => format!("model.layers.{layer}.{}.bias", linear(part)),
        TensorRole::Norm(layer, part) => {
            let norm = match part {
                NormPart::Attention => "input_layernorm",
                NormPart::Mlp => "post_attention_layernorm",
                NormPart::QueryHead => "self_attn.q_norm",
                NormPart::KeyHead => "self_attn.k_norm",
            };
            format!("model.layers.{layer}.{norm}.weight")
        }
    }
}

pub(crate) fn config(a: &Architecture) -> Value {
    let class = match a.family {
        Family::Llama => "LlamaForCausalLM",
        Family::Mistral => "MistralForCausalLM",
        Family::Qwen2 => "Qwen2ForCausalLM",
        Family::Qwen3 => "Qwen3ForCausalLM",
    };
    json!({
        "architectures": [class],
        "hidden_act": "silu",
        "vocab_size": a.vocab_count,
        "hidden_size": a.model_width,
        "intermediate_size": a.mlp_width,
        "num_hidden_layers": a.layer_count,
        "num_attention_heads": a.head_count,
        "num_key_value_heads": a.kv_head_count,
        "head_dim": a.head_width,
        "max_position_embeddings": a.context_tokens,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "sliding_window": a.sliding_window,
        "tie_word_embeddings": a.tied_embeddings,
    })
}

/// Name, dtype, shape, bytes.
type Tensor = (String, String, Vec<u64>, Vec<u8>);

fn tensors(a: &Architecture) -> Vec<Tensor> {
    let tensor = |(role, (rows, columns)): (TensorRole, (usize, usize))| {
        let shape = match rows {
            1 => vec![columns as u64],
            _ => vec![rows as u64, columns as u64],
        };
        let bytes = f32_bytes(&weights(role, (rows, columns)));
        (name(role), "F32".to_owned(), shape, bytes)
    };
    a.tensors().map(tensor).collect()
}

pub(crate) fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let mut header = json!({"__metadata__": {"format": "pt"}});
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let start = data.len();
        data.extend(bytes);
        header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [start, data.len()]});
    }
    with_header(&header.to_string(), &data)
}

fn with_header(header: &str, data: &[u8]) -> Vec<u8> {
    let len = (header.len() as u64).to_le_bytes();
    [len.as_slice(), header.as_bytes(), data].concat()
}

/// A whole folder.
pub(crate) fn folder(a: &Architecture) -> Files {
    [
        ("config.json", config(a).to_string().into_bytes()),
        ("model.safetensors", safetensors(&tensors(a))),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

fn open(files: Files) -> Result<Box<dyn WeightSource>, SourceError> {
    open_folder(Folder::in_memory(files))
}

fn llama() -> Architecture {
    tiny(Family::Llama, RopeLayout::Half)
}

/// The architecture of a configuration with keys changed; `null` of the test removes a key.
fn architecture_with(family: Family, changes: Value) -> Result<Architecture, SourceError> {
    let mut architecture = tiny(family, RopeLayout::Half);
    let mut config = config(&architecture);
    config["sliding_window"] = Value::Null;
    for (key, value) in changes.as_object().expect("an object of changes") {
        match value.as_str() {
            Some("absent") => drop(config.as_object_mut().unwrap().remove(key)),
            _ => config[key] = value.clone(),
        }
    }
    // Tensors follow the settings that add some.
    let truth = |key: &str| config.get(key) == Some(&Value::Bool(true));
    let has_output_bias = matches!(family, Family::Llama | Family::Qwen3);
    architecture.qkv_bias |= has_output_bias && truth("attention_bias");
    architecture.output_bias = has_output_bias && truth("attention_bias");
    architecture.mlp_bias = family == Family::Llama && truth("mlp_bias");
    if let Some(width) = config["head_dim"].as_u64() {
        architecture.head_width = width as u32;
    }
    let mut files = folder(&architecture);
    files.insert("config.json".to_owned(), config.to_string().into_bytes());
    Ok(open(files)?.architecture().clone())
}

fn refusal(family: Family, changes: Value) -> String {
    architecture_with(family, changes).unwrap_err().to_string()
}

#[test]
fn each_family_keeps_its_architecture_and_weights() {
    for family in [Family::Llama, Family::Mistral, Family::Qwen2, Family::Qwen3] {
        let mut architecture = tiny(family, RopeLayout::Half);
        if family == Family::Mistral {
            architecture.sliding_window = Some(32);
        }
        let source = open(folder(&architecture)).unwrap();
        assert_eq!(source.architecture(), &architecture);
        assert_weights(source.as_ref());
    }
}

#[test]
fn half_formats_are_read() {
    let mut all = tensors(&llama());
    for (_, dtype, _, bytes) in &mut all {
        // Weights of k/128 are exact in bfloat16.
        let upper = bytes.as_chunks::<4>().0.iter().flat_map(|b| [b[2], b[3]]);
        *bytes = upper.collect();
        *dtype = "BF16".to_owned();
    }
    // And one tensor of ones in binary16.
    let (name, dtype, _, bytes) = &mut all[1];
    assert_eq!(name, "model.layers.0.input_layernorm.weight");
    *dtype = "F16".to_owned();
    *bytes = [0x00, 0x3c].repeat(12);
    let mut files = folder(&llama());
    files.insert("model.safetensors".to_owned(), safetensors(&all));
    let source = open(files).unwrap();
    let mut row = vec![0.0; 12];
    let norm = TensorRole::Norm(0, NormPart::Attention);
    source.read_rows(norm, 0, &mut row).unwrap();
    assert_eq!(row, [1.0; 12]);
    source.read_rows(TensorRole::Embedding, 3, &mut row).unwrap();
    assert_eq!(row, weights(TensorRole::Embedding, (11, 12))[36..48]);
    assert_eq!(source.source_bits_per_weight(), 16.0);
}

#[test]
fn tied_models_are_stored_with_either_name_or_both() {
    let mut architecture = llama();
    architecture.tied_embeddings = true;
    let mut renamed = tensors(&architecture);
    renamed[0].0 = "lm_head.weight".to_owned();
    let mut both = tensors(&architecture);
    let mut copy = both[0].clone();
    copy.0 = "lm_head.weight".to_owned();
    both.push(copy);
    let mut files = folder(&architecture);
    for (all, ignored) in
        [(tensors(&architecture), vec![]), (renamed, vec![]), (both, vec!["lm_head.weight"])]
    {
        files.insert("model.safetensors".to_owned(), safetensors(&all));
        let source = open(files.clone()).unwrap();
        assert_eq!(source.architecture(), &architecture);
        assert_eq!(source.ignored_tensors(), ignored);
        assert_weights(source.as_ref());
    }
    // Without "tied" the head may not be missing.
    architecture.tied_embeddings = false;
    files.extend([("config.json".to_owned(), config(&architecture).to_string().into())]);
    files.insert("model.safetensors".to_owned(), safetensors(&tensors(&architecture)[..20]));
    assert!(matches!(open(files), Err(SourceError::MissingTensor { .. })));
}

/// A folder with an index and two shards.
fn sharded() -> Files {
    let all = tensors(&llama());
    let (first, second) = all.split_at(9);
    let mut map = serde_json::Map::new();
    for (part, file) in [(first, "model-1.safetensors"), (second, "model-2.safetensors")] {
        map.extend(part.iter().map(|(name, ..)| (name.clone(), json!(file))));
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    let mut files = folder(&llama());
    files.remove("model.safetensors");
    files.extend([
        ("model-1.safetensors".to_owned(), safetensors(first)),
        ("model-2.safetensors".to_owned(), safetensors(second)),
        ("model.safetensors.index.json".to_owned(), index.to_string().into()),
    ]);
    files
}

#[test]
fn shards_are_one_model_with_and_without_an_index() {
    let mut files = sharded();
    assert_weights(open(files.clone()).unwrap().as_ref());
    files.remove("model.safetensors.index.json");
    assert_weights(open(files).unwrap().as_ref());
}

#[test]
fn an_index_that_lies_is_refused() {
    let refusal = |from: &str, to: &str| {
        let mut files = sharded();
        let index = files.get_mut("model.safetensors.index.json").unwrap();
        let text = String::from_utf8(index.clone()).unwrap();
        assert!(text.contains(from));
        *index = text.replacen(from, to, 1).into_bytes();
        open(files).unwrap_err()
    };
    let shard = "a shard is a *.safetensors file in the same folder";
    for outside in ["../model-1.safetensors", "/etc/passwd", "a\\\\b.safetensors"] {
        let error = refusal("model-1.safetensors", outside).to_string();
        assert!(error.ends_with(shard), "{error}");
    }
    let error = refusal("model-1.safetensors", "model-3.safetensors");
    assert!(
        matches!(error, SourceError::MissingFile { name, .. } if name == "model-3.safetensors")
    );
    let error = refusal("model-1.safetensors", "model-2.safetensors");
    let embedding = "model.embed_tokens.weight";
    assert!(matches!(error, SourceError::MissingTensor { tensor, .. } if tensor == embedding));
    let error = refusal("model.norm.weight", "model.norms.weight");
    assert!(matches!(error, SourceError::MissingTensor { .. }));
    let error = refusal("model.norm.weight", embedding).to_string();
    assert!(error.contains("\"model.embed_tokens.weight\" occurs twice"), "{error}");

    let mut files = sharded();
    let first = files["model-1.safetensors"].clone();
    files.insert("model-2.safetensors".to_owned(), first);
    files.remove("model.safetensors.index.json");
    assert!(matches!(open(files), Err(SourceError::Duplicate { .. })));
}

#[test]
fn missing_files_are_named() {
    let missing = |file: &str| {
        let mut files = folder(&llama());
        files.remove(file);
        open(files).unwrap_err().to_string()
    };
    assert!(missing("config.json").ends_with("config.json is missing"));
    let weights = "model.safetensors or model.safetensors.index.json is missing";
    assert!(missing("model.safetensors").ends_with(weights));
    let source = open(folder(&llama())).unwrap();
    let tokenizer = source.tokenizer_files().unwrap_err().to_string();
    assert!(tokenizer.ends_with("tokenizer.json or tokenizer.model is missing"));
}

#[test]
fn settings_of_each_class_are_understood() {
    let of = |family, changes| architecture_with(family, changes).unwrap();
    let llama =
        of(Family::Llama, json!({"attention_bias": true, "mlp_bias": true, "sliding_window": 8}));
    assert!(llama.qkv_bias && llama.output_bias && llama.mlp_bias);
    assert_eq!(llama.sliding_window, None);
    let qwen3 = of(Family::Qwen3, json!({"attention_bias": true, "mlp_bias": true}));
    assert!(qwen3.qkv_bias && qwen3.output_bias && !qwen3.mlp_bias);
    let qwen2 = of(Family::Qwen2, json!({"attention_bias": false}));
    assert!(qwen2.qkv_bias && !qwen2.output_bias);
    let old = json!({
        "rms_norm_eps": "absent", "rope_theta": "absent", "tie_word_embeddings": "absent",
        "hidden_act": "absent",
    });
    let old = of(Family::Llama, old);
    assert_eq!(old.norm_epsilon, 1e-6);
    assert_eq!(old.rope.theta, 10_000.0);
    assert!(!old.tied_embeddings);
    let partial = of(Family::Llama, json!({"partial_rotary_factor": 0.5}));
    assert_eq!(partial.rope.dims, 2);
}

#[test]
fn windows_of_each_class_are_understood() {
    let window = |family, changes| architecture_with(family, changes).unwrap().sliding_window;
    assert_eq!(window(Family::Mistral, json!({"sliding_window": null})), None);
    assert_eq!(window(Family::Mistral, json!({"sliding_window": 9})), Some(9));
    let absent = json!({"sliding_window": "absent"});
    assert_eq!(window(Family::Mistral, absent), Some(4096));
    for family in [Family::Qwen2, Family::Qwen3] {
        let of = |used, first: u32| {
            window(
                family,
                json!({
                    "sliding_window": 9, "use_sliding_window": used, "max_window_layers": first
                }),
            )
        };
        assert_eq!(of(false, 0), None);
        assert_eq!(of(true, 0), Some(9));
        assert_eq!(of(true, 2), None);
        let mixed = json!({
            "sliding_window": 9, "use_sliding_window": true, "max_window_layers": 1
        });
        assert!(refusal(family, mixed).ends_with("max_window_layers = 1 is not supported"));
    }
    let (full, sliding) = ("full_attention", "sliding_attention");
    let types = |types: [&str; 2]| {
        let changes = json!({"sliding_window": 9, "layer_types": types});
        architecture_with(Family::Mistral, changes).map(|a| a.sliding_window)
    };
    assert_eq!(types([full, full]).unwrap(), None);
    assert_eq!(types([sliding, sliding]).unwrap(), Some(9));
    let mixed = types([full, sliding]).unwrap_err().to_string();
    assert!(mixed.ends_with(
        "layer_types = sliding attention in some layers, or without a window is not supported"
    ));
}

#[test]
fn rope_scaling_is_understood_in_old_and_new_form() {
    let of = |changes| architecture_with(Family::Llama, changes).unwrap().rope;
    let linear = RopeScaling::Linear { factor: 4.0 };
    let old = of(json!({"rope_scaling": {"type": "linear", "factor": 4.0}}));
    assert_eq!(old.scaling, linear);
    let new = of(json!({
        "rope_theta": "absent",
        "rope_parameters": {
            "rope_type": "linear", "factor": 4.0, "rope_theta": 1e6, "partial_rotary_factor": 0.5
        },
    }));
    assert_eq!((new.scaling, new.theta, new.dims), (linear, 1e6, 2));
    let default = of(json!({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}));
    assert_eq!((default.scaling, default.theta), (RopeScaling::None, 5e5));
    let llama3 = of(json!({"rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192
    }}));
    let expected = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192,
    };
    assert_eq!(llama3.scaling, expected);
    let yarn = |extra: Value| {
        let mut settings = json!({"type": "yarn", "factor": 4.0});
        settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let RopeScaling::Yarn { attention_factor, original_context, .. } =
            of(json!({"rope_scaling": settings})).scaling
        else {
            panic!("yarn");
        };
        (attention_factor, original_context)
    };
    let usual = 0.1 * 4f64.ln() + 1.0;
    assert_eq!(yarn(json!({})), (usual, 64));
    let original = json!({"original_max_position_embeddings": 32});
    assert_eq!(yarn(original), (usual, 32));
    assert_eq!(yarn(json!({"attention_factor": 0.7})), (0.7, 64));
    let (both, _) = yarn(json!({"mscale": 1.0, "mscale_all_dim": 0.5}));
    assert_eq!(both, usual / (0.05 * 4f64.ln() + 1.0));
}

fn assert_refusals<const N: usize>(cases: [(Value, &str); N]) {
    for (changes, message) in cases {
        let message = format!("config.json: {message}");
        assert_eq!(refusal(Family::Llama, changes), message);
    }
}

#[test]
fn settings_that_are_not_understood_are_refused_by_name() {
    assert_refusals([
        (
            json!({"architectures": ["GemmaForCausalLM"]}),
            "architecture \"GemmaForCausalLM\" is not supported; accepted: LlamaForCausalLM, \
             MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM",
        ),
        (json!({"architectures": "absent"}), "architectures is missing"),
        (json!({"hidden_size": "absent"}), "hidden_size is missing"),
        (
            json!({"quantization_config": {"quant_method": "gptq"}}),
            "quantization_config = a quantised model is not supported",
        ),
        (json!({"auto_map": {}}), "auto_map = code from the folder is not supported"),
        (json!({"hidden_act": "gelu"}), "hidden_act = \"gelu\" is not supported"),
        (json!({"head_dim": 5}), "architecture: head_width even"),
        (
            json!({"num_attention_heads": 0, "head_dim": null}),
            "architecture: head_count in 1..=1024",
        ),
    ]);
    let absent = json!({"num_key_value_heads": "absent"});
    let message = "config.json: num_key_value_heads is missing";
    assert_eq!(refusal(Family::Qwen2, absent), message);
    for (changes, part) in [
        (json!({"hidden_size": -1}), "invalid value"),
        (json!({"hidden_size": "12"}), "invalid type"),
    ] {
        let error = architecture_with(Family::Llama, changes).unwrap_err();
        assert!(matches!(error, SourceError::Json { .. }) && error.to_string().contains(part));
    }
}

#[test]
fn rope_settings_that_are_not_understood_are_refused_by_name() {
    assert_refusals([
        (
            json!({"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
            "rope_scaling.rope_type = \"dynamic\" is not supported",
        ),
        (json!({"rope_scaling": {"type": "linear"}}), "rope_scaling.factor is missing"),
        (
            json!({"rope_scaling": {"type": "linear", "factor": 0.5}}),
            "architecture: rope.scaling finite, with factor in 1..=1e4",
        ),
        (
            json!({"rope_scaling": {"type": "yarn", "rope_type": "linear", "factor": 2.0}}),
            "rope_scaling.type = \"yarn\" beside \"linear\" is not supported",
        ),
        (
            json!({"rope_scaling": {"type": "yarn", "factor": 2.0, "truncate": false}}),
            "rope_scaling.truncate = false is not supported",
        ),
        (
            json!({"rope_scaling": {"type": "default"}, "rope_parameters": {}}),
            "rope_scaling = beside rope_parameters is not supported",
        ),
        (
            json!({"rope_parameters": {"full_attention": {}, "sliding_attention": {}}}),
            "rope_parameters = settings per kind of layer is not supported",
        ),
        (json!({"partial_rotary_factor": 1e300}), "architecture: rope.dims in 2..=head_width"),
    ]);
}

/// The message for a folder whose weights are these bytes.
fn weights_refusal(bytes: Vec<u8>) -> String {
    let mut files = folder(&llama());
    files.insert("model.safetensors".to_owned(), bytes);
    let error = open(files).unwrap_err().to_string();
    let rule = error.strip_prefix("model.safetensors: ");
    rule.expect("the file is named").to_owned()
}

#[test]
fn damaged_headers_of_safetensors_are_refused() {
    let refusal = weights_refusal;
    let one = |entry: &str, data: &[u8]| refusal(with_header(&format!("{{\"a\":{entry}}}"), data));
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    assert_eq!(refusal(vec![255; 9]), "byte 0: header bytes 18446744073709551615, limit 16777216");
    assert_eq!(refusal(vec![1, 0]), "byte 0: 8 bytes needed, the file has 2");
    assert_eq!(
        refusal([100_u64.to_le_bytes().as_slice(), b"{}"].concat()),
        "byte 8: 100 bytes needed, the file has 10"
    );
    assert!(refusal(with_header("{", b"")).contains("EOF while parsing"));
    assert!(refusal(with_header(&"[".repeat(200), b"")).contains("invalid type: sequence"));
    assert_eq!(
        one(&entry("F8_E4M3", "[1]", "[0,1]"), &[0]),
        "tensor \"a\": element type \"F8_E4M3\" is not supported"
    );
    let length = "a: data_offsets have the length that dtype and shape need";
    assert_eq!(one(&entry("F32", "[1]", "[0,5]"), &[0; 5]), length);
    assert_eq!(one(&entry("F32", "[1]", "[4,0]"), &[0; 4]), length);
    let overflow = entry("F32", "[4294967296,4294967296]", "[0,4]");
    assert_eq!(one(&overflow, &[0; 4]), "a: the size of a tensor fits 64 bits");
    assert_eq!(one(&entry("F32", "[0]", "[0,0]"), &[]), "a: a dimension is not 0");
    assert!(
        one(&entry("F32", "[1,1,1,1,1]", "[0,4]"), &[0; 4])
            .contains("an array of at most 4 elements")
    );
    let gap = "a: data_offsets leave no gap and no overlap";
    assert_eq!(one(&entry("F32", "[1]", "[4,8]"), &[0; 8]), gap);
    let short = one(&entry("F32", "[2]", "[0,8]"), &[0; 4]);
    assert!(short.contains("8 bytes needed"), "{short}");
    let long = one(&entry("F32", "[1]", "[0,4]"), &[0; 5]);
    assert!(long.ends_with("the file ends with its last tensor"));
    let four = entry("F32", "[1]", "[0,4]");
    let twice = with_header(&format!("{{\"a\":{four},\"a\":{four}}}"), &[0; 4]);
    assert!(refusal(twice).contains("\"a\" occurs twice"));
    let name = "n".repeat(257);
    let long = with_header(&format!("{{\"{name}\":{four}}}"), &[0; 4]);
    assert!(refusal(long).contains("at most 256 bytes"));
}

#[test]
fn tensors_that_do_not_fit_the_configuration_are_refused() {
    let mut extra = tensors(&llama());
    extra.push(("model.vision".to_owned(), "F32".to_owned(), vec![1], vec![0; 4]));
    assert_eq!(
        weights_refusal(safetensors(&extra)),
        "tensor \"model.vision\" has no place in this architecture"
    );
    let mut misshapen = tensors(&llama());
    misshapen[2].2 = vec![12, 1];
    assert!(weights_refusal(safetensors(&misshapen)).contains("has dimensions [12, 1]"));

    let mut table = tensors(&llama());
    let inv_freq = "model.layers.1.self_attn.rotary_emb.inv_freq";
    table.push((inv_freq.to_owned(), "F32".to_owned(), vec![1], vec![0; 4]));
    let mut files = folder(&llama());
    files.insert("model.safetensors".to_owned(), safetensors(&table));
    assert_eq!(open(files).unwrap().ignored_tensors(), [inv_freq]);

    let mut nan = tensors(&llama());
    nan[0].3[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut files = folder(&llama());
    files.insert("model.safetensors".to_owned(), safetensors(&nan));
    let mut row = vec![0.0; 12];
    let error = open(files).unwrap().read_rows(TensorRole::Embedding, 0, &mut row);
    let message = "tensor \"model.embed_tokens.weight\": row 0, column 1 is not finite";
    assert!(error.unwrap_err().to_string().ends_with(message));
}

#[test]
fn tokenizer_and_template_come_from_the_folder() {
    let mut files = folder(&llama());
    let mut put = |name: &str, text: &str| files.insert(name.to_owned(), text.into());
    put("tokenizer.json", "{}");
    put("special_tokens_map.json", "[]");
    put(
        "tokenizer_config.json",
        r#"{"chat_template": [{"name": "tool_use", "template": "t"},
            {"name": "default", "template": "d"}]}"#,
    );
    let source = open(files.clone()).unwrap();
    assert_eq!(source.chat_template(), Some("d"));
    let TokenizerFiles::HuggingFace { tokenizer, settings } = source.tokenizer_files().unwrap()
    else {
        panic!("tokenizer.json is there");
    };
    assert_eq!(tokenizer, b"{}");
    assert_eq!(settings.special_tokens_map.as_deref(), Some(b"[]".as_slice()));
    assert_eq!(settings.generation_config, None);

    let mut put = |name: &str, text: &str| files.insert(name.to_owned(), text.into());
    put("tokenizer_config.json", r#"{"chat_template": "one"}"#);
    put("tokenizer.model", "\u{a}\u{5}\u{a}\u{3}abc");
    files.remove("tokenizer.json");
    let source = open(files.clone()).unwrap();
    assert_eq!(source.chat_template(), Some("one"));
    let read = source.tokenizer_files().unwrap();
    assert!(matches!(read, TokenizerFiles::SentencePiece { .. }));

    files.insert("chat_template.jinja".to_owned(), b"file".to_vec());
    files.insert("tokenizer.model".to_owned(), b"IQ== 0\n".to_vec());
    let source = open(files.clone()).unwrap();
    assert_eq!(source.chat_template(), Some("file"));
    let read = source.tokenizer_files().unwrap();
    assert!(matches!(read, TokenizerFiles::Tiktoken { .. }));

    files.insert("chat_template.jinja".to_owned(), b"a\xff".to_vec());
    let error = open(files.clone()).unwrap_err().to_string();
    assert_eq!(error, "chat_template.jinja: byte 1: text is UTF-8");
    files.insert("chat_template.jinja".to_owned(), vec![b'a'; (1 << 20) + 1]);
    let error = open(files).unwrap_err().to_string();
    assert_eq!(error, "chat_template.jinja: byte 0: bytes 1048577, limit 1048576");
}

#[test]
fn a_folder_on_disk_is_a_model_with_its_name() {
    let folder_on_disk = tempfile::tempdir().unwrap();
    let path = folder_on_disk.path().join("some-model");
    std::fs::create_dir(&path).unwrap();
    for (name, bytes) in sharded() {
        std::fs::write(path.join(name), bytes).unwrap();
    }
    let source = shoal_model::source::open(&path).unwrap();
    assert_eq!(source.name(), "some-model");
    assert_weights(source.as_ref());
    std::fs::remove_file(path.join("model.safetensors.index.json")).unwrap();
    assert_weights(shoal_model::source::open(&path).unwrap().as_ref());
}
