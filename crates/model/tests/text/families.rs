//! Each family with a small vocabulary made here, so that a bare clone tests it.

use std::sync::Arc;

use shoal_base::{RequestLimits, TokenId};
use shoal_model::tokenizer::{
    ControlTokens, DecodeFrom, Detokenizer, EncodeError, EncodeOptions, GgufTokenizer, HfFiles,
    Margins, MergeModel, SpacePrefix, TiktokenProfile, TokenKind, Tokenizer, TokenizerSpec,
};

use crate::made::{self, bytes_id, piece_id};
use crate::support::{self, BARE};

fn numbers(tokenizer: &Tokenizer, text: &str, options: EncodeOptions) -> Vec<u32> {
    let ids = tokenizer.encode(text, options).unwrap();
    ids.into_iter().map(|id| id.0).collect()
}

const WITH_CONTROL: EncodeOptions = EncodeOptions { parse_special: true, ..BARE };

#[test]
fn byte_level_merges_stay_inside_pieces() {
    for pre in ["gpt-2", "llama-bpe"] {
        let tokenizer = made::tokenizer(&made::bytes_gguf(pre));
        let ids = |text| numbers(&tokenizer, text, BARE);
        assert_eq!(ids("hello world"), [bytes_id("hello"), bytes_id(" world")], "{pre}");
        assert_eq!(ids("é\n\n"), [bytes_id("é"), bytes_id("\n\n")], "{pre}");
        // The second of two spaces goes with the word, so that the two do not merge.
        let space = bytes_id(" ");
        assert_eq!(ids("  hello"), [space, space, bytes_id("hello")], "{pre}");
        assert_eq!(ids("\u{a0}"), [0xc2, 0xa0], "{pre}");
    }
}

#[test]
fn digits_are_grouped_as_the_family_does() {
    let case = |pre: &str| numbers(&made::tokenizer(&made::bytes_gguf(pre)), "1212", BARE);
    let (twelve, one, two) = (bytes_id("12"), bytes_id("1"), bytes_id("2"));
    assert_eq!(case("gpt-2"), [twelve, twelve]);
    assert_eq!(case("llama-bpe"), [twelve, one, two]);
    for pre in ["qwen2", "smollm", "tekken", "starcoder", "refact", "deepseek-r1-qwen"] {
        assert_eq!(case(pre), [one, two, one, two], "{pre}");
    }
}

#[test]
fn control_tokens_come_from_text_only_on_demand() {
    let tokenizer = made::tokenizer(&made::bytes_gguf("llama-bpe"));
    let text = "hello<|im_end|><|im_end";
    let parsed = numbers(&tokenizer, text, WITH_CONTROL);
    assert_eq!(parsed[..3], [bytes_id("hello"), bytes_id("<|im_end|>"), bytes_id("<")]);
    assert!(!numbers(&tokenizer, text, BARE).contains(&bytes_id("<|im_end|>")));
    assert_eq!(tokenizer.find_atomic("<|im_end|>"), Some(TokenId(bytes_id("<|im_end|>"))));
    assert_eq!(tokenizer.find_atomic("<|im_end"), None);
    let tokenizer = made::tokenizer(&made::characters_gguf());
    assert_eq!(numbers(&tokenizer, "<s>", WITH_CONTROL), [1]);
    assert!(!numbers(&tokenizer, "<s>", BARE).contains(&1));
}

#[test]
fn beginning_and_end_tokens_are_added_as_asked() {
    let tokenizer = made::tokenizer(&made::bytes_gguf("llama-bpe"));
    let (bos, eos, hello) = (bytes_id("<|bos|>"), bytes_id("<|eos|>"), bytes_id("hello"));
    assert_eq!(numbers(&tokenizer, "hello", EncodeOptions::default()), [bos, hello]);
    let both = EncodeOptions { add_eos: Some(true), ..EncodeOptions::default() };
    assert_eq!(numbers(&tokenizer, "hello", both), [bos, hello, eos]);
    assert_eq!(numbers(&tokenizer, "", both), [bos, eos]);
    let mut fields = made::bytes_gguf("gpt-2");
    (fields.bos_id, fields.eos_id) = (None, None);
    let without = made::tokenizer(&fields);
    assert_eq!(numbers(&without, "hello", EncodeOptions::default()), [hello]);
    let asked = EncodeOptions { add_bos: Some(true), ..BARE };
    assert_eq!(without.encode("", asked), Err(EncodeError::NoSpecial { name: "bos" }));
    assert_eq!(without.encode("", both), Err(EncodeError::NoSpecial { name: "eos" }));
}

