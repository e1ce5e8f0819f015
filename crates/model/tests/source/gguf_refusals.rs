//! GGUF files that break a rule: the error names file, place and rule.

use shoal_model::source::SourceError;
use shoal_model::source::gguf::GgufFile;
use shoal_model::{Family, RopeLayout};

use crate::support::{GgufBytes, Meta, open, tiny};

fn llama() -> GgufBytes {
    GgufBytes::model(&tiny(Family::Llama, RopeLayout::Interleaved))
}

/// The message for a file with one thing changed.
fn refusal(damage: impl FnOnce(&mut GgufBytes)) -> String {
    let mut file = llama();
    damage(&mut file);
    open("m.gguf", file.build()).unwrap_err().to_string()
}

#[test]
fn damaged_headers_are_refused_where_they_are_damaged() {
    let file = llama().build();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = file.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        let input = shoal_model::source::Input::from_bytes("m.gguf", file);
        GgufFile::parse(input).unwrap_err().to_string()
    };
    let cases: [(usize, &[u8], &str); 9] = [
        (0, b"X", "m.gguf: byte 0: a GGUF file starts with \"GGUF\""),
        (4, &[1, 0, 0, 0], "m.gguf: byte 4: the version is 2 or 3"),
        (4, &[0, 0, 0, 0], "m.gguf: byte 4: the version is 2 or 3"),
        (4, &[0, 0, 0, 3], "m.gguf: byte 4: big-endian files are not supported"),
        (8, &[0xff; 8], "m.gguf: byte 8: tensors 18446744073709551615, limit 65536"),
        (16, &[0, 0, 2], "m.gguf: byte 16: metadata entries 131072, limit 65536"),
        (24, &[0, 0, 1], "m.gguf: byte 24: bytes of a key 65536, limit 65535"),
        (32, &[0xff], "m.gguf: byte 24: text is UTF-8"),
        (52, &[13], "m.gguf: byte 52: a value type is 0 to 12"),
    ];
    for (at, bytes, message) in cases {
        assert_eq!(with(at, bytes), message);
    }
}

#[test]
fn metadata_that_breaks_a_rule_is_refused() {
    let set = |key: &'static str, value: Meta| move |file: &mut GgufBytes| file.set(key, value);
    let array_of_arrays = Meta::Array(9, 1, vec![0; 12]);
    assert!(refusal(set("x", array_of_arrays)).ends_with(": an array holds no arrays"));
    let huge = || Meta::Array(12, u64::MAX, vec![]);
    assert!(refusal(set("x", huge())).ends_with(": an array fits the file"));
    let huge = Meta::Array(8, u64::MAX / 4, vec![]);
    assert!(refusal(set("x", huge)).ends_with(": an array fits the file"));
    let long = Meta::Array(0, 1 << 40, vec![]);
    assert!(refusal(set("x", long)).contains("1099511627776 bytes needed"));
    let long = Meta::Array(8, 1 << 20, vec![]);
    assert!(refusal(set("x", long)).contains("8388608 bytes needed"));
    let long = Meta::Raw(8, u64::MAX.to_le_bytes().to_vec());
    assert!(refusal(set("x", long)).contains("18446744073709551615 bytes needed"));
    assert!(refusal(set("x", Meta::Bool(2))).ends_with(": a bool is 0 or 1"));
    assert!(refusal(set("", Meta::Bool(1))).ends_with(": a key is not empty"));
    let twice = |file: &mut GgufBytes| {
        let entry = file.metadata[3].clone();
        file.metadata.push(entry);
    };
    assert!(refusal(twice).ends_with(": \"llama.block_count\" occurs twice"));
    for alignment in [0, 24] {
        let message = "m.gguf: general.alignment: a power of two";
        let value = Meta::U32(alignment);
        assert_eq!(refusal(set("general.alignment", value)), message);
    }
}

#[test]
fn settings_of_the_wrong_kind_or_absent_are_named() {
    let width = "llama.embedding_length";
    let integer = "m.gguf: llama.embedding_length: an integer in 0..2^32";
    for value in [Meta::F32(12.0), Meta::I32(-12), Meta::U64(1 << 32), Meta::Text("12")] {
        assert_eq!(refusal(|file| file.set(width, value)), integer);
    }
    assert_eq!(
        refusal(|file| file.set("llama.rope.freq_base", Meta::F64(f64::NAN))),
        "m.gguf: llama.rope.freq_base: a finite float"
    );
    for key in [
        "general.architecture",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
    ] {
        let message = format!("m.gguf: {key} is missing");
        assert_eq!(refusal(|file| file.remove(key)), message);
    }
    assert_eq!(
        refusal(|file| file.set("llama.attention.value_length", Meta::U32(6))),
        "m.gguf: llama.attention.value_length: equal to the width of the keys"
    );
    assert_eq!(
        refusal(|file| file.set("llama.rope.dimension_count", Meta::U32(3))),
        "m.gguf: architecture: rope.dims even"
    );
    assert_eq!(
        refusal(|file| file.set("llama.attention.head_count", Meta::U32(0))),
        "m.gguf: architecture: head_count in 1..=1024"
    );
}

