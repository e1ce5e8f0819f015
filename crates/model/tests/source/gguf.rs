//! GGUF files that are right.

use shoal_model::source::gguf::GgufFile;
use shoal_model::source::{CodeBlock, ElementType, Input, SourceError, TokenizerFiles};
use shoal_model::{Family, LinearPart, RopeLayout, RopeScaling, TensorRole};

use crate::support::{GgufBytes, GgufTensor, Meta, assert_weights, open, tiny, weights};

fn llama() -> GgufBytes {
    GgufBytes::model(&tiny(Family::Llama, RopeLayout::Interleaved))
}

#[test]
fn each_family_keeps_its_architecture_and_weights() {
    for (family, layout) in [
        (Family::Llama, RopeLayout::Interleaved),
        (Family::Qwen2, RopeLayout::Half),
        (Family::Qwen3, RopeLayout::Half),
    ] {
        let architecture = tiny(family, layout);
        let source = open("m.gguf", GgufBytes::model(&architecture).build()).unwrap();
        assert_eq!(source.architecture(), &architecture);
        assert_eq!(source.name(), "m");
        assert_weights(source.as_ref());
    }
}

#[test]
fn biases_and_absent_output_head_show_in_the_architecture() {
    let mut architecture = tiny(Family::Llama, RopeLayout::Interleaved);
    architecture.tied_embeddings = true;
    architecture.qkv_bias = true;
    architecture.output_bias = true;
    architecture.mlp_bias = true;
    let source = open("m.gguf", GgufBytes::model(&architecture).build()).unwrap();
    assert_eq!(source.architecture(), &architecture);
    assert_weights(source.as_ref());
}

#[test]
fn version_2_other_alignments_and_half_formats_are_read() {
    for (version, alignment) in [(2, 8), (3, 64), (3, 1)] {
        let mut file = llama();
        file.version = version;
        file.alignment = alignment;
        file.set("general.alignment", Meta::U32(alignment as u32));
        file.set("general.name", Meta::Text("a name"));
        for (index, tensor) in file.tensors.iter_mut().enumerate() {
            // The weights are exact in each format: cutting the lower half of an f32 loses nothing.
            let halves: fn(f32) -> u16 = match index % 3 {
                0 => |value| (value.to_bits() >> 16) as u16,
                1 => half_of_multiple_of_128th,
                _ => continue,
            };
            let values = tensor.data.as_chunks::<4>().0.iter();
            let halved = values.flat_map(|bytes| halves(f32::from_le_bytes(*bytes)).to_le_bytes());
            tensor.data = halved.collect();
            tensor.kind = if index % 3 == 0 { 30 } else { 1 };
        }
        let source = open("m.gguf", file.build()).unwrap();
        assert_eq!(source.name(), "a name");
        assert_weights(source.as_ref());
    }
}

/// The binary16 of `k / 128` for `|k| < 1024`, by its definition.
fn half_of_multiple_of_128th(value: f32) -> u16 {
    let k = (value.abs() * 128.0) as u16;
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    if k == 0 {
        return sign;
    }
    let exponent = k.ilog2() as u16;
    sign | (15 + exponent - 7) << 10 | (k << (10 - exponent)) & 0x3ff
}

#[test]
fn old_files_without_optional_keys_get_the_defaults() {
    let mut architecture = tiny(Family::Llama, RopeLayout::Interleaved);
    architecture.kv_head_count = 4;
    architecture.head_width = 3 * 4 / 4 + 1;
    architecture.model_width = 16;
    let mut file = GgufBytes::model(&architecture);
    for key in [
        "attention.head_count_kv",
        "attention.key_length",
        "attention.value_length",
        "rope.dimension_count",
    ] {
        file.remove(&format!("llama.{key}"));
    }
    let source = open("m.gguf", file.build()).unwrap();
    assert_eq!(source.architecture(), &architecture);
}

#[test]
fn sliding_window_makes_a_mistral_and_zero_means_none() {
    let mut file = llama();
    file.set("llama.attention.sliding_window", Meta::U32(32));
    let source = open("m.gguf", file.build()).unwrap();
    assert_eq!(source.architecture().family, Family::Mistral);
    assert_eq!(source.architecture().sliding_window, Some(32));
    file.set("llama.attention.sliding_window", Meta::U32(0));
    let source = open("m.gguf", file.build()).unwrap();
    assert_eq!(source.architecture().family, Family::Llama);
    assert_eq!(source.architecture().sliding_window, None);
}