#[test]
fn every_turn_ending_token_is_known() {
    let ends = |fields: &GgufTokenizer| made::spec(fields).special.end_of_turn;
    let (eos, im_end, tool) =
        (TokenId(bytes_id("<|eos|>")), TokenId(bytes_id("<|im_end|>")), bytes_id("<|tool|>"));
    let mut fields = made::bytes_gguf("qwen2");
    assert_eq!(ends(&fields), [eos, im_end]);
    fields.eot_id = Some(tool);
    assert_eq!(ends(&fields), [eos, im_end, TokenId(tool)]);
    // A file that has its kind wrong.
    fields.token_types.as_mut().unwrap()[im_end.index()] = 4;
    let spec = made::spec(&fields);
    assert_eq!(spec.vocabulary.kind(im_end), Some(TokenKind::Control));
}

#[test]
fn characters_are_merged_by_score_after_a_space_mark() {
    let tokenizer = made::tokenizer(&made::characters_gguf());
    let ids = |text| numbers(&tokenizer, text, BARE);
    // "ll" and "he" are more urgent than anything with the mark.
    let mark_then_hello = [piece_id("▁hello")];
    assert_eq!(ids("hello"), mark_then_hello);
    assert_eq!(ids("hello world"), [piece_id("▁hello"), piece_id("▁world")]);
    assert_eq!(ids(""), [0; 0]);
    assert_eq!(ids(" "), [piece_id("▁▁")]);
    // A character with a token, one without, a line break.
    let bytes = [3 + 0xe6, 3 + 0x97, 3 + 0xa5];
    assert_eq!(ids("é日"), [&[piece_id("▁"), piece_id("é")][..], &bytes].concat());
    assert_eq!(ids("\n"), [piece_id("▁"), piece_id("\n")]);
    let text = "hello  world é日 \u{1f600}";
    let tokenizer = Arc::new(tokenizer);
    let ids = tokenizer.encode(text, BARE).unwrap();
    assert_eq!(support::decode(&tokenizer, &ids), text);
}

#[test]
fn unknown_characters_are_one_unknown_token_if_they_touch() {
    let mut fields = made::characters_gguf();
    // Without the byte tokens there is nothing to fall back to.
    for id in 3..259 {
        fields.tokens[id] = format!("[PAD{id}]").into_bytes();
        fields.token_types.as_mut().unwrap()[id] = 5;
    }
    let mut spec = made::spec(&fields);
    let text = "日本h日";
    let [mark, h] = ["▁", "h"].map(piece_id);
    let fused = Tokenizer::new(spec.clone()).unwrap();
    assert_eq!(numbers(&fused, text, BARE), [mark, 0, h, 0]);
    spec.fuse_unknown = false;
    let single = Tokenizer::new(spec.clone()).unwrap();
    assert_eq!(numbers(&single, text, BARE), [mark, 0, 0, h, 0]);
    spec.special.unk = None;
    let none = Tokenizer::new(spec).unwrap();
    assert_eq!(none.encode(text, BARE), Err(EncodeError::NoToken { byte: 0xe6 }));
}

#[test]
fn a_byte_without_a_token_is_an_error_and_not_dropped() {
    let mut fields = made::bytes_gguf("gpt-2");
    fields.token_types.as_mut().unwrap()[usize::from(b'!')] = 5;
    let tokenizer = made::tokenizer(&fields);
    assert_eq!(tokenizer.encode("hello!", BARE), Err(EncodeError::NoToken { byte: b'!' }));
}

#[test]
fn space_prefixes_differ_where_text_begins_with_a_space_or_follows_a_control_token() {
    let mut spec = made::spec(&made::characters_gguf());
    let [mark, two, h] = ["▁", "▁▁", "h"].map(piece_id);
    let texts = ["h", " h", "<s>h"];
    for (prefix, expected) in [
        (SpacePrefix::Never, [vec![h], vec![mark, h], vec![1, h]]),
        (SpacePrefix::EachSegment, [vec![mark, h], vec![two, h], vec![1, mark, h]]),
        (SpacePrefix::EachSegmentUnlessSpace, [vec![mark, h], vec![mark, h], vec![1, mark, h]]),
        (SpacePrefix::FirstSegmentUnlessSpace, [vec![mark, h], vec![mark, h], vec![1, h]]),
    ] {
        spec.normalizer.space_prefix = prefix;
        let tokenizer = Tokenizer::new(spec.clone()).unwrap();
        let got = texts.map(|text| numbers(&tokenizer, text, WITH_CONTROL));
        assert_eq!(got, expected, "{prefix:?}");
    }
}