#[test]
fn models_of_other_kinds_are_refused_by_name() {
    assert_eq!(
        refusal(|file| file.set("general.architecture", Meta::Text("gemma3"))),
        "m.gguf: architecture \"gemma3\" is not supported; accepted: llama, qwen2, qwen3"
    );
    assert_eq!(
        refusal(|file| file.set("llama.expert_count", Meta::U32(8))),
        "m.gguf: mixture of experts is not supported yet"
    );
    open("m.gguf", {
        let mut file = llama();
        file.set("llama.expert_count", Meta::U32(0));
        file.build()
    })
    .unwrap();
    for (key, value, shown) in [
        ("attention.causal", Meta::Bool(0), "false"),
        ("attention.scale", Meta::F32(0.5), "0.5"),
        ("final_logit_softcapping", Meta::F32(30.0), "30"),
        ("rope.scaling.type", Meta::Text("longrope"), "\"longrope\""),
        ("rope.scaling.attn_factor", Meta::F32(2.0), "2"),
    ] {
        let key = format!("llama.{key}");
        let message = format!("m.gguf: {key} = {shown} is not supported");
        assert_eq!(refusal(|file| file.set(&key, value)), message);
    }
    let pattern = Meta::Array(7, 2, vec![0, 1]);
    assert_eq!(
        refusal(|file| file.set("llama.attention.sliding_window_pattern", pattern)),
        "m.gguf: llama.attention.sliding_window_pattern = anything is not supported"
    );
    let yarn = |file: &mut GgufBytes| {
        file.set("llama.rope.scaling.type", Meta::Text("yarn"));
        file.set("llama.rope.scaling.yarn_log_multiplier", Meta::F32(0.1));
    };
    assert!(refusal(yarn).contains("yarn_log_multiplier = 0.1"));
    let norms = |file: &mut GgufBytes| {
        let mut norm = file.tensor("blk.0.attn_norm.weight").clone();
        norm.name = "blk.0.attn_q_norm.weight".to_owned();
        file.tensors.push(norm);
    };
    assert!(refusal(norms).contains("\"blk.0.attn_q_norm.weight\" has no place"));
}

#[test]
fn tensors_that_break_a_rule_are_refused() {
    let name = "blk.0.attn_q.weight";
    let kind = |kind| move |file: &mut GgufBytes| file.tensor(name).kind = kind;
    let quoted = "m.gguf: tensor \"blk.0.attn_q.weight\"";
    assert_eq!(refusal(kind(16)), format!("{quoted}: element type IQ2_XXS is not supported"));
    assert_eq!(refusal(kind(99)), format!("{quoted}: element type 99 is not supported"));
    let block = "the first dimension is a multiple of the block of the type";
    assert!(refusal(kind(2)).ends_with(block));
    let shape = |shape: &'static [u64]| {
        move |file: &mut GgufBytes| file.tensor(name).dimensions = shape.to_vec()
    };
    assert!(refusal(shape(&[12, 0])).ends_with(": a dimension is not 0"));
    let overflow = ": the size of a tensor fits 64 bits";
    assert!(refusal(shape(&[1 << 40, 1 << 40])).ends_with(overflow));
    assert!(refusal(shape(&[])).ends_with(": dimensions 0, limit 4"));
    assert!(refusal(shape(&[1; 5])).ends_with(": dimensions 5, limit 4"));
    assert_eq!(
        refusal(shape(&[16, 12])),
        format!("{quoted} has dimensions [12, 16] (slowest first), expected [16, 12]")
    );
    let vector = format!("{quoted} has dimensions [12] (slowest first), expected [16, 12]");
    assert_eq!(refusal(shape(&[12])), vector);
    let offset = |offset| move |file: &mut GgufBytes| file.tensor(name).offset = Some(offset);
    let unaligned = ": a tensor offset is a multiple of the alignment";
    assert!(refusal(offset(33)).ends_with(unaligned));
    assert!(refusal(offset(0)).ends_with(": tensors do not overlap"));
    assert!(refusal(offset(1 << 30)).contains(": 768 bytes needed, the file has "));
    assert!(refusal(offset(u64::MAX - 31)).ends_with(": a tensor offset is in the file"));
    let renamed = |file: &mut GgufBytes| file.tensor(name).name = "mm.0.weight".to_owned();
    assert_eq!(refusal(renamed), format!("{quoted} is missing"));
    let extra = |file: &mut GgufBytes| {
        let mut tensor = file.tensor(name).clone();
        tensor.name = "v.\u{7}".to_owned();
        file.tensors.push(tensor);
    };
    let message = "m.gguf: tensor \"v.\\u{7}\" has no place in this architecture";
    assert_eq!(refusal(extra), message);
    let twice = |file: &mut GgufBytes| {
        let tensor = file.tensor(name).clone();
        file.tensors.push(tensor);
    };
    assert!(refusal(twice).ends_with(": \"blk.0.attn_q.weight\" occurs twice"));
    let long = |file: &mut GgufBytes| file.tensor(name).name = "x".repeat(257);
    assert!(refusal(long).ends_with(": bytes of a tensor name 257, limit 256"));
    let none = |file: &mut GgufBytes| file.tensors.clear();
    assert!(refusal(none).ends_with("tensor \"token_embd.weight\" is missing"));
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let file = llama().build();
    for len in 0..file.len() - 31 {
        assert!(open("m.gguf", file[..len].to_vec()).is_err(), "{len}");
    }
    let error = open("m.gguf", file[..file.len() - 400].to_vec()).unwrap_err();
    assert!(matches!(error, SourceError::Truncated { .. }), "{error}");
}
