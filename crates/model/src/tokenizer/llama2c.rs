//! `tok*.bin` of llama2.c: the longest piece, then for each token its score, length and piece.
//!
//! Pieces have real spaces where SentencePiece has `▁`. The pieces of ids 1 and 2 have line breaks
//! around them, because that program prints them so; they are control tokens.

use super::error::{TokenizerError, check_limit};
use super::gguf::parse_byte_name;
use super::limits;
use super::spec::{
    Alphabet, MergeModel, Normalizer, SPACE_MARK_TEXT, SpacePrefix, SpecialIds, TokenizerSpec,
};
use super::vocabulary::{TokenKind, Vocabulary};
use super::{PreTokenizer, end_of_turn};
use shoal_base::TokenId;

const FORMAT: &str = "llama2.c tokenizer";
const UNK: TokenId = TokenId(0);
const BOS: TokenId = TokenId(1);
const EOS: TokenId = TokenId(2);

impl TokenizerSpec {
    /// Reads a `tok*.bin` of llama2.c.
    ///
    /// # Errors
    /// Bytes that are not of this format.
    pub fn from_llama2c(bytes: &[u8]) -> Result<Self, TokenizerError> {
        check_limit("tokenizer bytes", bytes.len(), limits::SOURCE_BYTES_MAX)?;
        let malformed = |rest: &[u8], rule| TokenizerError::Malformed {
            format: FORMAT,
            offset: bytes.len() - rest.len(),
            rule,
        };
        let (longest, mut rest) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| malformed(bytes, "a header of 4 bytes expected"))?;
        let longest = u32::from_le_bytes(*longest) as usize;
        let mut vocabulary = Vocabulary::default();
        let mut scores = Vec::new();
        while !rest.is_empty() {
            let cut = || malformed(rest, "score, length and piece expected");
            let (score, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            let (length, after) = after.split_first_chunk::<4>().ok_or_else(cut)?;
            let length = u32::from_le_bytes(*length) as usize;
            if length > longest {
                return Err(malformed(rest, "longer than the header says"));
            }
            let (piece, after) = after.split_at_checked(length).ok_or_else(cut)?;
            let piece =
                std::str::from_utf8(piece).map_err(|_| malformed(rest, "a piece is UTF-8"))?;
            check_limit("tokens", vocabulary.len() + 1, limits::VOCAB_MAX)?;
            push(&mut vocabulary, piece);
            scores.push(f32::from_le_bytes(*score) + 0.0);
            rest = after;
        }
        if vocabulary.len() <= EOS.index() {
            return Err(malformed(rest, "at least 3 tokens expected"));
        }
        let mut special = SpecialIds {
            bos: Some(BOS),
            eos: Some(EOS),
            unk: Some(UNK),
            pad: None,
            end_of_turn: Vec::new(),
        };
        end_of_turn::collect(&mut special, &vocabulary, []);
        let spec = Self {
            alphabet: Alphabet::Characters,
            vocabulary,
            model: MergeModel::Scores(scores),
            normalizer: Normalizer {
                space_prefix: SpacePrefix::EachSegment,
                ..Normalizer::default()
            },
            pretokenizer: PreTokenizer::None,
            special,
            margins: Vec::new(),
            add_bos: true,
            add_eos: false,
            fuse_unknown: true,
            clean_up_spaces: false,
        };
        spec.check()?;
        Ok(spec)
    }
}

fn push(vocabulary: &mut Vocabulary, piece: &str) {
    let id = TokenId(vocabulary.len() as u32);
    match parse_byte_name(piece.as_bytes()) {
        _ if id == UNK => vocabulary.push(piece.as_bytes(), TokenKind::Unknown),
        _ if id == BOS || id == EOS => vocabulary.push(piece.trim().as_bytes(), TokenKind::Control),
        Some(byte) => vocabulary.push(&[byte], TokenKind::Byte),
        None => {
            let piece = piece.replace(' ', SPACE_MARK_TEXT);
            vocabulary.push(piece.as_bytes(), TokenKind::Normal)
        }
    };
}
