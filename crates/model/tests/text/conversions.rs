//! Files of other formats: those of one tokenizer become one description, and what is written back
//! reads as the same.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use shoal_base::TokenId;
use shoal_model::tokenizer::{
    EncodeOptions, HfFiles, MergeModel, TiktokenProfile, Tokenizer, TokenizerSpec,
};

use crate::support::{self, BARE};

fn tokenizers(data: &Path) -> std::path::PathBuf {
    data.join("tokenizers")
}

fn llama2_gguf(data: &Path) -> TokenizerSpec {
    let file = "ggerganov+llama.cpp/models/ggml-vocab-llama-spm.gguf";
    let fields = support::gguf_tokenizer(tokenizers(data).join(file));
    TokenizerSpec::from_gguf(&fields).unwrap()
}

fn llama3_gguf(data: &Path) -> TokenizerSpec {
    let file = "llama.cpp/ggml-vocab-llama-bpe.gguf";
    let fields = support::gguf_tokenizer(tokenizers(data).join(file));
    TokenizerSpec::from_gguf(&fields).unwrap()
}

fn llama2_hf(data: &Path) -> TokenizerSpec {
    let file = "PsycheFoundation+psyche/shared/data-provider/tests/resources/llama2_tokenizer.json";
    let bytes = support::read(tokenizers(data).join(file));
    let files = HfFiles { tokenizer: &bytes, ..HfFiles::default() };
    TokenizerSpec::from_hf(&files).unwrap()
}

#[test]
fn llama2_files_of_three_formats_are_one_tokenizer() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let folder = tokenizers(&data).join("karpathy+llama2.c");
    let model = support::read(folder.join("tokenizer.model"));
    let model = TokenizerSpec::from_sentencepiece(&model).unwrap();
    let binary = support::read(folder.join("tokenizer.bin"));
    let binary = TokenizerSpec::from_llama2c(&binary).unwrap();
    assert_eq!(model.to_bytes(), llama2_gguf(&data).to_bytes());
    assert_eq!(model.to_bytes(), binary.to_bytes());
}

#[test]
fn llama3_files_of_two_formats_are_one_tokenizer() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let ranks = tokenizers(&data).join("meta-llama+llama-models/models/llama3/tokenizer.model");
    let ranks = support::read(ranks);
    let ranks = TokenizerSpec::from_tiktoken(&ranks, &TiktokenProfile::llama3()).unwrap();
    assert_eq!(ranks.to_bytes(), llama3_gguf(&data).to_bytes());
}

#[test]
fn llama2_scores_and_merges_are_made_of_one_another() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let (scores, merges) = (llama2_gguf(&data), llama2_hf(&data));
    let exported = scores.to_hf().unwrap();
    let exported: Value = serde_json::from_str(&exported.tokenizer).unwrap();
    let MergeModel::Merges { pairs, .. } = &merges.model else {
        panic!("merges expected");
    };
    let name = |id: TokenId| merges.vocabulary.get(id).unwrap();
    let exported = exported["model"]["merges"].as_array().unwrap();
    assert_eq!(exported.len(), pairs.len());
    for (ours, (left, right)) in exported.iter().zip(pairs) {
        assert_eq!(ours[0].as_str().unwrap().as_bytes(), name(*left));
        assert_eq!(ours[1].as_str().unwrap().as_bytes(), name(*right));
    }
    // Written as scores, the merges do the same as the scores of the publisher.
    let fields = merges.to_gguf(merges.vocabulary.len()).unwrap();
    let from_merges = Tokenizer::new(TokenizerSpec::from_gguf(&fields).unwrap()).unwrap();
    let text = support::read_text(support::shakespeare(&data));
    let expected = Tokenizer::new(scores).unwrap().encode(&text, BARE).unwrap();
    assert_eq!(from_merges.encode(&text, BARE).unwrap(), expected);
    let merges = Tokenizer::new(merges).unwrap();
    assert_eq!(merges.encode(&text, BARE).unwrap(), expected);
}

