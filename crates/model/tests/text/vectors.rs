//! Published vectors: text and the ids that its publisher's tokenizer gives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;
use shoal_base::TokenId;
use shoal_model::tokenizer::{EncodeOptions, TiktokenProfile, Tokenizer, TokenizerSpec};

use crate::support::{self, BARE};

fn gguf(path: impl AsRef<Path>) -> Arc<Tokenizer> {
    let spec = TokenizerSpec::from_gguf(&support::gguf_tokenizer(path)).unwrap();
    let bytes = spec.to_bytes().unwrap();
    assert_eq!(TokenizerSpec::from_bytes(&bytes).as_ref(), Ok(&spec));
    Arc::new(Tokenizer::new(spec).unwrap())
}

/// The texts of an `.inp` file with the ids of its `.out` file.
fn vectors(stem: &Path) -> Vec<(String, Vec<TokenId>)> {
    let texts = support::read_text(stem.with_extension("gguf.inp"));
    let lines = support::read_text(stem.with_extension("gguf.out"));
    let mut texts: Vec<&str> = texts.split("\n__ggml_vocab_test__\n").collect();
    // The file ends with a separator.
    assert_eq!(texts.pop(), Some(""));
    let lines: Vec<&str> = lines.lines().collect();
    assert_eq!(texts.len(), lines.len(), "{}", stem.display());
    let numbers =
        |line: &str| line.split_whitespace().map(|id| TokenId(id.parse().unwrap())).collect();
    texts.into_iter().map(str::to_owned).zip(lines.into_iter().map(numbers)).collect()
}

#[test]
fn published_vectors_in_both_directions() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let old = data.join("tokenizers/ggerganov+llama.cpp/models");
    let new = data.join("tokenizers/llama.cpp");
    // The old folder has no vocabulary for two of its vectors; the new one has.
    let cases: [(&str, &PathBuf, &PathBuf); 9] = [
        ("ggml-vocab-llama-spm", &old, &old),
        ("ggml-vocab-phi-3", &old, &old),
        ("ggml-vocab-llama-bpe", &new, &new),
        ("ggml-vocab-llama-bpe", &new, &old),
        ("ggml-vocab-qwen2", &new, &new),
        ("ggml-vocab-qwen2", &new, &old),
        ("ggml-vocab-gpt-2", &old, &old),
        ("ggml-vocab-starcoder", &old, &old),
        ("ggml-vocab-refact", &old, &old),
    ];
    for (name, vocabulary, folder) in cases {
        let tokenizer = gguf(vocabulary.join(name).with_extension("gguf"));
        let vectors = vectors(&folder.join(name));
        assert!(vectors.len() > 40, "{name}: {} vectors", vectors.len());
        for (text, expected) in vectors {
            assert_eq!(tokenizer.encode(&text, BARE).unwrap(), expected, "{name}: {text:?}");
            assert_eq!(support::decode(&tokenizer, &expected), text, "{name}");
        }
    }
}

fn numbers(value: &Value) -> Vec<TokenId> {
    let list = value.as_array().unwrap();
    list.iter().map(|id| TokenId(id.as_u64().unwrap() as u32)).collect()
}

#[test]
fn vectors_of_another_implementation_agree() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let folder = data.join("tokenizers");
    let ranks = folder.join("meta-llama+llama-models/models/llama3/tokenizer.model");
    let llama3 = TokenizerSpec::from_tiktoken(&support::read(ranks), &TiktokenProfile::llama3());
    let llama3 = Arc::new(Tokenizer::new(llama3.unwrap()).unwrap());
    let ggml = folder.join("ggerganov+llama.cpp/models");
    let llama2 = gguf(ggml.join("ggml-vocab-llama-spm.gguf"));
    let gpt2 = gguf(ggml.join("ggml-vocab-gpt-2.gguf"));
    let cases = folder.join("huggingface+swift-transformers/Tests/TokenizersTests/Resources");
    let json =
        |file: &str| -> Value { serde_json::from_slice(&support::read(cases.join(file))).unwrap() };
    for (file, tokenizer) in [
        ("llama_3.2_encoded.json", &llama3),
        ("llama_encoded.json", &llama2),
        ("gpt2_encoded_tokens.json", &gpt2),
    ] {
        let case = json(file);
        let text = case["text"].as_str().unwrap();
        let ids = tokenizer.encode(text, EncodeOptions::default()).unwrap();
        assert_eq!(ids, numbers(&case["token_ids"]), "{file}");
        assert_eq!(support::decode(tokenizer, &ids), text, "{file}");
    }
    let short = json("tokenizer_tests.json");
    for (name, tokenizer) in [
        ("pcuenq/Llama-3.2-1B-Instruct-tokenizer", &llama3),
        ("coreml-projects/Llama-2-7b-chat-coreml", &llama2),
        ("distilgpt2", &gpt2),
    ] {
        let cases = short[name].as_array().unwrap();
        assert_eq!(cases.len(), 18);
        for case in cases {
            let text = case["input"].as_str().unwrap();
            let ids = tokenizer.encode(text, EncodeOptions::default()).unwrap();
            assert_eq!(ids, numbers(&case["encoded"]["input_ids"]), "{name}: {text:?}");
            // The record has spaces before punctuation removed for some of them; we keep all text.
            assert_eq!(support::decode(tokenizer, &ids), text, "{name}");
        }
    }
}
