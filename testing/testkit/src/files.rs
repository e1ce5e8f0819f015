//! Model files made of random numbers, in every format that can be imported.

use std::path::Path;

use shoal_model::source::gguf::{
    ExportRows, GgufWriter, MetadataValue, export_metadata, export_row, export_tensors,
};
use shoal_model::source::{ElementType, GgufVocabulary, WeightSource};
use shoal_model::tokenizer::{TokenKind, Vocabulary};
use shoal_model::{Architecture, LinearPart, NormPart, TensorRole};

use crate::{TinyModel, byte_tokenizer};

/// A GGUF file of F32 weights with a tokenizer that knows every byte and the word mark.
///
/// # Panics
/// When the architecture has another vocabulary than 260 tokens, or no GGUF form.
#[must_use]
pub fn gguf_file(model: &TinyModel) -> Vec<u8> {
    gguf_file_with(model, |_| {})
}

/// As [`gguf_file`], with changed metadata.
///
/// # Panics
/// As [`gguf_file`].
#[must_use]
pub fn gguf_file_with(
    model: &TinyModel,
    change: impl FnOnce(&mut Vec<(String, MetadataValue)>),
) -> Vec<u8> {
    let architecture = model.architecture();
    let (element, template) = (ElementType::F32, model.chat_template());
    let vocabulary = byte_vocabulary(architecture.vocab_count);
    let metadata = export_metadata("tiny", architecture, element, &vocabulary, template);
    let mut metadata = metadata.expect("the architecture has a GGUF form");
    change(&mut metadata);
    let tensors = export_tensors(architecture, element);
    let plans = tensors.iter().map(|tensor| tensor.plan.clone()).collect();
    let mut writer = GgufWriter::try_new(Vec::new(), &metadata, plans).expect("a sound plan");
    for tensor in tensors {
        match tensor.rows {
            ExportRows::Values(values) => writer.write_rows(&values).expect("its only row"),
            ExportRows::Model(role) => {
                let columns = tensor.plan.columns;
                let values = tensor_of(model, role);
                for row in 0..tensor.plan.rows {
                    let row = export_row(architecture, role, row);
                    writer.write_rows(&values[row * columns..][..columns]).expect("a row");
                }
            }
        }
    }
    writer.finish().expect("all rows are written")
}

/// `<unk>`, `<s>`, `</s>`, every byte, the word mark; padded to `rows`.
fn byte_vocabulary(rows: u32) -> GgufVocabulary {
    let mut tokens: Vec<Vec<u8>> = ["<unk>", "<s>", "</s>"].map(|t| t.as_bytes().to_vec()).into();
    let mut types = vec![2, 3, 3];
    for byte in 0..=255 {
        tokens.push(format!("<0x{byte:02X}>").into_bytes());
        types.push(6);
    }
    tokens.push("▁".as_bytes().to_vec());
    types.push(1);
    assert_eq!(tokens.len(), rows as usize, "one token per row");
    GgufVocabulary {
        architecture: "llama".to_owned(),
        model: "llama".to_owned(),
        pre: Some("default".to_owned()),
        scores: vec![0.0; tokens.len()],
        tokens,
        types,
        bos_id: Some(1),
        eos_id: Some(2),
        unknown_id: Some(0),
        add_bos: Some(true),
        ..GgufVocabulary::default()
    }
}

/// All elements of a tensor.
fn tensor_of(model: &TinyModel, role: TensorRole) -> Vec<f32> {
    let info = model.tensor(role).expect("the architecture has this tensor");
    let mut values = vec![0.0; info.rows * info.columns];
    model.read_rows(role, 0, &mut values).expect("it has these rows");
    values
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Writes a Hugging Face folder with F32 weights and [`byte_tokenizer`].
///
/// # Panics
/// When the folder cannot be written.
pub fn write_hugging_face(model: &TinyModel, folder: &Path) {
    let a = model.architecture();
    let mut spec = byte_tokenizer();
    // Files of this format have no unused tokens.
    spec.vocabulary = Vocabulary::with_capacity(260, 300);
    for (_, bytes, kind) in byte_tokenizer().vocabulary.iter() {
        let kind = if kind == TokenKind::Unused { TokenKind::Control } else { kind };
        spec.vocabulary.push(bytes, kind);
    }
    let tokenizer = spec.to_hf().expect("bytes have a Hugging Face form");
    let config = serde_json::json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": a.vocab_count,
        "hidden_size": a.model_width,
        "intermediate_size": a.mlp_width,
        "num_hidden_layers": a.layer_count,
        "num_attention_heads": a.head_count,
        "num_key_value_heads": a.kv_head_count,
        "head_dim": a.head_width,
        "max_position_embeddings": a.context_tokens,
        "rms_norm_eps": a.norm_epsilon,
        "rope_theta": a.rope.theta,
        "tie_word_embeddings": a.tied_embeddings,
    });
    let mut config_bytes = serde_json::to_vec(&config).expect("plain JSON");
    config_bytes.push(b'\n');
    let files = [
        ("config.json", config_bytes),
        ("tokenizer.json", tokenizer.tokenizer.into_bytes()),
        ("tokenizer_config.json", tokenizer.tokenizer_config.into_bytes()),
        ("model.safetensors", safetensors(model)),
    ];
    std::fs::create_dir_all(folder).expect("the folder can be made");
    for (name, bytes) in files {
        std::fs::write(folder.join(name), bytes).expect("the file can be written");
    }
}

