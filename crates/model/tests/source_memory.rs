//! How much memory a model file can make the reader take. Alone in its process, because the count
//! is of the whole process.
#![expect(clippy::print_stdout, reason = "functions that tests share are tests too")]

use std::collections::BTreeMap;

use peak_alloc::PeakAlloc;
use shoal_model::source::gguf::{GgufWriter, export_metadata, export_tensors};
use shoal_model::source::{ElementType, GgufVocabulary, fuzz};
use shoal_model::{Architecture, Family, Rope, RopeLayout, RopeScaling};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// What opening may take beyond a multiple of the file: the window of a cursor, an architecture, a
/// chunk of rows, an error message.
const FIXED_BYTES: usize = 256 << 10;
/// Bytes per byte of the file: the file itself, which is in memory here, and what is made of it.
const FACTOR: usize = 8;

/// The most that a reader holds at a time.
fn taken(read: impl FnOnce()) -> usize {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    read();
    ALLOCATOR.peak_usage().saturating_sub(before)
}

/// Runs a reader on a file and checks what it took.
fn check(what: &str, size: usize, read: impl FnOnce()) {
    let taken = taken(read);
    let limit = FACTOR * size + FIXED_BYTES;
    println!("{what}: {size} bytes, {taken} taken");
    assert!(taken <= limit, "{what}: {size} bytes make {taken}, limit {limit}");
}

fn text(bytes: &[u8]) -> Vec<u8> {
    [(bytes.len() as u64).to_le_bytes().as_slice(), bytes].concat()
}

fn gguf(tensors: u64, entries: u64, rest: &[u8]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(tensors.to_le_bytes());
    file.extend(entries.to_le_bytes());
    file.extend(rest);
    file
}

/// An entry with an array: element type, count, bytes.
fn array(key: &str, kind: u32, count: u64, bytes: &[u8]) -> Vec<u8> {
    let mut entry = text(key.as_bytes());
    entry.extend(9_u32.to_le_bytes());
    entry.extend(kind.to_le_bytes());
    entry.extend(count.to_le_bytes());
    entry.extend(bytes);
    entry
}

/// Files that announce much more than they have, or have as many small things as fit.
fn gguf_files() -> Vec<(&'static str, Vec<u8>)> {
    let model = [text(b"tokenizer.ggml.model"), vec![8, 0, 0, 0], text(b"llama")].concat();
    let many_empty_pieces = array("tokenizer.ggml.tokens", 8, 60_000, &vec![0; 8 * 60_000]);
    let pieces = [model.clone(), many_empty_pieces].concat();
    let announced = array("tokenizer.ggml.tokens", 8, 1 << 60, &[0; 64]);
    let bytes = array("tokenizer.ggml.token_type", 0, 200_000, &vec![1; 200_000]);
    let tokens = array("tokenizer.ggml.tokens", 8, 1, &[0; 8]);
    let types = [model, tokens, bytes].concat();
    let entry = |i: u32| [text(i.to_string().as_bytes()), vec![0, 0, 0, 0, 1]].concat();
    let entries: Vec<u8> = (0..60_000_u32).flat_map(entry).collect();
    let tensor = |i: u32| {
        let name = text(format!("{i:05}").as_bytes());
        let shape = [[1, 0, 0, 0].as_slice(), &1_u64.to_le_bytes()].concat();
        let offset = u64::from(i) * 32;
        [name, shape, vec![0; 4], offset.to_le_bytes().to_vec()].concat()
    };
    let data = vec![0; 20_000 * 32 + 64];
    let tensors: Vec<u8> = (0..20_000).flat_map(tensor).chain(data).collect();
    vec![
        ("huge counts", gguf(u64::MAX, u64::MAX, &[])),
        ("huge counts within the limits", gguf(65_536, 65_536, &[0; 64])),
        ("huge text", gguf(0, 1, &[255; 64])),
        ("announced pieces", gguf(0, 1, &announced)),
        ("empty pieces", gguf(0, 2, &pieces)),
        ("small integers", gguf(0, 3, &types)),
        ("many entries", gguf(0, 60_000, &entries)),
        ("many tensors", gguf(20_000, 0, &tensors)),
    ]
}

fn wide_array(element: &str) -> String {
    format!("[{}]", vec![element; 200_000].join(","))
}

fn folder(config: &str, weights: Vec<u8>) -> BTreeMap<String, Vec<u8>> {
    let files = [("config.json", config.into()), ("model.safetensors", weights)];
    files.map(|(name, bytes)| (name.to_owned(), bytes)).into()
}

/// A configuration of the largest model that is accepted.
const LARGEST: &str = r#"{"architectures": ["LlamaForCausalLM"], "vocab_size": 1048576,
    "hidden_size": 131072, "intermediate_size": 131072, "num_hidden_layers": 1024,
    "num_attention_heads": 1024, "num_key_value_heads": 1024, "max_position_embeddings": 1048576}"#;

fn safetensors(header: &[u8]) -> Vec<u8> {
    [(header.len() as u64).to_le_bytes().as_slice(), header].concat()
}

