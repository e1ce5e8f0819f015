//! Real model files, found through `SHOAL_TEST_DATA`.

use std::path::{Path, PathBuf};

use shoal_model::source::{ElementType, SourceError, TokenizerFiles, open};
use shoal_model::{Family, LinearPart, RopeLayout, TensorRole};

use crate::support::read_all;

/// The folder of models, or nothing when it is not there.
fn models() -> Option<PathBuf> {
    let Some(data) = std::env::var_os("SHOAL_TEST_DATA") else {
        println!("skipped: no shared data");
        return None;
    };
    Some(Path::new(&data).join("models"))
}

const STORIES_BIN: &str = "doryiii+esp32-llm/spiffs_data/stories260K.bin";
const STORIES_GGUF: &str = "onicai+llama_cpp_canister/models/stories260Ktok512.gguf";

#[test]
fn one_model_in_two_formats_has_the_same_weights() {
    let Some(models) = models() else { return };
    let checkpoint = open(&models.join(STORIES_BIN)).unwrap();
    let gguf = open(&models.join(STORIES_GGUF)).unwrap();
    let of_checkpoint = read_all(checkpoint.as_ref()).unwrap();
    let mut of_gguf = read_all(gguf.as_ref()).unwrap();
    // The GGUF file stores the shared head twice, and says another context.
    let head = of_gguf.remove(&TensorRole::OutputHead).unwrap();
    assert_eq!(head, of_gguf[&TensorRole::Embedding]);
    assert_eq!(of_gguf, of_checkpoint);
    let mut expected = checkpoint.architecture().clone();
    assert!(expected.tied_embeddings);
    assert_eq!(expected.context_tokens, 512);
    expected.tied_embeddings = false;
    expected.context_tokens = 128;
    assert_eq!(gguf.architecture(), &expected);
    let count: usize = of_checkpoint.values().map(Vec::len).sum();
    assert_eq!(count, 260_032);
}

#[test]
fn checkpoints_find_their_tokenizers() {
    let Some(models) = models() else { return };
    let checkpoint = open(&models.join(STORIES_BIN)).unwrap();
    let TokenizerFiles::Llama2c(bytes) = checkpoint.tokenizer_files().unwrap() else {
        panic!("tok512.bin is beside it");
    };
    assert_eq!(bytes.len(), 6227);
    let characters = open(&models.join("EN10+BabyLlama/tok105/model5000.bin")).unwrap();
    let tokenizer = characters.tokenizer_files().unwrap();
    assert!(matches!(tokenizer, TokenizerFiles::SentencePiece { .. }));
    let count: usize = read_all(characters.as_ref()).unwrap().values().map(Vec::len).sum();
    assert_eq!(count, 936_448);
}

#[test]
fn int8_checkpoint_is_read() {
    let Some(models) = models() else { return };
    let path = models.join("doryiii+esp32-llm/spiffs_data/stories3M-q80.bin");
    let source = open(&path).unwrap();
    let architecture = source.architecture();
    assert_eq!((architecture.model_width, architecture.mlp_width), (192, 512));
    assert_eq!((architecture.head_count, architecture.kv_head_count), (6, 2));
    assert_eq!((architecture.layer_count, architecture.vocab_count), (6, 4096));
    assert_eq!(architecture.rope.layout, RopeLayout::Interleaved);
    let query = TensorRole::Linear(0, LinearPart::Query);
    let element = ElementType::Int8Groups { group: 64 };
    assert_eq!(source.tensor(query).unwrap().element, element);
    assert_eq!(source.source_bits_per_weight(), 8.5);
    let all = read_all(source.as_ref()).unwrap();
    assert_eq!(all.values().map(Vec::len).sum::<usize>(), 3_148_224);
    // In each group the largest code is 127: a wrong place of scales or codes would show.
    let bytes = std::fs::read(&path).unwrap();
    let norms = 13 * 192 * 4;
    let codes = &bytes[256 + norms..][..64];
    let scale = &bytes[256 + norms + 4096 * 192..][..4];
    let scale = f32::from_le_bytes(scale.try_into().unwrap());
    assert_eq!(codes.iter().map(|&c| (c as i8).unsigned_abs()).max(), Some(127));
    let embedding = &all[&TensorRole::Embedding];
    for (&code, &value) in codes.iter().zip(embedding) {
        assert_eq!(value, f32::from(code as i8) * scale);
    }
}