#[test]
fn per_layer_numbers_are_read_when_they_are_all_the_same() {
    let mut file = llama();
    let mut two = 10_u32.to_le_bytes().to_vec();
    two.extend(10_u32.to_le_bytes());
    file.set("llama.feed_forward_length", Meta::Array(4, 2, two.clone()));
    let source = open("m.gguf", file.build()).unwrap();
    assert_eq!(source.architecture().mlp_width, 10);
    two[0] = 11;
    file.set("llama.feed_forward_length", Meta::Array(4, 2, two));
    let error = open("m.gguf", file.build()).unwrap_err();
    assert!(matches!(error, SourceError::Key { key, .. } if key == "llama.feed_forward_length"));
}

fn scaling_of(file: &GgufBytes) -> RopeScaling {
    open("m.gguf", file.build()).unwrap().architecture().rope.scaling
}

#[test]
fn linear_and_yarn_scaling_are_keys() {
    let mut file = llama();
    file.set("llama.rope.freq_base", Meta::F32(500_000.0));
    file.set("llama.rope.scaling.factor", Meta::F32(4.0));
    assert_eq!(scaling_of(&file), RopeScaling::Linear { factor: 4.0 });
    file.set("llama.rope.scaling.type", Meta::Text("none"));
    assert_eq!(scaling_of(&file), RopeScaling::None);
    file.set("llama.rope.scaling.type", Meta::Text("yarn"));
    file.set("llama.rope.scaling.original_context_length", Meta::U32(16));
    file.set("llama.rope.scaling.attn_factor", Meta::F32(0.5));
    let expected = RopeScaling::Yarn {
        factor: 4.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        attention_factor: 0.5 * (0.1 * 4f64.ln() + 1.0),
        original_context: 16,
    };
    assert_eq!(scaling_of(&file), expected);
    let mut old = llama();
    old.set("llama.rope.scale_linear", Meta::F32(2.0));
    assert_eq!(scaling_of(&old), RopeScaling::Linear { factor: 2.0 });
    let neutral = open("m.gguf", llama().build()).unwrap();
    assert_eq!(neutral.architecture().rope.scaling, RopeScaling::None);
}

/// A file with the factors that the converters of other projects write: 32-bit arithmetic, one
/// branch per range.
fn with_llama3_factors(factor: f32, original_context: f32, dims: u32) -> GgufBytes {
    let mut architecture = tiny(Family::Llama, RopeLayout::Interleaved);
    architecture.head_width = dims;
    architecture.rope.dims = dims;
    let mut file = GgufBytes::model(&architecture);
    file.set("llama.rope.freq_base", Meta::F32(500_000.0));
    let mut factors = Vec::new();
    for i in 0..dims / 2 {
        let frequency = 1.0 / 500_000_f32.powf((2 * i) as f32 / dims as f32);
        let wavelength = 2.0 * std::f32::consts::PI / frequency;
        let smooth = (original_context / wavelength - 1.0) / 3.0;
        factors.push(if wavelength < original_context / 4.0 {
            1.0
        } else if wavelength > original_context {
            factor
        } else {
            1.0 / ((1.0 - smooth) / factor + smooth)
        });
    }
    file.tensors.push(GgufTensor {
        name: "rope_freqs.weight".to_owned(),
        dimensions: vec![u64::from(dims / 2)],
        kind: 0,
        data: factors.iter().flat_map(|f| f.to_le_bytes()).collect(),
        offset: None,
    });
    file
}

#[test]
fn llama3_scaling_is_found_from_its_factors() {
    for (factor, original_context, dims) in
        [(8.0, 8192, 128), (32.0, 8192, 64), (16.0, 131_072, 128), (4.0, 2048, 32)]
    {
        let file = with_llama3_factors(factor, original_context as f32, dims);
        let expected = RopeScaling::Llama3 {
            factor: f64::from(factor),
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_context,
        };
        let source = open("m.gguf", file.build()).unwrap();
        assert_eq!(source.architecture().rope.scaling, expected);
        assert_eq!(source.ignored_tensors(), ["rope_freqs.weight"]);
    }
}