/// A valid file that the crate wrote, for damage.
fn written_model() -> Vec<u8> {
    let architecture = Architecture {
        family: Family::Qwen3,
        vocab_count: 50,
        model_width: 16,
        layer_count: 3,
        head_count: 2,
        kv_head_count: 1,
        head_width: 8,
        mlp_width: 24,
        context_tokens: 128,
        norm_epsilon: 1e-6,
        rope: Rope {
            theta: 1e6,
            dims: 8,
            layout: RopeLayout::Half,
            scaling: RopeScaling::Linear { factor: 2.0 },
        },
        sliding_window: None,
        tied_embeddings: true,
        qkv_bias: false,
        output_bias: false,
        mlp_bias: false,
        qk_norm: true,
    };
    let vocabulary = GgufVocabulary {
        model: "gpt2".to_owned(),
        tokens: (0..50).map(|i| vec![i]).collect(),
        ..GgufVocabulary::default()
    };
    let f16 = ElementType::F16;
    let metadata = export_metadata("m", &architecture, f16, &vocabulary, None);
    let tensors = export_tensors(&architecture, f16);
    let plans: Vec<_> = tensors.into_iter().map(|tensor| tensor.plan).collect();
    let metadata = metadata.expect("a qwen3 can be exported");
    let mut writer =
        GgufWriter::try_new(Vec::new(), &metadata, plans.clone()).expect("the plan is sound");
    for plan in plans {
        let rows = vec![0.5; plan.rows * plan.columns];
        writer.write_rows(&rows).expect("memory takes everything");
    }
    writer.finish().expect("all rows were written")
}

fn damaged_models_take_little() {
    let file = written_model();
    fuzz::model_file(&file).expect("the file is sound");
    let mut damaged = file.clone();
    // Every bit of the header, in steps that meet all positions of a byte.
    for bit in (0..8 * 4096).step_by(3) {
        damaged[bit / 8] ^= 1 << (bit % 8);
        let taken = taken(|| drop(fuzz::model_file(&damaged)));
        assert!(taken <= FACTOR * file.len() + FIXED_BYTES, "bit {bit}: {taken}");
        damaged[bit / 8] ^= 1 << (bit % 8);
    }
}

fn large_announcements_take_little() {
    for (what, file) in gguf_files() {
        check(what, file.len(), || {
            let _ = fuzz::gguf_header(&file);
            let _ = fuzz::model_file(&file);
        });
    }
    let mut largest = b"24ka\x01\0\0\0".to_vec();
    for field in [131_072_u32, 131_072, 1024, 1024, 1024, 1 << 20, 1 << 20] {
        largest.extend(field.to_le_bytes());
    }
    largest.resize(300, 0);
    check("largest checkpoint", largest.len(), || {
        assert!(fuzz::model_file(&largest).is_err());
    });
}

const ENTRY: &str = r#"{"dtype":"F32","shape":[],"data_offsets":[0,4]}"#;

fn wide_weights_take_little() {
    let many: Vec<_> = (0..20_000).map(|i| format!("\"{i}\":{ENTRY}")).collect();
    let repeated = |text: &str| text.repeat(200_000);
    for (what, header) in [
        ("many tensors", format!("{{{}}}", many.join(","))),
        ("deep", "{\"a\":".repeat(50_000)),
        ("wide", format!("{{\"a\":[{}", repeated("[],"))),
        ("long shape", format!("{{\"a\":{{\"shape\":[{}", repeated("1,"))),
        ("metadata", format!("{{\"__metadata__\":[{}", repeated("{},"))),
    ] {
        let files = folder(LARGEST, safetensors(header.as_bytes()));
        check(what, header.len(), || {
            assert!(fuzz::hugging_face_folder(files).is_err());
        });
    }
}

fn wide_settings_take_little() {
    // Templates are read before tensors are given their places.
    let one = format!("{{\"a\":{ENTRY}}}");
    let one = [safetensors(one.as_bytes()), vec![0; 4]].concat();
    for (what, template) in [
        ("wide template", wide_array("[]")),
        ("empty templates", wide_array(r#"{"name":"","template":""}"#)),
        ("long template", format!("\"{}\"", "x".repeat(2 << 20))),
    ] {
        let mut files = folder(LARGEST, one.clone());
        let config = format!("{{\"chat_template\":{template}}}").into_bytes();
        let size = config.len();
        files.insert("tokenizer_config.json".to_owned(), config);
        check(what, size, || {
            let error = fuzz::hugging_face_folder(files).expect_err("no template is so long");
            assert!(error.to_string().starts_with("tokenizer_config.json: "));
        });
    }
    for (key, element) in [("x", "[]"), ("architectures", "\"\""), ("layer_types", "\"\"")] {
        let config = format!("{{\"{key}\":{}}}", wide_array(element));
        check(key, config.len(), || {
            let _ = fuzz::hugging_face_config(config.as_bytes());
        });
    }
}

#[test]
fn no_file_takes_more_than_a_small_multiple_of_its_size() {
    large_announcements_take_little();
    wide_weights_take_little();
    wide_settings_take_little();
    damaged_models_take_little();
}
