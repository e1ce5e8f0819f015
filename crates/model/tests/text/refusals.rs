//! What is refused, and in which words.

use serde_json::{Value, json};
use shoal_base::TokenId;
use shoal_model::tokenizer::{
    GgufTokenizer, HfFiles, Margins, MergeModel, PreTokenizer, TiktokenProfile, TokenKind,
    Tokenizer, TokenizerError, TokenizerSpec, limits,
};

use crate::made;

fn words<T: std::fmt::Debug>(result: Result<T, TokenizerError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn each_broken_rule_of_a_description_is_named() {
    type Break = fn(&mut TokenizerSpec);
    let characters: [(&str, Break); 11] = [
        ("scores: one per token", |spec| {
            spec.model = MergeModel::Scores(vec![0.0]);
        }),
        ("token 1: a score is finite and not a negative zero", |spec| {
            let MergeModel::Scores(scores) = &mut spec.model else {
                return;
            };
            scores[1] = f32::NAN;
        }),
        ("token 1: a score is finite and not a negative zero", |spec| {
            let MergeModel::Scores(scores) = &mut spec.model else {
                return;
            };
            scores[1] = -0.0;
        }),
        ("bos id: outside the vocabulary", |spec| spec.special.bos = Some(TokenId(9999))),
        ("add_bos: there is no bos id", |spec| spec.special.bos = None),
        ("add_eos: there is no eos id", |spec| {
            spec.add_eos = true;
            spec.special.eos = None;
        }),
        ("end-of-turn ids: must contain the eos id", |spec| spec.special.end_of_turn.clear()),
        ("end-of-turn ids: ascending and inside the vocabulary", |spec| {
            spec.special.end_of_turn = vec![TokenId(2), TokenId(2)];
        }),
        ("end-of-turn tokens: 65, limit 64", |spec| {
            spec.special.end_of_turn = (0..65).map(TokenId).collect();
        }),
        ("token 300: margins belong to control and user-defined tokens", |spec| {
            let strip_left = Margins { strip_left: true, strip_right: false };
            spec.margins = vec![(TokenId(300), strip_left)];
        }),
        ("expressions: 9, limit 8", |spec| {
            spec.pretokenizer = PreTokenizer::Expressions(vec!["a".to_owned(); 9]);
        }),
    ];
    for (expected, damage) in characters {
        let mut spec = made::spec(&made::characters_gguf());
        damage(&mut spec);
        assert_eq!(words(spec.check()), expected);
        assert_eq!(words(spec.to_bytes()), expected);
        assert_eq!(words(Tokenizer::new(spec)), expected);
    }
    let bytes: [(&str, Break); 6] = [
        ("scores: belong to a character alphabet", |spec| {
            spec.model = MergeModel::Scores(vec![0.0; spec.vocabulary.len()]);
        }),
        ("normalizer: space rules belong to a character alphabet", |spec| {
            spec.fuse_unknown = true;
        }),
        ("merge 0: names a token outside the vocabulary", |spec| {
            let MergeModel::Merges { pairs, .. } = &mut spec.model else {
                return;
            };
            pairs[0].0 = TokenId(9999);
        }),
        ("token 275: a byte token has one byte, in a character alphabet", |spec| {
            spec.vocabulary.push(b"a", TokenKind::Byte);
        }),
        ("token 275: must not be empty", |spec| {
            spec.vocabulary.push(b"", TokenKind::Control);
        }),
        ("token 275: must be UTF-8", |spec| {
            spec.vocabulary.push(b"\xff", TokenKind::Control);
        }),
    ];
    for (expected, damage) in bytes {
        let mut spec = made::spec(&made::bytes_gguf("gpt-2"));
        damage(&mut spec);
        assert_eq!(words(spec.check()), expected);
    }
}

#[test]
fn merges_that_do_not_fit_the_vocabulary_are_refused_when_used() {
    let mut spec = made::spec(&made::bytes_gguf("gpt-2"));
    let MergeModel::Merges { pairs, .. } = &mut spec.model else {
        panic!("merges expected");
    };
    pairs.push((TokenId(0), TokenId(1)));
    assert_eq!(words(Tokenizer::new(spec)), "merge 15: makes no token");
}

#[test]
fn fields_of_gguf_files_that_do_not_fit_are_named() {
    type Break = fn(&mut GgufTokenizer);
    let cases: [(&str, Break); 12] = [
        ("tokenizer model `bert` is not supported", |f| f.model = "bert".to_owned()),
        ("pre-tokenizer `viking` is not supported", |f| f.pre = Some("viking".to_owned())),
        ("tokenizer.ggml.pre: missing; convert the model again with a newer converter", |f| {
            f.pre = None
        }),
        ("merges: missing", |f| f.merges = None),
        ("token_type: one per token", |f| {
            f.token_types.as_mut().unwrap().pop();
        }),
        ("token 0: unknown type", |f| f.token_types.as_mut().unwrap()[0] = -1),
        ("token 0: has a character outside the byte alphabet", |f| {
            f.tokens[0] = "▁".into();
        }),
        ("merge 0: two names expected", |f| f.merges.as_mut().unwrap()[0] = b"ab".to_vec()),
        ("merge 0: names no token", |f| f.merges.as_mut().unwrap()[0] = b"a zz".to_vec()),
        ("merge 0: must be UTF-8", |f| f.merges.as_mut().unwrap()[0] = b"\xff".to_vec()),
        ("eos id: outside the vocabulary", |f| f.eos_id = Some(275)),
        ("normalization table `precompiled_charsmap` is not supported", |f| f.charsmap_bytes = 1),
    ];
    for (expected, damage) in cases {
        let mut fields = made::bytes_gguf("gpt-2");
        damage(&mut fields);
        assert_eq!(words(TokenizerSpec::from_gguf(&fields)), expected);
    }
    let mut fields = made::characters_gguf();
    fields.tokens[3] = b"<0xag>".to_vec();
    assert_eq!(words(TokenizerSpec::from_gguf(&fields)), "token 3: not the name of a byte");
    fields = made::characters_gguf();
    fields.scores.as_mut().unwrap().pop();
    assert_eq!(words(TokenizerSpec::from_gguf(&fields)), "scores: one per token");
    fields = made::characters_gguf();
    fields.tokens = vec![Vec::new(); limits::VOCAB_MAX + 1];
    let expected = "tokens: 1048577, limit 1048576";
    assert_eq!(words(TokenizerSpec::from_gguf(&fields)), expected);
    // Ids that say "none", as some converters write them.
    fields = made::characters_gguf();
    fields.pad_id = Some(u32::MAX);
    assert_eq!(made::spec(&fields).special.pad, None);
}

#[test]
fn sentencepiece_models_that_are_not_merged_by_score_are_refused() {
    let model = |kind, normalizer: &[u8]| {
        TokenizerSpec::from_sentencepiece(&made::sentencepiece(kind, normalizer))
    };
    assert!(model(2, &made::KEEP_SPACES).is_ok());
    assert!(model(4, &made::KEEP_SPACES).is_ok());
    assert_eq!(words(model(1, &[])), "sentencepiece model `UNIGRAM` is not supported");
    assert_eq!(words(model(3, &[])), "sentencepiece model `WORD` is not supported");
    let table = [made::field(1, b"nmt_nfkc"), made::field(2, b"table")].concat();
    assert_eq!(words(model(2, &table)), "sentencepiece normalizer `nmt_nfkc` is not supported");
    let unmarked = "sentencepiece normalizer `without space marks` is not supported";
    assert_eq!(words(model(2, &[5 << 3, 0])), unmarked);
    let collapsed = model(2, &[]).unwrap();
    assert!(collapsed.normalizer.collapse_spaces);
}

#[test]
fn damaged_sentencepiece_models_are_refused_with_the_place() {
    let model = made::sentencepiece(2, &made::KEEP_SPACES);
    let read = |bytes: &[u8]| words(TokenizerSpec::from_sentencepiece(bytes));
    let cut = &model[..model.len() - 1];
    let place = model.len() - 4;
    assert_eq!(read(cut), format!("sentencepiece model at byte {place}: cut short"));
    assert_eq!(read(b"\x0b"), "sentencepiece model at byte 1: unknown wire type");
    let endless = [0xff; 11];
    assert_eq!(read(&endless), "sentencepiece model at byte 10: a number of more than 64 bits");
    let unused = made::field(1, &[&made::field(1, b"x")[..], &[3 << 3, 5]].concat());
    assert_eq!(read(&unused), "token 0: unused pieces are not supported");
    assert_eq!(read(b""), "sentencepiece model `UNIGRAM` is not supported");
}

#[test]
fn damaged_rank_files_are_refused_with_the_place() {
    let read = |text: &str| {
        words(TokenizerSpec::from_tiktoken(text.as_bytes(), &TiktokenProfile::llama3()))
    };
    assert_eq!(read("YQ=="), "tiktoken ranks at byte 0: token and rank expected");
    assert_eq!(read("YQ== 0\nYg== 2\n"), "tiktoken ranks at byte 7: ranks count up from 0");
    assert_eq!(read("YQ== 0\n*** 1\n"), "tiktoken ranks at byte 7: a token is written in base64");
    assert_eq!(read("YQ== 0\nYQ== 1\n"), "token 1: the same as an earlier one");
}

#[test]
fn damaged_llama2c_files_are_refused_with_the_place() {
    let read = |bytes: &[u8]| words(TokenizerSpec::from_llama2c(bytes));
    let whole = made::llama2c();
    assert_eq!(read(b"\x01"), "llama2.c tokenizer at byte 0: a header of 4 bytes expected");
    assert_eq!(read(&whole[..17]), "llama2.c tokenizer at byte 17: at least 3 tokens expected");
    let rule = "score, length and piece expected";
    assert_eq!(read(&whole[..18]), format!("llama2.c tokenizer at byte 17: {rule}"));
    let mut long = whole.clone();
    long[8] = 33;
    let rule = "longer than the header says";
    assert_eq!(read(&long), format!("llama2.c tokenizer at byte 4: {rule}"));
    let mut not_text = whole;
    not_text[12] = 0xff;
    assert_eq!(read(&not_text), "llama2.c tokenizer at byte 4: a piece is UTF-8");
}

/// A Hugging Face file of the small byte-level tokenizer, changed by `damage`.
fn hf(damage: impl Fn(&mut Value)) -> Result<TokenizerSpec, TokenizerError> {
    hf_of(&made::bytes_gguf("llama-bpe"), damage)
}

fn hf_of(
    fields: &GgufTokenizer,
    damage: impl Fn(&mut Value),
) -> Result<TokenizerSpec, TokenizerError> {
    let files = made::spec(fields).to_hf().unwrap();
    let mut file: Value = serde_json::from_str(&files.tokenizer).unwrap();
    damage(&mut file);
    TokenizerSpec::from_hf(&HfFiles {
        tokenizer: file.to_string().as_bytes(),
        tokenizer_config: Some(files.tokenizer_config.as_bytes()),
        ..HfFiles::default()
    })
}

#[test]
fn parts_of_hugging_face_files_that_cannot_be_done_exactly_are_named() {
    let split = |regex: &str| {
        let pattern = json!({"Regex": regex});
        json!({"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": false})
    };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
    let then_bytes = |part: Value| json!({"type": "Sequence", "pretokenizers": [part, byte_level]});
    let mut removed = split("a");
    removed["behavior"] = json!("Removed");
    let template = json!({"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<|tool|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
    ]});
    let cases = [
        ("/model/type", json!("Unigram"), "tokenizer model `Unigram`"),
        ("/model/dropout", json!(0.1), "tokenizer model option `dropout`"),
        ("/model/end_of_word_suffix", json!("</w>"), "tokenizer model option `end_of_word_suffix`"),
        ("/normalizer", json!({"type": "Lowercase"}), "normalizer `Lowercase`"),
        ("/normalizer", json!({}), "normalizer `without a type`"),
        ("/pre_tokenizer", json!({"type": "Whitespace"}), "pre_tokenizer `Whitespace`"),
        (
            "/pre_tokenizer",
            json!({"type": "ByteLevel"}),
            "pre_tokenizer `ByteLevel with add_prefix_space`",
        ),
        ("/pre_tokenizer", split("a"), "pre_tokenizer `expressions without byte level`"),
        ("/pre_tokenizer", then_bytes(removed), "pre_tokenizer Split `Removed`"),
        ("/pre_tokenizer", then_bytes(split("a++")), "in an expression `possessive quantifier`"),
        ("/pre_tokenizer", then_bytes(split(r"\s+$")), "in an expression `^ or $`"),
        ("/decoder", json!({"type": "WordPiece"}), "decoder `WordPiece`"),
        ("/decoder", Value::Null, "decoder `without a type`"),
        ("/post_processor", json!({"type": "BertProcessing"}), "post_processor `BertProcessing`"),
        (
            "/post_processor",
            template,
            "post_processor with a token other than the configured one `<|tool|>`",
        ),
    ];
    for (place, value, expected) in cases {
        let result = hf(|file| *file.pointer_mut(place).unwrap() = value.clone());
        assert_eq!(words(result), format!("{expected} is not supported"), "{place}");
    }
}