#[test]
fn every_shared_vocabulary_survives_export() {
    let Some(data) = support::shared_data() else {
        return;
    };
    for file in [
        "ggerganov+llama.cpp/models/ggml-vocab-llama-spm.gguf",
        "ggerganov+llama.cpp/models/ggml-vocab-phi-3.gguf",
        "ggerganov+llama.cpp/models/ggml-vocab-gpt-2.gguf",
        "ggerganov+llama.cpp/models/ggml-vocab-starcoder.gguf",
        "ggerganov+llama.cpp/models/ggml-vocab-refact.gguf",
        "llama.cpp/ggml-vocab-llama-bpe.gguf",
        "llama.cpp/ggml-vocab-qwen2.gguf",
    ] {
        let fields = support::gguf_tokenizer(tokenizers(&data).join(file));
        let spec = TokenizerSpec::from_gguf(&fields).unwrap();
        let rows = fields.tokens.len();
        let back = spec.to_gguf(rows).unwrap();
        assert_eq!(back.tokens, fields.tokens, "{file}");
        assert_eq!(back.merges, fields.merges, "{file}");
        assert_eq!(TokenizerSpec::from_gguf(&back).as_ref(), Ok(&spec), "{file}");
        spec.to_hf().unwrap_or_else(|error| panic!("{file}: {error}"));
    }
}

#[test]
fn story_models_encode_their_prompts_as_recorded() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let models = data.join("models");
    let golden = support::read(models.join("GOLDEN.json"));
    let golden: Value = serde_json::from_slice(&golden).unwrap();
    let llama2c = |file: &str| {
        let bytes = support::read(models.join("doryiii+esp32-llm/spiffs_data").join(file));
        TokenizerSpec::from_llama2c(&bytes).unwrap()
    };
    let story = models.join("LearningInfiniTensor+learning-lm-rs/models/story");
    let [tokenizer, config, map, generation] = [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
    ]
    .map(|file| support::read(story.join(file)));
    let story = TokenizerSpec::from_hf(&HfFiles {
        tokenizer: &tokenizer,
        tokenizer_config: Some(&config),
        special_tokens_map: Some(&map),
        generation_config: Some(&generation),
    })
    .unwrap();
    let gguf = models.join("onicai+llama_cpp_canister/models/stories260Ktok512.gguf");
    let gguf = TokenizerSpec::from_gguf(&support::gguf_tokenizer(gguf)).unwrap();
    let characters = support::read(models.join("EN10+BabyLlama/tok105/tok105.model"));
    let characters = TokenizerSpec::from_sentencepiece(&characters).unwrap();
    let cases = [
        ("stories260K.bin", llama2c("tok512.bin")),
        ("stories260Ktok512.gguf", gguf),
        ("stories3M-q80.bin gs64", llama2c("tok4096.bin")),
        ("tok105/model5000.bin", characters),
        ("story model.safetensors", story),
    ];
    for (name, spec) in cases {
        let case = &golden[name];
        let ids = |key: &str| -> Vec<TokenId> {
            let list = case[key].as_array().unwrap();
            list.iter().map(|id| TokenId(id.as_u64().unwrap() as u32)).collect()
        };
        let tokenizer = Arc::new(Tokenizer::new(spec).unwrap());
        let prompt = case["prompt"].as_str().unwrap();
        let text = case["text"].as_str().unwrap();
        let encoded = tokenizer.encode(prompt, EncodeOptions::default());
        assert_eq!(encoded.unwrap(), ids("prompt_ids"), "{name}");
        // The record of the last model has the space that encoding adds.
        let decoded = support::decode(&tokenizer, &ids("greedy_ids"));
        assert_eq!(decoded.trim_start(), text.trim_start(), "{name}");
    }
}

#[test]
fn the_two_files_of_the_smallest_story_model_are_one_tokenizer() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let models = data.join("models");
    let binary = support::read(models.join("doryiii+esp32-llm/spiffs_data/tok512.bin"));
    let binary = TokenizerSpec::from_llama2c(&binary).unwrap();
    let gguf = models.join("onicai+llama_cpp_canister/models/stories260Ktok512.gguf");
    let gguf = TokenizerSpec::from_gguf(&support::gguf_tokenizer(gguf)).unwrap();
    assert_eq!(binary.to_bytes(), gguf.to_bytes());
}