#[test]
fn hugging_face_folders_are_read() {
    let Some(models) = models() else { return };
    let story = open(&models.join("LearningInfiniTensor+learning-lm-rs/models/story")).unwrap();
    let architecture = story.architecture();
    assert_eq!(architecture.family, Family::Llama);
    assert_eq!(architecture.rope.layout, RopeLayout::Half);
    assert!(architecture.tied_embeddings);
    // The file stores the shared matrix under the name of the head.
    let embedding = story.tensor(TensorRole::Embedding).unwrap();
    assert_eq!(embedding.name, "lm_head.weight");
    let count: usize = read_all(story.as_ref()).unwrap().values().map(Vec::len).sum();
    assert_eq!(count, 656_000);
    let TokenizerFiles::HuggingFace { tokenizer, settings } = story.tokenizer_files().unwrap()
    else {
        panic!("tokenizer.json is there");
    };
    assert_eq!(tokenizer.len(), 86_434);
    assert!(settings.tokenizer_config.is_some() && settings.generation_config.is_some());

    let random = models.join("PrimeIntellect-ai+OpenDiloco/tests/models/llama-2m-fresh");
    let random = open(&random).unwrap();
    assert!(!random.architecture().tied_embeddings);
    read_all(random.as_ref()).unwrap();
    let missing = random.tokenizer_files().unwrap_err();
    assert!(matches!(missing, SourceError::MissingFile { .. }));
}

#[test]
fn random_gguf_of_another_writer_is_read() {
    let Some(models) = models() else { return };
    let source = open(&models.join("ollama+ollama/api/data/llama-2-tiny-random.gguf")).unwrap();
    assert_eq!(source.name(), "LLaMA v2");
    assert_eq!(source.architecture().head_width, 4);
    read_all(source.as_ref()).unwrap();
    let TokenizerFiles::Gguf(vocabulary) = source.tokenizer_files().unwrap() else {
        panic!("a GGUF file has its vocabulary");
    };
    assert_eq!(vocabulary.tokens.len(), 32_000);
    assert_eq!((vocabulary.bos_id, vocabulary.eos_id), (Some(1), Some(2)));
}

#[test]
fn hostile_files_are_refused_with_the_reason() {
    let Some(models) = models() else { return };
    let corpus = models.join("Joakimpalm-Zen+gridcore-runner/tests/fuzz/corpus/gguf_open");
    let fixtures = models.join("las7+weight-inspect/tests/fixtures");
    for (folder, file, reason) in [
        (&corpus, "bad-version.bin", "byte 4: the version is 2 or 3"),
        (&corpus, "hdr-suppress-eos.gguf", "byte 8181: 19 bytes needed, the file has 8192"),
        (
            &corpus,
            "hdr-wrap-first-offset.gguf",
            "byte 6446: a tensor offset is a multiple of the alignment",
        ),
        (&corpus, "hdr-zero-first-dim.gguf", "byte 6422: a dimension is not 0"),
        (&corpus, "huge-counts.bin", "byte 8: tensors 18446744073709551615, limit 65536"),
        (&corpus, "kv-arr-huge-n.bin", "byte 49: 34359738360 bytes needed, the file has 49"),
        (&corpus, "kv-huge-strlen.bin", "byte 24: bytes of a key 281474976710655, limit 65535"),
        (&corpus, "magic-only.bin", "byte 4: 4 bytes needed, the file has 4"),
        (&corpus, "tensor-huge-dims.bin", "byte 33: the size of a tensor fits 64 bits"),
        (&corpus, "trunc-magic.bin", "byte 0: 4 bytes needed, the file has 3"),
        (&corpus, "v3-empty.bin", "general.architecture is missing"),
        (&corpus, "valid-small.gguf", "llama.embedding_length is missing"),
        (&fixtures, "empty.gguf", "llama.embedding_length is missing"),
        (&fixtures, "tiny.gguf", "byte 128: 32768 bytes needed, the file has 122"),
    ] {
        let path = folder.join(file);
        let error = open(&path).unwrap_err().to_string();
        assert_eq!(error, format!("{}: {reason}", path.display()));
    }
    let error = open(&fixtures.join("tiny.safetensors")).unwrap_err();
    assert!(matches!(error, SourceError::Unrecognised { .. }));
}