#[test]
fn hugging_face_files_whose_tokens_clash_are_refused() {
    let add = |token: Value| {
        hf(move |file| file["added_tokens"].as_array_mut().unwrap().push(token.clone()))
    };
    let token = json!({"id": 7, "content": "<|new|>", "special": true});
    assert_eq!(words(add(token)), "token 7: an added token has another token's id");
    let token = json!({"id": 300, "content": "<|new|>", "single_word": true});
    assert_eq!(words(add(token)), "token 300: `single_word` is not supported");
    let token = json!({"id": 4_000_000_000u32, "content": "<|new|>"});
    assert_eq!(words(add(token)), "tokens: 4000000001, limit 1048576");
    let result = hf(|file| file["model"]["vocab"]["new"] = json!(7));
    assert_eq!(words(result), "token 7: two tokens have this id");
    let result = hf(|file| file["model"]["merges"][0] = json!("hello"));
    assert_eq!(words(result), "merge 0: two names expected");
    let result = hf(|file| file["model"]["merges"][0] = json!(["h", "nothing"]));
    assert_eq!(words(result), "merge 0: names no token");
    let result = hf(|file| file["model"]["vocab"]["a"] = json!("97"));
    assert!(words(result).starts_with("tokenizer.json is not readable: invalid type: string"));
}

