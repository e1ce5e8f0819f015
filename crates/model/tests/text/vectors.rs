//! Published vectors: text and the ids that its publisher's tokenizer gives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use shoal_base::TokenId;
use shoal_model::tokenizer::{Tokenizer, TokenizerSpec};

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
    let numbers = |line: &str| {
        line.split_whitespace()
            .map(|id| TokenId(id.parse().unwrap()))
            .collect()
    };
    texts
        .into_iter()
        .map(str::to_owned)
        .zip(lines.into_iter().map(numbers))
        .collect()
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
            assert_eq!(
                tokenizer.encode(&text, BARE).unwrap(),
                expected,
                "{name}: {text:?}"
            );
            assert_eq!(support::decode(&tokenizer, &expected), text, "{name}");
        }
    }
}