#[test]
fn extra_spaces_are_collapsed_where_the_model_says_so() {
    let mut fields = made::characters_gguf();
    fields.remove_extra_whitespaces = Some(true);
    let tokenizer = made::tokenizer(&fields);
    let ids = |text| numbers(&tokenizer, text, BARE);
    assert_eq!(ids("  hello   world "), ids("hello world"));
    assert_eq!(ids("   "), [0; 0]);
    assert_eq!(ids("▁"), [0; 0]);
}

#[test]
fn margins_swallow_white_space() {
    let mut spec = made::spec(&made::bytes_gguf("gpt-2"));
    let tool = TokenId(bytes_id("<|tool|>"));
    spec.margins = vec![(tool, Margins { strip_left: true, strip_right: true })];
    let bytes = spec.to_bytes().unwrap();
    assert_eq!(TokenizerSpec::from_bytes(&bytes).as_ref(), Ok(&spec));
    let tokenizer = Tokenizer::new(spec).unwrap();
    let (hello, eos) = (bytes_id("hello"), bytes_id("<|eos|>"));
    let text = "hello \n<|tool|> <|tool|>\t<|eos|> hello";
    let expected = [hello, tool.0, tool.0, eos, bytes_id(" "), hello];
    assert_eq!(numbers(&tokenizer, text, WITH_CONTROL), expected);
}

#[test]
fn a_whole_word_comes_before_its_merges_where_the_model_says_so() {
    let mut spec = made::spec(&made::bytes_gguf("llama-bpe"));
    let MergeModel::Merges { pairs, whole_word_first } = &mut spec.model else {
        panic!("merges expected");
    };
    assert!(*whole_word_first);
    // Without its last merge the word is out of reach of the merges.
    pairs.remove(3);
    let mut merged = spec.clone();
    assert_eq!(numbers(&Tokenizer::new(spec).unwrap(), "hello", BARE), [bytes_id("hello")]);
    if let MergeModel::Merges { whole_word_first, .. } = &mut merged.model {
        *whole_word_first = false;
    }
    let merged = Tokenizer::new(merged).unwrap();
    assert_eq!(numbers(&merged, "hello", BARE), [bytes_id("hell"), bytes_id("o")]);
}

#[test]
fn qwen_normalizes_and_its_distillations_do_not() {
    let decomposed = "e\u{301}";
    let case = |pre| numbers(&made::tokenizer(&made::bytes_gguf(pre)), decomposed, BARE);
    assert_eq!(case("qwen2"), [bytes_id("é")]);
    assert_eq!(case("deepseek-r1-qwen"), [bytes_id("e"), 0xcc, 0x81]);
}

#[test]
fn a_text_above_the_limit_is_refused_before_anything_else() {
    let tokenizer = made::tokenizer(&made::bytes_gguf("gpt-2"));
    let limit = RequestLimits::PROMPT_BYTES_MAX;
    let text = "a".repeat(limit + 1);
    let got = limit + 1;
    assert_eq!(tokenizer.encode(&text, BARE), Err(EncodeError::TextBytes { got, limit }));
}

#[test]
fn all_formats_describe_the_same_small_tokenizer() {
    let spec = made::spec(&made::characters_gguf());
    let model = TokenizerSpec::from_sentencepiece(&made::sentencepiece(2, &made::KEEP_SPACES));
    assert_eq!(model, Ok(spec.clone()));
    assert_eq!(TokenizerSpec::from_llama2c(&made::llama2c()), Ok(spec.clone()));
    let fields = spec.to_gguf(300).unwrap();
    assert_eq!(fields.tokens.len(), 300);
    assert_eq!(made::spec(&fields), spec);
    for pre in ["gpt-2", "llama-bpe", "qwen2", "deepseek-r1-qwen", "smollm", "tekken", "gpt-4o"] {
        let spec = made::spec(&made::bytes_gguf(pre));
        let fields = spec.to_gguf(spec.vocabulary.len()).unwrap();
        assert_eq!(fields.pre.as_deref(), Some(pre));
        assert_eq!(made::spec(&fields), spec, "{pre}");
        let files = spec.to_hf().unwrap();
        let back = TokenizerSpec::from_hf(&HfFiles {
            tokenizer: files.tokenizer.as_bytes(),
            tokenizer_config: Some(files.tokenizer_config.as_bytes()),
            ..HfFiles::default()
        });
        assert_eq!(back, Ok(spec), "{pre}");
    }
}

