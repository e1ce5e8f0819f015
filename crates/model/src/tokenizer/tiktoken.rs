//! Rank files of `tiktoken`: lines of a token in base64 and its rank. Llama 3 is published so.
//!
//! The file has no control tokens and no pre-tokenizer; a [`TiktokenProfile`] adds them. Ranks
//! become merges as converters to other formats make them: each split of a token into two tokens,
//! by the ranks of its parts, tokens in the order of their ranks.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::end_of_turn;
use super::error::{TokenizerError, check_limit};
use super::limits;
use super::merge_list::{all_splits, text_ids};
use super::pretokenizer::{NamedPreTokenizer, PreTokenizer};
use super::spec::{Alphabet, MergeModel, Normalizer, SpecialIds, TokenizerSpec};
use super::vocabulary::{TokenKind, Vocabulary};

const FORMAT: &str = "tiktoken ranks";
/// Control tokens of Llama 3.
const LLAMA3_CONTROL_COUNT: u32 = 256;

/// What a rank file does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TiktokenProfile {
    /// How text is cut.
    pub pretokenizer: PreTokenizer,
    /// Names of the control tokens, whose ids follow the ranks.
    pub control_names: Vec<String>,
    /// The one that begins a text.
    pub bos: String,
    /// The one that ends a text.
    pub eos: String,
}

impl TiktokenProfile {
    /// Llama 3; 3.1 and later differ only in the names of reserved tokens and two tool tokens.
    #[must_use]
    pub fn llama3() -> Self {
        let mut reserved = 0;
        let control_names = (0..LLAMA3_CONTROL_COUNT).map(|index| match index {
            0 => "<|begin_of_text|>".to_owned(),
            1 => "<|end_of_text|>".to_owned(),
            6 => "<|start_header_id|>".to_owned(),
            7 => "<|end_header_id|>".to_owned(),
            9 => "<|eot_id|>".to_owned(),
            _ => {
                reserved += 1;
                format!("<|reserved_special_token_{}|>", reserved - 1)
            }
        });
        Self {
            pretokenizer: PreTokenizer::Named(NamedPreTokenizer::Llama3),
            control_names: control_names.collect(),
            bos: "<|begin_of_text|>".to_owned(),
            eos: "<|end_of_text|>".to_owned(),
        }
    }
}

impl TokenizerSpec {
    /// Reads a rank file.
    ///
    /// # Errors
    /// Bytes that are not of this format, or ranks that have gaps.
    pub fn from_tiktoken(bytes: &[u8], profile: &TiktokenProfile) -> Result<Self, TokenizerError> {
        check_limit("tokenizer bytes", bytes.len(), limits::SOURCE_BYTES_MAX)?;
        let mut vocabulary = read_ranks(bytes)?;
        check_distinct(&vocabulary)?;
        let pairs = all_splits(&vocabulary, vocabulary.iter().map(|(id, _, _)| id))?;
        let mut special = SpecialIds::default();
        for name in &profile.control_names {
            let id = vocabulary.push(name.as_bytes(), TokenKind::Control);
            if *name == profile.bos {
                special.bos = Some(id);
            }
            if *name == profile.eos {
                special.eos = Some(id);
            }
        }
        end_of_turn::collect(&mut special, &vocabulary, []);
        let spec = Self {
            alphabet: Alphabet::Bytes,
            vocabulary,
            model: MergeModel::Merges { pairs, whole_word_first: true },
            normalizer: Normalizer::default(),
            pretokenizer: profile.pretokenizer.clone(),
            margins: Vec::new(),
            add_bos: special.bos.is_some(),
            add_eos: false,
            fuse_unknown: false,
            clean_up_spaces: false,
            special,
        };
        spec.check()?;
        Ok(spec)
    }
}

fn read_ranks(bytes: &[u8]) -> Result<Vocabulary, TokenizerError> {
    let mut vocabulary = Vocabulary::default();
    let mut token = Vec::new();
    let mut next = 0;
    for line in bytes.split(|&byte| byte == b'\n') {
        let offset = next;
        let malformed = |rule| TokenizerError::Malformed { format: FORMAT, offset, rule };
        next += line.len() + 1;
        if line.is_empty() {
            continue;
        }
        let space = line.iter().position(|&byte| byte == b' ');
        let (name, rank) =
            line.split_at(space.ok_or_else(|| malformed("token and rank expected"))?);
        let rank: Option<usize> =
            std::str::from_utf8(&rank[1..]).ok().and_then(|rank| rank.parse().ok());
        if rank != Some(vocabulary.len()) {
            return Err(malformed("ranks count up from 0"));
        }
        check_limit("tokens", vocabulary.len() + 1, limits::VOCAB_MAX)?;
        check_limit("token", name.len(), 2 * limits::TOKEN_BYTES_MAX)?;
        token.clear();
        BASE64_STANDARD
            .decode_vec(name, &mut token)
            .map_err(|_| malformed("a token is written in base64"))?;
        vocabulary.push(&token, TokenKind::Normal);
    }
    Ok(vocabulary)
}

/// Refuses a token that is listed twice: only one of its ranks could be used.
fn check_distinct(vocabulary: &Vocabulary) -> Result<(), TokenizerError> {
    let ids = text_ids(vocabulary);
    let twice = vocabulary.iter().find(|(id, bytes, _)| ids.get(bytes) != Some(id));
    twice.map_or(Ok(()), |(id, _, _)| {
        let rule = "the same as an earlier one";
        Err(TokenizerError::Token { id: id.0, rule })
    })
}