#[test]
fn factors_of_another_rule_are_refused_and_factors_of_one_change_nothing() {
    let mut file = with_llama3_factors(8.0, 8192.0, 64);
    let factors = file.tensor("rope_freqs.weight");
    let halfway = factors.data.len() / 8 * 4;
    factors.data[halfway..halfway + 4].copy_from_slice(&1.25_f32.to_le_bytes());
    let error = open("m.gguf", file.build()).unwrap_err();
    assert!(matches!(error, SourceError::Key { key, .. } if key == "rope_freqs.weight"));

    let mut file = with_llama3_factors(1.0, 8192.0, 64);
    assert_eq!(scaling_of(&file), RopeScaling::None);
    file.tensor("rope_freqs.weight").dimensions = vec![31];
    assert!(open("m.gguf", file.build()).is_err());

    let mut file = with_llama3_factors(8.0, 8192.0, 64);
    file.set("llama.rope.scaling.factor", Meta::F32(4.0));
    assert!(open("m.gguf", file.build()).is_err());
}

#[test]
fn tables_of_old_converters_are_named_and_ignored() {
    let mut file = llama();
    let table = GgufTensor {
        name: "blk.1.attn_rot_embd.weight".to_owned(),
        dimensions: vec![2],
        kind: 0,
        data: vec![0; 8],
        offset: None,
    };
    file.tensors.push(table);
    let source = open("m.gguf", file.build()).unwrap();
    assert_eq!(source.ignored_tensors(), ["blk.1.attn_rot_embd.weight"]);
}

/// A llama with widths of 256, its value maps in Q6_K, the other linear maps in Q4_K.
fn mixed_k_quants() -> GgufBytes {
    let mut architecture = tiny(Family::Llama, RopeLayout::Interleaved);
    architecture.model_width = 256;
    architecture.head_width = 64;
    architecture.rope.dims = 64;
    architecture.mlp_width = 256;
    let mut file = GgufBytes::model(&architecture);
    for tensor in &mut file.tensors {
        let (kind, bytes) = match tensor.name.as_str() {
            name if name.contains("attn_v") => (14, 210),
            name if name.contains("norm") || !name.starts_with("blk") => continue,
            _ => (12, 144),
        };
        let blocks = tensor.dimensions[0] / 256 * tensor.dimensions[1];
        tensor.kind = kind;
        tensor.data = (0..blocks * bytes).map(|i| (i % 59) as u8).collect();
    }
    file
}

#[test]
fn main_format_of_a_mixture_decides_the_bits_per_weight() {
    let source = open("m.gguf", mixed_k_quants().build()).unwrap();
    let element = |part| source.tensor(TensorRole::Linear(0, part)).unwrap().element;
    assert_eq!(element(LinearPart::Value), ElementType::Q6K);
    assert_eq!(element(LinearPart::Up), ElementType::Q4K);
    assert_eq!(source.source_bits_per_weight(), 4.5);
    let plain = open("m.gguf", llama().build()).unwrap();
    assert_eq!(plain.source_bits_per_weight(), 32.0);
}

#[test]
fn codes_of_any_rows_give_the_elements_of_those_rows() {
    let source = open("m.gguf", mixed_k_quants().build()).unwrap();
    let role = TensorRole::Linear(1, LinearPart::Down);
    let mut rows = vec![0.0; 3 * 256];
    let mut codes = vec![CodeBlock::ZERO; 3 * 8];
    source.read_rows(role, 5, &mut rows).unwrap();
    source.read_codes(role, 5, &mut codes).unwrap();
    for (i, &value) in rows.iter().enumerate() {
        let block = &codes[i / 32];
        let got = block.scale * f32::from(block.codes[i % 32]) - block.offset;
        assert_eq!(got.to_bits(), value.to_bits());
    }
    let value = TensorRole::Linear(1, LinearPart::Value);
    let error = source.read_codes(value, 0, &mut codes).unwrap_err();
    assert!(matches!(error, SourceError::Request { .. }));
}

#[test]
fn rows_outside_a_tensor_are_refused() {
    let source = open("m.gguf", llama().build()).unwrap();
    let role = TensorRole::Embedding;
    let mut row = vec![0.0; 12];
    source.read_rows(role, 10, &mut row).unwrap();
    source.read_rows(role, 11, &mut []).unwrap();
    let refused = |role, first, out: &mut [f32]| {
        let error = source.read_rows(role, first, out).unwrap_err();
        assert!(matches!(error, SourceError::Request { .. }), "{error}");
    };
    refused(role, 11, &mut row);
    refused(role, usize::MAX, &mut row);
    refused(role, 0, &mut row[..11]);
    refused(TensorRole::Bias(0, LinearPart::Query), 0, &mut row);
}