#[test]
fn character_level_files_need_their_marks_for_spaces() {
    let damaged = |place: &str, value: Value| {
        words(hf_of(&made::characters_gguf(), |file| {
            *file.pointer_mut(place).unwrap() = value.clone();
        }))
    };
    let expected = "normalizer `that keeps spaces, without byte level` is not supported";
    assert_eq!(damaged("/normalizer", Value::Null), expected);
    let metaspace = json!({
        "type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": false,
    });
    let expected = "normalizer `with marks for spaces twice` is not supported";
    assert_eq!(damaged("/pre_tokenizer", metaspace), expected);
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first"});
    let expected = "pre_tokenizer `Metaspace with split` is not supported";
    assert_eq!(damaged("/pre_tokenizer", metaspace), expected);
    let expected = "decoder `that keeps or strips other spaces than were added` is not supported";
    assert_eq!(damaged("/decoder/decoders/3/start", json!(2)), expected);
}

#[test]
fn what_a_format_cannot_say_is_not_exported() {
    let mut spec = made::spec(&made::bytes_gguf("gpt-2"));
    spec.pretokenizer = PreTokenizer::Expressions(vec!["[a-z]+".to_owned()]);
    let rows = spec.vocabulary.len();
    let expected = "pre-tokenizer `expressions in GGUF` is not supported";
    assert_eq!(words(spec.to_gguf(rows)), expected);
    assert!(spec.to_hf().is_ok());
    let spec = made::spec(&made::bytes_gguf("gpt-2"));
    assert_eq!(words(spec.to_gguf(rows - 1)), format!("tokens: {rows}, limit {}", rows - 1));
    let mut spec = made::spec(&made::characters_gguf());
    spec.normalizer.collapse_spaces = true;
    let expected = "Hugging Face export `that collapses spaces` is not supported";
    assert_eq!(words(spec.to_hf()), expected);
    assert!(spec.to_gguf(rows + 9).is_ok());
}
