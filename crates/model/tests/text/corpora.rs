//! Ids of real texts, compared with those of the libraries of the publishers of each format. The
//! record is made by `fixtures-maker/encode_corpora.py`.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use shoal_base::{Digest, TokenId};
use shoal_model::tokenizer::{
    EncodeOptions, HfFiles, MergeModel, NamedPreTokenizer, PreTokenizer, TiktokenProfile,
    Tokenizer, TokenizerSpec,
};

use crate::support::{self, BARE};

const RECORD: &str = include_str!("../fixtures/encoded_corpora.json");
const LINES: &str = "tokenizers/Joakimpalm-Zen+gridcore-runner/tests/fixtures/tokenizer-corpus.txt";

fn tokenizer(data: &Path, name: &str) -> Tokenizer {
    let folder = data.join("tokenizers");
    let gguf = |file: String| {
        let fields = support::gguf_tokenizer(folder.join(file));
        TokenizerSpec::from_gguf(&fields).unwrap()
    };
    let hf = |file: &str| {
        let bytes = support::read(data.join(file));
        let files = HfFiles { tokenizer: &bytes, ..HfFiles::default() };
        TokenizerSpec::from_hf(&files).unwrap()
    };
    let sentencepiece =
        |file: &str| TokenizerSpec::from_sentencepiece(&support::read(data.join(file))).unwrap();
    let spec = match name {
        "llama2-sentencepiece" => sentencepiece("tokenizers/karpathy+llama2.c/tokenizer.model"),
        "tok105-sentencepiece" => sentencepiece("models/EN10+BabyLlama/tok105/tok105.model"),
        "llama3-tiktoken" => {
            let ranks = folder.join("meta-llama+llama-models/models/llama3/tokenizer.model");
            let profile = TiktokenProfile::llama3();
            TokenizerSpec::from_tiktoken(&support::read(ranks), &profile).unwrap()
        }
        "llama2-hf" | "llama2-hf with control tokens" => hf(concat!(
            "tokenizers/PsycheFoundation+psyche/shared/data-provider/tests/resources/",
            "llama2_tokenizer.json"
        )),
        "story-hf" => hf("models/LearningInfiniTensor+learning-lm-rs/models/story/tokenizer.json"),
        "qwen2" => gguf("llama.cpp/ggml-vocab-qwen2.gguf".to_owned()),
        _ => match (name.strip_prefix("small-"), name.strip_prefix("llama-bpe")) {
            (Some(name), _) => {
                gguf(format!("Joakimpalm-Zen+gridcore-runner/tests/fixtures/vocab-bpe-{name}.gguf"))
            }
            (None, Some(other)) => {
                let mut spec = gguf("llama.cpp/ggml-vocab-llama-bpe.gguf".to_owned());
                if let Some(pre) = other.strip_prefix(" as ") {
                    disguise(&mut spec, pre);
                }
                spec
            }
            (None, None) => gguf(format!("ggerganov+llama.cpp/models/ggml-vocab-{name}.gguf")),
        },
    };
    Tokenizer::new(spec).unwrap()
}

/// Gives a vocabulary the pre-tokenizer of another family.
fn disguise(spec: &mut TokenizerSpec, pre: &str) {
    let name = NamedPreTokenizer::from_gguf_name(pre).unwrap();
    spec.pretokenizer = PreTokenizer::Named(name);
    spec.normalizer.nfc = pre == "qwen35";
    if let MergeModel::Merges { whole_word_first, .. } = &mut spec.model {
        *whole_word_first = pre == "tekken";
    }
}

/// Inclusive ranges of characters that every Unicode version of the last twenty years has.
const RANGES: [(u32, u32); 32] = [
    (0x61, 0x7a),
    (0x41, 0x5a),
    (0x20, 0x20),
    (0x30, 0x39),
    (0x09, 0x0d),
    (0x21, 0x2f),
    (0x3a, 0x40),
    (0xa0, 0xff),
    (0x100, 0x17f),
    (0x1c4, 0x1cc),
    (0x2b0, 0x2b8),
    (0x300, 0x30f),
    (0x391, 0x3a1),
    (0x410, 0x44f),
    (0x5d0, 0x5ea),
    (0x621, 0x63a),
    (0x660, 0x669),
    (0x905, 0x939),
    (0x93e, 0x94c),
    (0xe01, 0xe3a),
    (0x2000, 0x200a),
    (0x2028, 0x2029),
    (0x2160, 0x2188),
    (0x20a0, 0x20a9),
    (0x3000, 0x3002),
    (0x3041, 0x3093),
    (0x4e00, 0x4fff),
    (0xac00, 0xacff),
    (0x1d400, 0x1d41f),
    (0x1f600, 0x1f64f),
    (0x20000, 0x200ff),
    (0xbc, 0xbe),
];
const WORDS: [&str; 13] =
    ["'s", "'LL", "'Ve", "'\u{17f}", " ", "  ", "\n", "\r\n", "\n\n", "    ", "...", "//", "▁"];