#[test]
fn infinite_and_missing_numbers_are_named() {
    for bad in [f32::NAN, f32::NEG_INFINITY] {
        let mut file = llama();
        let tensor = file.tensor("blk.1.ffn_down.weight");
        tensor.data[(7 * 10 + 4) * 4..][..4].copy_from_slice(&bad.to_le_bytes());
        let source = open("m.gguf", file.build()).unwrap();
        let role = TensorRole::Linear(1, LinearPart::Down);
        let mut rows = vec![0.0; 12 * 10];
        let error = source.read_rows(role, 0, &mut rows).unwrap_err();
        let message = "m.gguf: tensor \"blk.1.ffn_down.weight\": row 7, column 4 is not finite";
        assert_eq!(error.to_string(), message);
        let mut rest = vec![0.0; 4 * 10];
        source.read_rows(role, 8, &mut rest).unwrap();
        assert_eq!(rest, weights(role, (12, 10))[80..]);
    }
}

#[test]
fn scales_that_are_not_finite_are_named_when_codes_are_read() {
    let mut file = mixed_k_quants();
    // The scale of the third row's block: binary16 infinity.
    let tensor = file.tensor("blk.0.attn_q.weight");
    tensor.data[2 * 144..][..2].copy_from_slice(&[0x00, 0x7c]);
    let source = open("m.gguf", file.build()).unwrap();
    let mut codes = vec![CodeBlock::ZERO; 4 * 8];
    let role = TensorRole::Linear(0, LinearPart::Query);
    let error = source.read_codes(role, 0, &mut codes).unwrap_err();
    assert!(matches!(error, SourceError::NotFinite { row: 2, column: 0, .. }), "{error}");
}

#[test]
fn vocabulary_and_template_are_read_without_weights() {
    let file = GgufBytes { version: 3, alignment: 32, metadata: vec![], tensors: vec![] };
    let mut file = file;
    file.set("tokenizer.ggml.model", Meta::Text("gpt2"));
    file.set("tokenizer.ggml.pre", Meta::Text("llama-bpe"));
    file.set("tokenizer.ggml.tokens", Meta::texts(&[b"a", b"\xff\xfe", b""]));
    file.set("tokenizer.ggml.merges", Meta::texts(&[b"a b"]));
    let scores = [0.5_f32, -1.0, 0.0].iter().flat_map(|s| s.to_le_bytes());
    file.set("tokenizer.ggml.scores", Meta::Array(6, 3, scores.collect()));
    let types = [1_i32, 3, 6].iter().flat_map(|t| t.to_le_bytes());
    file.set("tokenizer.ggml.token_type", Meta::Array(5, 3, types.collect()));
    file.set("tokenizer.ggml.bos_token_id", Meta::U32(1));
    file.set("tokenizer.ggml.eos_token_id", Meta::U64(2));
    file.set("tokenizer.ggml.padding_token_id", Meta::I32(-1));
    file.set("tokenizer.ggml.seperator_token_id", Meta::U32(u32::MAX));
    file.set("tokenizer.ggml.add_bos_token", Meta::Bool(1));
    file.set("tokenizer.ggml.precompiled_charsmap", Meta::Array(0, 2, vec![7, 8]));
    file.set("tokenizer.chat_template", Meta::Text("{{ x }}"));
    let parsed = GgufFile::parse(Input::from_bytes("v.gguf", file.build())).unwrap();
    assert_eq!(parsed.chat_template().unwrap().as_deref(), Some("{{ x }}"));
    let vocabulary = parsed.vocabulary().unwrap();
    assert_eq!(vocabulary.model, "gpt2");
    assert_eq!(vocabulary.pre.as_deref(), Some("llama-bpe"));
    assert_eq!(vocabulary.tokens, [b"a".to_vec(), b"\xff\xfe".to_vec(), vec![]]);
    assert_eq!(vocabulary.merges, [b"a b".to_vec()]);
    assert_eq!(vocabulary.scores, [0.5, -1.0, 0.0]);
    assert_eq!(vocabulary.types, [1, 3, 6]);
    assert_eq!((vocabulary.bos_id, vocabulary.eos_id), (Some(1), Some(2)));
    assert_eq!((vocabulary.padding_id, vocabulary.separator_id), (None, None));
    assert_eq!((vocabulary.add_bos, vocabulary.add_eos), (Some(true), None));
    assert_eq!(vocabulary.precompiled_charsmap, Some(vec![7, 8]));

    // One score too few.
    file.set("tokenizer.ggml.scores", Meta::Array(6, 2, vec![0; 8]));
    let parsed = GgufFile::parse(Input::from_bytes("v.gguf", file.build())).unwrap();
    let error = parsed.vocabulary().unwrap_err();
    let message = "v.gguf: tokenizer.ggml.scores: one entry per token";
    assert_eq!(error.to_string(), message);
}

