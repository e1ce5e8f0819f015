//! llama2.c checkpoints, written here as its exporter writes them.

use shoal_model::source::{ElementType, SourceError};
use shoal_model::{Architecture, Family, LinearPart, NormPart, RopeLayout, TensorRole};

use crate::support::{assert_weights, f32_bytes, open, read_all, tiny, weights};

/// The format's own shape: head width follows from the width.
fn small(tied: bool) -> Architecture {
    let mut architecture = tiny(Family::Llama, RopeLayout::Interleaved);
    architecture.model_width = 16;
    architecture.tied_embeddings = tied;
    architecture
}

fn fields(a: &Architecture, vocab_sign: i32) -> Vec<u8> {
    let fields = [
        a.model_width as i32,
        a.mlp_width as i32,
        a.layer_count as i32,
        a.head_count as i32,
        a.kv_head_count as i32,
        a.vocab_count as i32 * vocab_sign,
        a.context_tokens as i32,
    ];
    fields.iter().flat_map(|field| field.to_le_bytes()).collect()
}

fn norms(a: &Architecture, part: NormPart) -> Vec<u8> {
    let norm = |layer| weights(TensorRole::Norm(layer, part), (1, a.model_width as usize));
    (0..a.layer_count).flat_map(|layer| f32_bytes(&norm(layer))).collect()
}

fn linear(a: &Architecture, part: LinearPart, encode: &dyn Fn(&[f32]) -> Vec<u8>) -> Vec<u8> {
    let map = |layer| weights(TensorRole::Linear(layer, part), a.linear_shape(part));
    (0..a.layer_count).flat_map(|layer| encode(&map(layer))).collect()
}

fn matrix(a: &Architecture, role: TensorRole) -> Vec<f32> {
    weights(role, (a.vocab_count as usize, a.model_width as usize))
}

fn final_norm(a: &Architecture) -> Vec<u8> {
    f32_bytes(&weights(TensorRole::FinalNorm, (1, a.model_width as usize)))
}

fn legacy(a: &Architecture) -> Vec<u8> {
    use LinearPart::{AttentionOutput, Down, Gate, Key, Query, Up, Value};
    let mut out = fields(a, if a.tied_embeddings { 1 } else { -1 });
    out.extend(f32_bytes(&matrix(a, TensorRole::Embedding)));
    out.extend(norms(a, NormPart::Attention));
    for part in [Query, Key, Value, AttentionOutput] {
        out.extend(linear(a, part, &f32_bytes));
    }
    out.extend(norms(a, NormPart::Mlp));
    for part in [Gate, Down, Up] {
        out.extend(linear(a, part, &f32_bytes));
    }
    out.extend(final_norm(a));
    // Tables of cosines and sines, which are not looked at: put in what would be refused.
    let tables = (a.context_tokens * a.head_width) as usize;
    out.extend(f32_bytes(&vec![f32::NAN; tables]));
    if !a.tied_embeddings {
        out.extend(f32_bytes(&matrix(a, TensorRole::OutputHead)));
    }
    out
}

fn modern(a: &Architecture, version: u32, encode: &dyn Fn(&[f32]) -> Vec<u8>) -> Vec<u8> {
    use LinearPart::{AttentionOutput, Down, Gate, Key, Query, Up, Value};
    let mut out = b"24ka".to_vec();
    out.extend(version.to_le_bytes());
    out.extend(fields(a, 1));
    out.push(u8::from(a.tied_embeddings));
    if version == 2 {
        out.extend(GROUP.to_le_bytes());
    }
    out.resize(256, 0);
    out.extend(norms(a, NormPart::Attention));
    out.extend(norms(a, NormPart::Mlp));
    out.extend(final_norm(a));
    out.extend(encode(&matrix(a, TensorRole::Embedding)));
    for part in [Query, Key, Value, AttentionOutput, Gate, Down, Up] {
        out.extend(linear(a, part, encode));
    }
    if !a.tied_embeddings {
        out.extend(encode(&matrix(a, TensorRole::OutputHead)));
    }
    out
}

/// No divisor of a row, so that groups cross rows.
const GROUP: u32 = 8;

/// Weights of `k / 128` as codes `k` with scale 1/128 in even groups, `k / 2` rounded with 1/64 in
/// odd ones.
fn groups(values: &[f32]) -> Vec<u8> {
    let (mut codes, mut scales) = (Vec::new(), Vec::new());
    for (index, group) in values.chunks(GROUP as usize).enumerate() {
        let steps = if index % 2 == 0 { 128.0 } else { 64.0 };
        codes.extend(group.iter().map(|value| (value * steps) as i8 as u8));
        scales.push(1.0 / steps);
    }
    [codes, f32_bytes(&scales)].concat()
}

fn grouped(values: &[f32]) -> Vec<f32> {
    let group = |(index, group): (usize, &[f32])| {
        let steps = if index % 2 == 0 { 128.0 } else { 64.0 };
        let value = move |value: &f32| (value * steps).trunc() / steps;
        group.iter().map(value).collect::<Vec<_>>()
    };
    values.chunks(GROUP as usize).enumerate().flat_map(group).collect()
}

