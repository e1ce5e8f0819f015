//! What must hold for every tokenizer that a file describes.

use shoal_base::TokenId;
use shoal_model::source::{TokenizerFiles, fuzz};
use shoal_model::tokenizer::{
    ControlTokens, DecodeFrom, EncodeOptions, GgufTokenizer, HfFiles, TiktokenProfile, Tokenizer,
    TokenizerSpec,
};

/// Compiled expressions, whatever the file is.
pub(crate) const MEMORY_BYTES: usize = 32 << 20;

const TEXT: &str = "abcab  ab0 9é\u{300}<s> ▁日本\r\n\t<|end|>";

/// Reads a tokenizer file of any kind and uses what it describes.
pub(crate) fn run_file(bytes: &[u8]) {
    let Ok(files) = fuzz::tokenizer_file(bytes) else {
        return;
    };
    let spec = match &files {
        TokenizerFiles::HuggingFace { tokenizer, .. } => {
            TokenizerSpec::from_hf(&HfFiles { tokenizer, ..HfFiles::default() })
        }
        TokenizerFiles::SentencePiece { model, .. } => TokenizerSpec::from_sentencepiece(model),
        TokenizerFiles::Tiktoken { ranks, .. } => {
            TokenizerSpec::from_tiktoken(ranks, &TiktokenProfile::llama3())
        }
        TokenizerFiles::Llama2c(bytes) => TokenizerSpec::from_llama2c(bytes),
        TokenizerFiles::Gguf(fields) => {
            let fields = (**fields).clone();
            TokenizerSpec::from_gguf(&GgufTokenizer {
                architecture: fields.architecture,
                model: fields.model,
                pre: fields.pre,
                tokens: fields.tokens,
                scores: (!fields.scores.is_empty()).then_some(fields.scores),
                token_types: (!fields.types.is_empty()).then_some(fields.types),
                merges: (!fields.merges.is_empty()).then_some(fields.merges),
                bos_id: fields.bos_id,
                eos_id: fields.eos_id,
                eot_id: fields.eot_id,
                eom_id: fields.eom_id,
                unk_id: fields.unknown_id,
                pad_id: fields.padding_id,
                add_bos: fields.add_bos,
                add_eos: fields.add_eos,
                add_space_prefix: fields.add_space_prefix,
                remove_extra_whitespaces: fields.remove_extra_whitespaces,
                charsmap_bytes: fields.precompiled_charsmap.map_or(0, |map| map.len()),
            })
        }
        _ => return,
    };
    if let Ok(spec) = spec {
        let bytes = spec.to_bytes().expect("what a file describes has a byte form");
        run_spec(spec, &bytes);
    }
}

/// Uses a description whose bytes are given.
pub(crate) fn run_spec(spec: TokenizerSpec, bytes: &[u8]) {
    let again = TokenizerSpec::from_bytes(bytes).expect("what was written is read");
    assert_eq!(again, spec);
    let Ok(tokenizer) = Tokenizer::new(spec) else {
        return;
    };
    for parse_special in [false, true] {
        let options = EncodeOptions { parse_special, ..EncodeOptions::default() };
        if let Ok(ids) = tokenizer.encode(TEXT, options) {
            let known = |id: &TokenId| id.0 < tokenizer.vocab_count();
            assert!(ids.iter().all(known), "ids are in the vocabulary");
            tokenizer
                .decode(&ids, DecodeFrom::Start, ControlTokens::Show)
                .expect("ids that were made are known");
        }
    }
}
