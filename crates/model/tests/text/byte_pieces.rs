//! The pieces that merges never cross, as those who make a vocabulary count them.

use shoal_base::TokenId;
use shoal_model::tokenizer::{
    EncodeError, NamedPreTokenizer, PreTokenizer, Splitter, Tokenizer, TokenizerSpec,
};

use crate::made::{bytes_gguf, stand_in, tokenizer};
use crate::support::{self, BARE};

const TEXT: &str = "hello world's  12\n\n    hé\tHELLO 一二 ५६ \u{301}//x\r\n 🦀 ";

fn named(name: NamedPreTokenizer) -> Splitter {
    PreTokenizer::Named(name).compile().unwrap()
}

/// The bytes that stand-ins stand for.
fn bytes(pieces: &[String]) -> Vec<u8> {
    let byte = |c: char| (0..=255).find(|&byte| stand_in(byte) == c).expect("a stand-in");
    pieces.iter().flat_map(|piece| piece.chars()).map(byte).collect()
}

/// Every piece on its own.
fn encode(tokenizer: &Tokenizer, pieces: &[String]) -> Vec<TokenId> {
    let text = |piece: &String| String::from_utf8(bytes(std::slice::from_ref(piece))).unwrap();
    pieces.iter().flat_map(|piece| tokenizer.encode(&text(piece), BARE).unwrap()).collect()
}

#[test]
fn pieces_are_written_in_the_stand_ins_of_vocabularies() {
    let pieces = named(NamedPreTokenizer::Gpt2).byte_pieces("a b\n\n  é~\u{7f}").unwrap();
    assert_eq!(pieces, ["a", "Ġb", "ĊĊĠ", "ĠÃ©", "~ġ"]);
}

#[test]
fn pieces_of_every_family_are_the_text_and_what_it_becomes_piece_by_piece() {
    for &name in NamedPreTokenizer::ALL {
        let pieces = named(name).byte_pieces(TEXT).unwrap();
        assert_eq!(bytes(&pieces), TEXT.as_bytes(), "{name:?}");
        assert!(pieces.iter().all(|piece| !piece.is_empty()), "{name:?}");
        let tokenizer = tokenizer(&bytes_gguf(name.gguf_name()));
        let whole = tokenizer.encode(TEXT, BARE).unwrap();
        assert_eq!(encode(&tokenizer, &pieces), whole, "{name:?}");
    }
}

#[test]
fn a_text_is_one_piece_without_expressions_and_no_text_is_none() {
    let splitter = PreTokenizer::None.compile().unwrap();
    assert_eq!(splitter.byte_pieces("a b c").unwrap(), ["aĠbĠc"]);
    assert_eq!(splitter.byte_pieces("").unwrap(), [""; 0]);
    assert_eq!(named(NamedPreTokenizer::Llama3).byte_pieces("").unwrap(), [""; 0]);
}

#[test]
fn expressions_are_stopped_that_scan_ahead_again_and_again() {
    let splitter = PreTokenizer::from_expressions(vec!["a[^b]*b|a".to_owned()]).compile().unwrap();
    // A short text is worth the work, as is a long one that the expression does not scan again.
    assert_eq!(splitter.byte_pieces("aab").unwrap(), ["aab"]);
    assert_eq!(splitter.byte_pieces(&"ab".repeat(1 << 16)).unwrap().len(), 1 << 16);
    assert_eq!(splitter.byte_pieces(&"a".repeat(1 << 16)), Err(EncodeError::Work));
}

#[test]
fn real_text_becomes_the_same_ids_piece_by_piece() {
    let Some(data) = support::shared_data() else {
        return;
    };
    let text = support::read_text(support::shakespeare(&data));
    let text = &text[..text.floor_char_boundary(200_000)];
    let old = data.join("tokenizers/ggerganov+llama.cpp/models");
    let new = data.join("tokenizers/llama.cpp");
    for (folder, name, family) in [
        (&old, "ggml-vocab-gpt-2", NamedPreTokenizer::Gpt2),
        (&old, "ggml-vocab-starcoder", NamedPreTokenizer::SmolLm),
        (&new, "ggml-vocab-llama-bpe", NamedPreTokenizer::Llama3),
        (&new, "ggml-vocab-qwen2", NamedPreTokenizer::Qwen2),
    ] {
        let fields = support::gguf_tokenizer(folder.join(name).with_extension("gguf"));
        let spec = TokenizerSpec::from_gguf(&fields).unwrap();
        assert_eq!(spec.pretokenizer, PreTokenizer::Named(family), "{name}");
        let tokenizer = Tokenizer::new(spec).unwrap();
        let whole = tokenizer.encode(text, BARE).unwrap();
        let pieces = named(family).byte_pieces(text).unwrap();
        assert_eq!(bytes(&pieces), text.as_bytes(), "{name}");
        assert_eq!(encode(&tokenizer, &pieces), whole, "{name}");
    }
}