#[test]
fn float_versions_keep_their_weights_with_shared_and_separate_heads() {
    for tied in [true, false] {
        let architecture = small(tied);
        for bytes in [legacy(&architecture), modern(&architecture, 1, &f32_bytes)] {
            let source = open("m.bin", bytes).unwrap();
            assert_eq!(source.architecture(), &architecture);
            assert_eq!(source.name(), "m");
            assert_weights(source.as_ref());
        }
    }
}

#[test]
fn int8_groups_are_scaled_also_where_they_cross_rows() {
    for tied in [true, false] {
        let architecture = small(tied);
        let source = open("m.bin", modern(&architecture, 2, &groups)).unwrap();
        assert_eq!(source.architecture(), &architecture);
        let element = ElementType::Int8Groups { group: GROUP };
        let role = TensorRole::Linear(1, LinearPart::Down);
        assert_eq!(source.tensor(role).unwrap().element, element);
        assert_eq!(source.source_bits_per_weight(), 12.0);
        for (role, values) in read_all(source.as_ref()).unwrap() {
            let info = source.tensor(role).unwrap();
            let original = weights(role, (info.rows, info.columns));
            let expected = match info.element {
                ElementType::F32 => original,
                _ => grouped(&original),
            };
            assert_eq!(values, expected, "{role:?}");
        }
    }
}

#[test]
fn wrong_lengths_and_headers_are_refused() {
    let good = legacy(&small(true));
    let message = |bytes: Vec<u8>| open("m.bin", bytes).unwrap_err().to_string();
    let mut long = good.clone();
    long.push(0);
    let rule = "the file ends with the last tensor that the header asks for";
    assert_eq!(message(long), format!("m.bin: byte {}: {rule}", good.len()));
    for len in 0..good.len() {
        let error = open("m.bin", good[..len].to_vec()).unwrap_err();
        assert!(matches!(error, SourceError::Truncated { .. }), "{len}: {error}");
    }
    let with = |field: usize, value: i32| {
        let mut bytes = good.clone();
        bytes[4 * field..][..4].copy_from_slice(&value.to_le_bytes());
        message(bytes)
    };
    assert_eq!(with(0, -16), "m.bin: byte 0: no dimension is negative");
    let multiple = "m.bin: byte 0: the width is a multiple of the number of heads";
    assert_eq!(with(0, 18), multiple);
    assert_eq!(with(3, 0), multiple);
    assert_eq!(with(2, i32::MAX), "m.bin: architecture: layer_count in 1..=1024");
    assert_eq!(with(5, i32::MIN), "m.bin: architecture: vocab_count in 1..=2^20");
    assert_eq!(with(4, 3), "m.bin: architecture: kv_head_count a divisor of head_count");

    let modern = modern(&small(true), 2, &groups);
    let with = |at: usize, value: u8| {
        let mut bytes = modern.clone();
        bytes[at] = value;
        message(bytes)
    };
    assert_eq!(with(4, 3), "m.bin: byte 4: the version is 1 or 2");
    assert_eq!(with(36, 2), "m.bin: byte 36: a bool is 0 or 1");
    assert_eq!(with(37, 0), "m.bin: byte 37: the group size is not 0");
    let divides = "the group size divides the number of elements";
    assert!(with(37, 7).ends_with(divides));
}

#[test]
fn the_tokenizer_beside_is_found_by_the_size_of_the_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.bin");
    std::fs::write(&model, legacy(&small(true))).unwrap();
    let open = || shoal_model::source::open(&model).unwrap().tokenizer_files();
    let missing = open().unwrap_err().to_string();
    let names = "tok11.bin or tokenizer.bin or tok11.model or tokenizer.model is missing";
    assert!(missing.ends_with(names), "{missing}");
    let tokens = |longest: u8| vec![longest, 0, 0, 0];
    std::fs::write(folder.path().join("tokenizer.bin"), tokens(5)).unwrap();
    std::fs::write(folder.path().join("tok12.bin"), tokens(6)).unwrap();
    let shoal_model::source::TokenizerFiles::Llama2c(bytes) = open().unwrap() else {
        panic!("a llama2.c tokenizer");
    };
    assert_eq!(bytes[0], 5);
    std::fs::write(folder.path().join("tok11.bin"), tokens(7)).unwrap();
    let shoal_model::source::TokenizerFiles::Llama2c(bytes) = open().unwrap() else {
        panic!("a llama2.c tokenizer");
    };
    assert_eq!(bytes[0], 7);
}

#[test]
fn files_of_other_kinds_are_not_taken_for_checkpoints() {
    let accepted = "not a model; accepted are a GGUF file, a folder with config.json and \
                    *.safetensors, a llama2.c checkpoint (.bin)";
    for (name, bytes) in [
        ("pytorch_model.bin", b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".to_vec()),
        ("model.safetensors", vec![8; 100]),
        ("notes.txt", b"hello".to_vec()),
        ("empty", vec![]),
    ] {
        let error = open(name, bytes).unwrap_err();
        assert_eq!(error.to_string(), format!("{name}: {accepted}"));
    }
    #[cfg(unix)]
    {
        let error = shoal_model::source::open(std::path::Path::new("/dev/zero")).unwrap_err();
        assert_eq!(error.to_string(), "/dev/zero: not a regular file");
    }
}
