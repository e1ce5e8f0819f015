//! Any change of a valid file gives a model or an error, never a panic.

use proptest::prelude::*;
use shoal_model::source::fuzz;
use shoal_model::{Family, RopeLayout};

use crate::support::{GgufBytes, Meta, tiny};

/// A small GGUF model with a vocabulary, biases and several formats.
pub(crate) fn gguf_model() -> Vec<u8> {
    let mut file = GgufBytes::model(&tiny(Family::Qwen2, RopeLayout::Half));
    file.set("general.name", Meta::Text("hostile"));
    file.set("tokenizer.ggml.model", Meta::Text("llama"));
    file.set("tokenizer.ggml.tokens", Meta::texts(&[b"a", b"b", b"c"]));
    file.set("tokenizer.ggml.scores", Meta::Array(6, 3, vec![0; 12]));
    file.set("tokenizer.ggml.token_type", Meta::Array(5, 3, vec![1; 12]));
    file.set("tokenizer.ggml.add_bos_token", Meta::Bool(1));
    file.set("tokenizer.chat_template", Meta::Text("{{ messages }}"));
    file.set("qwen2.rope.scaling.type", Meta::Text("yarn"));
    file.set("qwen2.rope.scaling.factor", Meta::F32(2.0));
    file.build()
}

/// A llama2.c file of version 2, which has the most checks of the three.
pub(crate) fn llama2c_model() -> Vec<u8> {
    let mut out = b"24ka".to_vec();
    for field in [2_u32, 8, 8, 1, 2, 2, 16, 16] {
        out.extend(field.to_le_bytes());
    }
    out.push(1);
    out.extend(4_u32.to_le_bytes());
    out.resize(256, 0);
    out.extend(vec![0; 3 * 8 * 4]);
    let elements = 16 * 8 + 7 * 64;
    out.extend(vec![1; elements + elements]);
    out
}

fn hugging_face_model() -> crate::hugging_face::Files {
    crate::hugging_face::folder(&tiny(Family::Qwen3, RopeLayout::Half))
}

/// A change of a file.
#[derive(Clone, Debug)]
enum Change {
    Flip(usize, u8),
    Set(usize, u8),
    Cut(usize),
    Insert(usize, u8),
    /// A number at a place, as lengths and counts are.
    Number(usize, u64),
}

fn change() -> impl Strategy<Value = Change> {
    let edges = prop_oneof![
        Just(0),
        Just(1),
        Just(u64::from(u32::MAX)),
        Just(u64::MAX),
        Just(1 << 31),
        Just(1 << 63),
        any::<u64>(),
        0..512_u64,
    ];
    prop_oneof![
        (any::<usize>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        any::<usize>().prop_map(Change::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, byte)| Change::Insert(at, byte)),
        (any::<usize>(), edges).prop_map(|(at, number)| Change::Number(at, number)),
    ]
}

/// Applies changes within the first `reach` bytes, where the header is.
fn apply(file: &mut Vec<u8>, changes: &[Change], reach: usize) {
    for change in changes {
        let reach = reach.min(file.len());
        if reach == 0 {
            return;
        }
        match *change {
            Change::Flip(at, bit) => file[at % reach] ^= 1 << bit,
            Change::Set(at, byte) => file[at % reach] = byte,
            Change::Cut(at) => file.truncate(at % file.len()),
            Change::Insert(at, byte) => file.insert(at % reach, byte),
            Change::Number(at, number) => {
                let at = at % reach;
                let end = (at + 8).min(file.len());
                file[at..end].copy_from_slice(&number.to_le_bytes()[..end - at]);
            }
        }
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    proptest::collection::vec(change(), 1..4)
}

#[test]
fn unchanged_models_are_accepted() {
    fuzz::model_file(&gguf_model()).unwrap();
    fuzz::gguf_header(&gguf_model()).unwrap();
    fuzz::model_file(&llama2c_model()).unwrap();
    fuzz::hugging_face_folder(hugging_face_model()).unwrap();
}

#[test]
fn every_single_bit_of_a_header_may_flip() {
    for file in [gguf_model(), llama2c_model()] {
        let header = file.len().min(4096);
        for bit in 0..8 * header {
            let mut damaged = file.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let _ = fuzz::model_file(&damaged);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changed_gguf_files_do_not_panic(changes in changes(), whole in any::<bool>()) {
        let mut file = gguf_model();
        let reach = if whole { file.len() } else { 2500 };
        apply(&mut file, &changes, reach);
        let _ = fuzz::model_file(&file);
        let _ = fuzz::gguf_header(&file);
    }

    #[test]
    fn changed_checkpoints_do_not_panic(changes in changes()) {
        let mut file = llama2c_model();
        apply(&mut file, &changes, 64);
        let _ = fuzz::model_file(&file);
    }

    #[test]
    fn changed_folders_do_not_panic(changes in changes(), weights in any::<bool>()) {
        let mut files = hugging_face_model();
        let name = if weights { "model.safetensors" } else { "config.json" };
        apply(files.get_mut(name).unwrap(), &changes, 3000);
        let _ = fuzz::hugging_face_folder(files);
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = fuzz::model_file(&bytes);
        let _ = fuzz::model_file(&[b"GGUF\x03\0\0\0".as_slice(), &bytes].concat());
        let _ = fuzz::gguf_header(&bytes);
        let _ = fuzz::hugging_face_config(&bytes);
        let _ = fuzz::hugging_face_weights(&hugging_face_model()["config.json"], &bytes);
        let _ = fuzz::tokenizer_file(&bytes);
    }
}
