//! The bytes of a description.

use shoal_base::TokenId;
use shoal_model::tokenizer::{
    Alphabet, Margins, MergeModel, Normalizer, PreTokenizer, SpacePrefix, SpecialIds, TokenKind,
    TokenizerSpec, Vocabulary,
};

/// A description that uses each part of the format.
fn tiny() -> TokenizerSpec {
    let mut vocabulary = Vocabulary::default();
    vocabulary.push(b"<s>", TokenKind::Control);
    vocabulary.push(b"\n", TokenKind::Byte);
    vocabulary.push("▁".as_bytes(), TokenKind::Normal);
    TokenizerSpec {
        alphabet: Alphabet::Characters,
        vocabulary,
        model: MergeModel::Scores(vec![0.0, 0.0, -1.5]),
        normalizer: Normalizer {
            nfc: true,
            collapse_spaces: false,
            space_prefix: SpacePrefix::EachSegment,
        },
        pretokenizer: PreTokenizer::Expressions(vec!["a+".to_owned()]),
        special: SpecialIds {
            bos: Some(TokenId(0)),
            eos: None,
            unk: None,
            pad: Some(TokenId(1)),
            end_of_turn: vec![TokenId(0)],
        },
        margins: vec![(TokenId(0), Margins { strip_left: false, strip_right: true })],
        add_bos: true,
        add_eos: false,
        fuse_unknown: true,
        clean_up_spaces: false,
    }
}

const TINY: &str = "
    73 68 6f 61 6c 74 6f 6b     # shoaltok
    01 00                       # version 1
    01                          # characters
    00                          # scores
    15                          # nfc, add bos, fuse unknown
    01                          # a space before each segment
    00 00 00 00                 # bos
    ff ff ff ff                 # no eos
    ff ff ff ff                 # no unk
    01 00 00 00                 # pad
    01 00 00 00 00              # one end-of-turn token: 0
    02 01 02 00 61 2b           # one expression of two bytes: a+
    03 00 00 00                 # three tokens
    03 06 01                    # control, byte, normal
    03 00 01 00 03 00           # their lengths
    3c 73 3e 0a e2 96 81        # their bytes
    01 00 00 00 00 00 00 00 02  # margins of one token, 0: strip right
    00 00 00 00 00 00 00 00     # scores 0, 0,
    00 00 c0 bf                 # -1.5
";

fn parse(hex: &str) -> Vec<u8> {
    let bytes = hex.lines().filter_map(|line| line.split('#').next());
    let bytes = bytes.flat_map(str::split_whitespace);
    bytes.map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[test]
fn the_format_has_not_changed() {
    assert_eq!(tiny().to_bytes().unwrap(), parse(TINY));
    assert_eq!(TokenizerSpec::from_bytes(&parse(TINY)), Ok(tiny()));
}

#[test]
fn merges_are_pairs_of_ids() {
    let mut spec = tiny();
    spec.model =
        MergeModel::Merges { pairs: vec![(TokenId(2), TokenId(1))], whole_word_first: true };
    let bytes = spec.to_bytes().unwrap();
    assert_eq!(bytes[11], 2);
    assert_eq!(bytes[bytes.len() - 12..], parse("01 00 00 00  02 00 00 00  01 00 00 00"));
    assert_eq!(TokenizerSpec::from_bytes(&bytes), Ok(spec));
}

#[test]
fn other_bytes_are_refused_with_the_place() {
    let good = parse(TINY);
    let cases: [(usize, u8, &str); 14] = [
        (0, b'S', "tokenizer at byte 8: does not begin with `shoaltok`"),
        (8, 2, "tokenizer at byte 10: version 1 expected"),
        (10, 2, "tokenizer at byte 11: unknown alphabet"),
        (11, 3, "tokenizer at byte 12: unknown model"),
        (12, 0x55, "tokenizer at byte 13: unknown flag"),
        (13, 4, "tokenizer at byte 14: unknown space prefix"),
        (30, 65, "end-of-turn tokens: 65, limit 64"),
        (35, 3, "tokenizer at byte 36: unknown pre-tokenizer form"),
        (36, 9, "expressions: 9, limit 8"),
        (38, 0xff, "expression bytes: 65282, limit 4096"),
        (39, 0xff, "tokenizer at byte 41: an expression is UTF-8"),
        (44, 0xff, "tokens: 4278190083, limit 1048576"),
        (45, 7, "tokenizer at byte 61: a token has an unknown kind"),
        (69, 4, "tokenizer at byte 70: unknown flag"),
    ];
    for (at, byte, expected) in cases {
        let mut bytes = good.clone();
        assert_ne!(bytes[at], byte);
        // The length of the expression is two bytes, the count of tokens four.
        bytes[at] = byte;
        let error = TokenizerSpec::from_bytes(&bytes).unwrap_err();
        assert_eq!(error.to_string(), expected, "byte {at}");
    }
    let longer = [&good[..], &[0]].concat();
    let error = TokenizerSpec::from_bytes(&longer).unwrap_err();
    assert_eq!(error.to_string(), "tokenizer at byte 82: nothing may follow");
    for end in 0..good.len() {
        assert!(TokenizerSpec::from_bytes(&good[..end]).is_err(), "cut at {end}");
    }
}

#[test]
fn a_known_pre_tokenizer_has_one_form() {
    let mut spec = tiny();
    let name = shoal_model::tokenizer::NamedPreTokenizer::Gpt2;
    spec.pretokenizer = PreTokenizer::Named(name);
    let bytes = spec.to_bytes().unwrap();
    assert_eq!(bytes[35..37], [1, 1]);
    assert_eq!(TokenizerSpec::from_bytes(&bytes), Ok(spec.clone()));
    spec.pretokenizer = PreTokenizer::Expressions(vec![name.expressions()[0].to_owned()]);
    let error = spec.to_bytes().unwrap_err();
    assert_eq!(error.to_string(), "pre-tokenizer: known expressions are written as their name");
}