#[test]
fn rank_files_give_the_merges_their_ranks_imply() {
    // "ab" and "bc" before "abc": both ways to "abc" are merges, in the order of their parts.
    let tokens = ["a", "b", "c", "ab", "bc", "abc", "é"];
    let base64 = ["YQ==", "Yg==", "Yw==", "YWI=", "YmM=", "YWJj", "w6k="];
    let lines: Vec<String> =
        base64.iter().enumerate().map(|(at, name)| format!("{name} {at}\n")).collect();
    let profile = TiktokenProfile {
        control_names: vec!["<|b|>".to_owned(), "<|e|>".to_owned()],
        bos: "<|b|>".to_owned(),
        eos: "<|e|>".to_owned(),
        ..TiktokenProfile::llama3()
    };
    let spec = TokenizerSpec::from_tiktoken(lines.concat().as_bytes(), &profile).unwrap();
    for (id, token) in tokens.iter().enumerate() {
        assert_eq!(spec.vocabulary.get(TokenId(id as u32)), Some(token.as_bytes()));
    }
    assert_eq!((spec.special.bos, spec.special.eos), (Some(TokenId(7)), Some(TokenId(8))));
    let MergeModel::Merges { pairs, .. } = &spec.model else {
        panic!("merges expected");
    };
    let pairs: Vec<(u32, u32)> = pairs.iter().map(|(left, right)| (left.0, right.0)).collect();
    assert_eq!(pairs, [(0, 1), (1, 2), (0, 4), (3, 2)]);
}

#[test]
fn a_stream_never_splits_a_character_and_says_what_is_pending() {
    let tokenizer = Arc::new(made::tokenizer(&made::characters_gguf()));
    let byte = |byte: u8| TokenId(3 + u32::from(byte));
    let mut stream =
        Detokenizer::new(Arc::clone(&tokenizer), DecodeFrom::Start, ControlTokens::Skip);
    let mut push = |id| stream.push(id).unwrap();
    assert_eq!(push(TokenId(piece_id("▁hello"))), "hello");
    assert_eq!(push(byte(0xf0)), "");
    assert_eq!(push(byte(0x9f)), "");
    // Certain only now: no character begins so.
    assert_eq!(push(byte(0xf0)), "\u{fffd}");
    assert_eq!(push(byte(0x9f)), "");
    assert_eq!(push(byte(0x98)), "");
    assert_eq!(push(byte(0x80)), "😀");
    assert_eq!(push(byte(0xff)), "\u{fffd}");
    assert_eq!(push(TokenId(piece_id("▁"))), " ");
    assert_eq!(push(byte(0xe6)), "");
    assert_eq!(stream.pending(), [0xe6]);
    let outside = TokenId(tokenizer.vocab_count());
    assert!(stream.push(outside).is_err());
    assert_eq!(stream.pending(), [0xe6]);
    assert_eq!(stream.finish(), "\u{fffd}");
}

#[test]
fn the_space_of_the_first_token_is_kept_in_the_middle_of_a_text() {
    let tokenizer = made::tokenizer(&made::characters_gguf());
    let ids = [1, piece_id("▁hello"), piece_id("▁world"), 2].map(TokenId);
    let decode = |from, control| tokenizer.decode(&ids, from, control).unwrap();
    assert_eq!(decode(DecodeFrom::Start, ControlTokens::Skip), "hello world");
    assert_eq!(decode(DecodeFrom::Middle, ControlTokens::Skip), " hello world");
    assert_eq!(decode(DecodeFrom::Start, ControlTokens::Show), "<s> hello world</s>");
}

#[test]
fn tokens_say_what_they_add_to_a_text() {
    let tokenizer = made::tokenizer(&made::characters_gguf());
    let bytes = |id: u32| tokenizer.token_bytes(TokenId(id));
    assert_eq!(bytes(1), Some(&b""[..]));
    assert_eq!(tokenizer.token_name(TokenId(1)), Some(&b"<s>"[..]));
    assert_eq!(bytes(3 + 10), Some(&b"\n"[..]));
    assert_eq!(bytes(piece_id("▁hello")), Some(&b" hello"[..]));
    assert_eq!(bytes(tokenizer.vocab_count()), None);
    assert_eq!(tokenizer.token_kind(TokenId(1)), Some(TokenKind::Control));
}