#[test]
fn parts_of_a_split_file_are_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let architecture = tiny(Family::Llama, RopeLayout::Interleaved);
    let mut first = GgufBytes::model(&architecture);
    let total = first.tensors.len() as i32;
    let mut second = first.clone();
    second.metadata.clear();
    second.tensors = first.tensors.split_off(7);
    for (number, part) in [(0, &mut first), (1, &mut second)] {
        part.set("split.no", Meta::U8(number));
        part.set("split.count", Meta::U8(2));
        part.set("split.tensors.count", Meta::I32(total));
    }
    let path = |n| folder.path().join(format!("m-0000{n}-of-00002.gguf"));
    std::fs::write(path(1), first.build()).unwrap();
    let missing = shoal_model::source::open(&path(1)).unwrap_err();
    assert!(matches!(missing, SourceError::Io { file, .. } if file == path(2)));
    std::fs::write(path(2), second.build()).unwrap();
    let source = shoal_model::source::open(&path(1)).unwrap();
    assert_eq!(source.architecture(), &architecture);
    assert_weights(source.as_ref());
    let wrong_part = shoal_model::source::open(&path(2)).unwrap_err();
    assert!(matches!(wrong_part, SourceError::Key { key, .. } if key == "split.no"));
    // A part that repeats a tensor of the first.
    second.tensors.push(first.tensors[0].clone());
    std::fs::write(path(2), second.build()).unwrap();
    let repeated = shoal_model::source::open(&path(1)).unwrap_err();
    assert!(matches!(repeated, SourceError::Duplicate { .. }));
    // A part less than announced.
    second.tensors.truncate(1);
    std::fs::write(path(2), second.build()).unwrap();
    let fewer = shoal_model::source::open(&path(1)).unwrap_err();
    assert!(matches!(fewer, SourceError::Key { key, .. } if key == "split.tensors.count"));
}

#[test]
fn a_tokenizer_given_explicitly_replaces_the_one_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.gguf");
    std::fs::write(&model, llama().build()).unwrap();
    let missing = shoal_model::source::open(&model).unwrap().tokenizer_files();
    let missing = missing.unwrap_err();
    assert!(
        matches!(missing, SourceError::MissingKey { key, .. } if key == "tokenizer.ggml.tokens")
    );
    let tokenizer = folder.path().join("any");
    let read = || {
        let source = shoal_model::source::open_with_tokenizer(&model, &tokenizer);
        source.unwrap().tokenizer_files()
    };
    std::fs::write(&tokenizer, b" {\"model\": {}}").unwrap();
    let TokenizerFiles::HuggingFace { tokenizer: bytes, .. } = read().unwrap() else {
        panic!("an object is tokenizer.json");
    };
    assert_eq!(bytes, b" {\"model\": {}}");
    std::fs::write(&tokenizer, b"\x0a\x0e\x0a\x05<unk>").unwrap();
    assert!(matches!(read().unwrap(), TokenizerFiles::SentencePiece { .. }));
    std::fs::write(&tokenizer, b"IQ== 0\nIg== 1\n").unwrap();
    assert!(matches!(read().unwrap(), TokenizerFiles::Tiktoken { .. }));
    std::fs::write(&tokenizer, b"\x0a\0\0\0\0\0\0\0\x01\0\0\0a").unwrap();
    assert!(matches!(read().unwrap(), TokenizerFiles::Llama2c(_)));
    for unknown in [b"".as_slice(), b"hello", b"\0\0\0\0"] {
        std::fs::write(&tokenizer, unknown).unwrap();
        assert!(matches!(read().unwrap_err(), SourceError::UnrecognisedTokenizer { .. }));
    }
}