/// Text that is hard to split; the script makes the same.
fn generated(count: usize) -> String {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut draw = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 33) as usize % below
    };
    let mut text = String::new();
    for _ in 0..count {
        let kind = draw(4);
        if kind == 0 {
            text.push_str(WORDS[draw(WORDS.len())]);
            continue;
        }
        let (low, high) = RANGES[draw(if kind == 1 { RANGES.len() } else { 5 })];
        for _ in 0..1 + draw(4) {
            let character = low + draw((high - low + 1) as usize) as u32;
            text.push(char::from_u32(character).unwrap());
        }
    }
    text
}

#[test]
fn corpora_have_the_ids_that_other_libraries_give_them() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let record: Value = serde_json::from_str(RECORD).unwrap();
    let encoded = record["encoded"].as_object().unwrap();
    assert_eq!(encoded.len(), 20);
    let mut wrong = Vec::new();
    for (name, texts) in encoded {
        let tokenizer = tokenizer(&data, name);
        let options =
            EncodeOptions { parse_special: name.ends_with("with control tokens"), ..BARE };
        for (path, expected) in texts.as_object().unwrap() {
            let text = match path.as_str() {
                "generated" => generated(100_000),
                path => support::read_text(data.join(path)),
            };
            let parts: Vec<String> = if path == LINES {
                let lines = text.lines().filter(|line| !line.is_empty());
                lines.map(|line| serde_json::from_str(line).unwrap()).collect()
            } else {
                vec![text]
            };
            let ids: Vec<TokenId> =
                parts.iter().flat_map(|part| tokenizer.encode(part, options).unwrap()).collect();
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.0.to_le_bytes()).collect();
            let same = expected["ids"].as_u64() == Some(ids.len() as u64)
                && expected["blake3"].as_str() == Some(&Digest::of(&bytes).to_string());
            if !same {
                wrong.push(format!("{name}: {path}: {} ids, not {}", ids.len(), expected["ids"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn corpora_come_back_from_their_ids() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let texts = [
        generated(20_000).replace('▁', ""),
        support::read_text(data.join("text/karpathy+minbpe/tests/taylorswift.txt")),
    ];
    for name in ["llama2-sentencepiece", "llama2-hf", "llama-bpe", "gpt-2", "small-smollm"] {
        let tokenizer = Arc::new(tokenizer(&data, name));
        for text in &texts {
            let ids = tokenizer.encode(text, BARE).unwrap();
            assert!(support::decode(&tokenizer, &ids) == *text, "{name}");
        }
    }
}

#[test]
fn zero_scores_with_merges_are_merged_by_the_merges() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let folder = data.join("tokenizers/Joakimpalm-Zen+gridcore-runner/tests/fixtures");
    let [scores, merges] = ["vocab-spm.gguf", "vocab-spm-zeroscores.gguf"].map(|file| {
        let fields = support::gguf_tokenizer(folder.join(file));
        Tokenizer::new(TokenizerSpec::from_gguf(&fields).unwrap()).unwrap()
    });
    assert!(matches!(merges.spec().model, MergeModel::Merges { .. }));
    for file in ["tokenizer-corpus.txt", "mixed-corpus.txt"] {
        let text = support::read_text(folder.join(file));
        let expected = scores.encode(&text, BARE).unwrap();
        assert_eq!(merges.encode(&text, BARE).unwrap(), expected);
    }
}

#[test]
fn a_tokenizer_of_an_unknown_kind_is_refused_by_its_name() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let file = "tokenizers/Joakimpalm-Zen+gridcore-runner/tests/fixtures/vocab-bpe-spm-gemma4.gguf";
    let error = TokenizerSpec::from_gguf(&support::gguf_tokenizer(data.join(file))).unwrap_err();
    assert_eq!(error.to_string(), "tokenizer model `gemma4` is not supported");
}