fn safetensors(model: &TinyModel) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut bytes = Vec::new();
    for (role, (rows, columns)) in model.architecture().tensors() {
        let start = bytes.len();
        bytes.extend(bytes_of(&tensor_of(model, role)));
        let shape = match rows {
            1 => vec![columns],
            _ => vec![rows, columns],
        };
        let entry = serde_json::json!({
            "dtype": "F32", "shape": shape, "data_offsets": [start, bytes.len()],
        });
        header.insert(hugging_face_name(role), entry);
    }
    let header = serde_json::to_vec(&header).expect("plain JSON");
    [&(header.len() as u64).to_le_bytes()[..], &header, &bytes].concat()
}

fn hugging_face_name(role: TensorRole) -> String {
    let layer = |layer: u32, name: &str| format!("model.layers.{layer}.{name}.weight");
    match role {
        TensorRole::Embedding => "model.embed_tokens.weight".to_owned(),
        TensorRole::OutputHead => "lm_head.weight".to_owned(),
        TensorRole::FinalNorm => "model.norm.weight".to_owned(),
        TensorRole::Norm(index, NormPart::Attention) => layer(index, "input_layernorm"),
        TensorRole::Norm(index, NormPart::Mlp) => layer(index, "post_attention_layernorm"),
        TensorRole::Linear(index, part) => layer(
            index,
            match part {
                LinearPart::Query => "self_attn.q_proj",
                LinearPart::Key => "self_attn.k_proj",
                LinearPart::Value => "self_attn.v_proj",
                LinearPart::AttentionOutput => "self_attn.o_proj",
                LinearPart::Gate => "mlp.gate_proj",
                LinearPart::Up => "mlp.up_proj",
                LinearPart::Down => "mlp.down_proj",
            },
        ),
        other => panic!("{other:?} is not of a plain Llama"),
    }
}

/// Writes a llama2.c checkpoint of version 0 and its `tok260.bin` into a folder.
///
/// # Panics
/// When the files cannot be written.
pub fn write_llama2c(model: &TinyModel, folder: &Path) {
    let a = model.architecture();
    let sizes = [
        a.model_width,
        a.mlp_width,
        a.layer_count,
        a.head_count,
        a.kv_head_count,
        a.vocab_count,
        a.context_tokens,
    ];
    let mut bytes: Vec<u8> = sizes.iter().flat_map(|size| size.to_le_bytes()).collect();
    for role in llama2c_order(a) {
        bytes.extend(bytes_of(&tensor_of(model, role)));
    }
    // Two tables of rotations, which readers skip.
    let rotations = (a.context_tokens * a.head_width) as usize;
    bytes.extend(std::iter::repeat_n(0, rotations * 4));
    std::fs::write(folder.join("tiny.bin"), bytes).expect("the file can be written");
    std::fs::write(folder.join("tok260.bin"), llama2c_tokenizer(a.vocab_count))
        .expect("the file can be written");
}

fn llama2c_order(a: &Architecture) -> Vec<TensorRole> {
    let layers = |role: &dyn Fn(u32) -> TensorRole| (0..a.layer_count).map(role).collect();
    let norms = |part| -> Vec<TensorRole> { layers(&|layer| TensorRole::Norm(layer, part)) };
    let linears = |part| -> Vec<TensorRole> { layers(&|layer| TensorRole::Linear(layer, part)) };
    [
        vec![TensorRole::Embedding],
        norms(NormPart::Attention),
        linears(LinearPart::Query),
        linears(LinearPart::Key),
        linears(LinearPart::Value),
        linears(LinearPart::AttentionOutput),
        norms(NormPart::Mlp),
        linears(LinearPart::Gate),
        linears(LinearPart::Down),
        linears(LinearPart::Up),
        vec![TensorRole::FinalNorm],
    ]
    .concat()
}

/// The tokenizer of [`write_llama2c`], with as many tokens as asked for (at least 259).
#[must_use]
pub fn llama2c_tokenizer(tokens: u32) -> Vec<u8> {
    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    pieces.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
    for index in pieces.len()..tokens as usize {
        pieces.push(" ".repeat(index - 258));
    }
    let longest = pieces.iter().map(String::len).max().unwrap_or(0) as u32;
    let mut bytes = longest.to_le_bytes().to_vec();
    for piece in pieces {
        bytes.extend_from_slice(&0.0_f32.to_le_bytes());
        bytes.extend_from_slice(&(piece.len() as u32).to_le_bytes());
        bytes.extend_from_slice(piece.as_bytes());
    }
    bytes
}
