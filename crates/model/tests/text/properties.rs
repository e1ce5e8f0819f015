//! What holds for any input.

use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use shoal_base::TokenId;
use shoal_model::tokenizer::{
    ControlTokens, DecodeFrom, Detokenizer, EncodeOptions, HfFiles, TiktokenProfile, Tokenizer,
    TokenizerSpec,
};

use crate::made;
use crate::support::BARE;

/// Tokenizers that have a token for each byte.
static COMPLETE: LazyLock<Vec<Arc<Tokenizer>>> = LazyLock::new(|| {
    let mut all: Vec<_> = ["gpt-2", "llama-bpe", "smollm", "tekken", "gpt-4o", "deepseek-v3"]
        .iter()
        .map(|pre| made::bytes_gguf(pre))
        .collect();
    all.push(made::characters_gguf());
    all.iter().map(|fields| Arc::new(made::tokenizer(fields))).collect()
});

fn stream(tokenizer: &Arc<Tokenizer>, ids: &[TokenId], from: DecodeFrom) -> String {
    let mut stream = Detokenizer::new(Arc::clone(tokenizer), from, ControlTokens::Show);
    let mut text: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert!(stream.pending().len() < 4);
    text.push_str(&stream.finish());
    text
}

/// Text of what the small vocabularies know, mixed with anything.
fn text() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(vec![
        "hello",
        " world",
        "12",
        " ",
        "\n",
        "'s",
        "é",
        "l",
        "o",
        "<|im_end|>",
        "<s>",
        "A",
        "ll",
        "/",
    ]);
    let part = prop_oneof![3 => known.prop_map(str::to_owned), 1 => any::<String>()];
    proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
}

/// Valid files of each format with some bytes changed, cut or doubled.
fn damaged(file: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = file.len();
    let change = (0..length, any::<u8>(), 0..3u8);
    proptest::collection::vec(change, 0..4).prop_map(move |changes| {
        let mut file = file.clone();
        for (at, byte, how) in changes {
            let at = at.min(file.len().saturating_sub(1));
            match how {
                0 => file[at] = byte,
                1 => file.truncate(at + 1),
                _ => file.insert(at, byte),
            }
        }
        file
    })
}

/// A description that was accepted must be usable.
fn use_it(spec: Result<TokenizerSpec, impl std::fmt::Debug>) {
    if let Ok(spec) = spec
        && let Ok(tokenizer) = Tokenizer::new(spec)
    {
        let everything = EncodeOptions { parse_special: true, ..EncodeOptions::default() };
        if let Ok(ids) = tokenizer.encode("hello world <s>\n", everything) {
            let (from, control) = (DecodeFrom::Start, ControlTokens::Show);
            assert!(tokenizer.decode(&ids, from, control).is_ok());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn text_comes_back_from_its_ids(text in text()) {
        // The mark for spaces is the one character that a character alphabet cannot keep apart.
        let text = text.replace('▁', "");
        for tokenizer in &*COMPLETE {
            let ids = tokenizer.encode(&text, BARE).unwrap();
            let back = tokenizer.decode(&ids, DecodeFrom::Start, ControlTokens::Skip).unwrap();
            prop_assert_eq!(&back, &text);
        }
    }

    #[test]
    fn a_stream_adds_up_to_the_whole(numbers in proptest::collection::vec(any::<u16>(), 0..40)) {
        for tokenizer in &*COMPLETE {
            let count = tokenizer.vocab_count();
            let ids: Vec<_> = numbers.iter().map(|&n| TokenId(u32::from(n) % count)).collect();
            for from in [DecodeFrom::Start, DecodeFrom::Middle] {
                let whole = tokenizer.decode(&ids, from, ControlTokens::Show).unwrap();
                prop_assert_eq!(stream(tokenizer, &ids, from), whole);
            }
        }
    }

    #[test]
    fn control_tokens_never_come_from_plain_text(text in text()) {
        for tokenizer in &*COMPLETE {
            for id in tokenizer.encode(&text, BARE).unwrap() {
                prop_assert!(tokenizer.token_bytes(id).is_some_and(|bytes| !bytes.is_empty()));
            }
        }
    }

    #[test]
    fn bytes_have_one_meaning_and_meanings_one_form(
        bytes in damaged(made::spec(&made::characters_gguf()).to_bytes().unwrap()),
        other in damaged(made::spec(&made::bytes_gguf("gpt-2")).to_bytes().unwrap()),
    ) {
        for bytes in [bytes, other] {
            let spec = TokenizerSpec::from_bytes(&bytes);
            if let Ok(spec) = &spec {
                prop_assert_eq!(spec.to_bytes().unwrap(), bytes);
            }
            use_it(spec);
        }
    }

    #[test]
    fn damaged_files_never_panic(
        model in damaged(made::sentencepiece(2, &made::KEEP_SPACES)),
        llama2c in damaged(made::llama2c()),
        ranks in damaged(b"YQ== 0\nYg== 1\nYWI= 2\n".to_vec()),
        hf in damaged(made::spec(&made::bytes_gguf("qwen2")).to_hf().unwrap().tokenizer.into()),
        config in damaged(br#"{"bos_token": {"content": "<|bos|>"}, "add_eos_token": 1}"#.into()),
    ) {
        use_it(TokenizerSpec::from_sentencepiece(&model));
        use_it(TokenizerSpec::from_llama2c(&llama2c));
        use_it(TokenizerSpec::from_tiktoken(&ranks, &TiktokenProfile::llama3()));
        use_it(TokenizerSpec::from_hf(&HfFiles {
            tokenizer: &hf,
            tokenizer_config: Some(&config),
            special_tokens_map: Some(&config),
            generation_config: Some(&config),
        }));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        use_it(TokenizerSpec::from_bytes(&bytes));
        use_it(TokenizerSpec::from_sentencepiece(&bytes));
        use_it(TokenizerSpec::from_llama2c(&bytes));
        use_it(TokenizerSpec::from_tiktoken(&bytes, &TiktokenProfile::llama3()));
        use_it(TokenizerSpec::from_hf(&HfFiles { tokenizer: &bytes, ..HfFiles::default() }));
    }
}

#[test]
fn encoding_is_near_linear_in_the_worst_texts() {
    for tokenizer in &*COMPLETE {
        for unit in ["a", "l", " ", "\n", "hello", " world", "é", "\u{301}", "1", "'"] {
            let time = |size: usize| {
                let text = unit.repeat(size / unit.len());
                let runs = (0..5).map(|_| {
                    let begin = std::time::Instant::now();
                    tokenizer.encode(&text, BARE).unwrap();
                    begin.elapsed().as_secs_f64()
                });
                runs.fold(f64::INFINITY, f64::min)
            };
            // 32 times the text; quadratic work would take 1024 times as long. What else the
            // machine does must not decide, so there is much room between the two.
            let (small, large) = (time(1 << 13), time(1 << 18));
            assert!(large < 400.0 * small, "{unit:?}: {small} s, then {large} s");
        }
    }
}
