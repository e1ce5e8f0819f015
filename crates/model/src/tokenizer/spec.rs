//! [`TokenizerSpec`]: everything that decides how text becomes ids and ids become text.

use shoal_base::TokenId;

use super::error::{TokenizerError, check_limit};
use super::limits;
use super::pretokenizer::PreTokenizer;
use super::vocabulary::{TokenKind, Vocabulary};

/// The character that stands for a space in the pieces of a character alphabet.
pub(super) const SPACE_MARK: char = '▁';
/// The same as text.
pub(super) const SPACE_MARK_TEXT: &str = "▁";

/// Smallest units that are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Alphabet {
    /// The 256 byte values; any text has an encoding (GPT-2, Llama 3, Qwen).
    Bytes = 0,
    /// Characters, with spaces as `▁`; what has no token falls back to bytes (Llama 2, Mistral).
    Characters = 1,
}

/// Which of two neighbours are merged first.
#[derive(Clone, PartialEq)]
pub enum MergeModel {
    /// Neighbours whose concatenation is the token of the highest score; one score per token.
    Scores(Vec<f32>),
    /// Neighbours that come first in a list.
    Merges {
        /// Ids of left and right neighbour, most urgent first.
        pairs: Vec<(TokenId, TokenId)>,
        /// A piece that is a token as a whole is that token, whatever the merges say.
        whole_word_first: bool,
    },
}

impl std::fmt::Debug for MergeModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Scores(scores) => write!(f, "Scores({})", scores.len()),
            Self::Merges { pairs, whole_word_first } => f
                .debug_struct("Merges")
                .field("pairs", &pairs.len())
                .field("whole_word_first", whole_word_first)
                .finish(),
        }
    }
}

/// Where a space is put in front of text. A segment is text between two control tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum SpacePrefix {
    /// Nowhere.
    #[default]
    Never = 0,
    /// Before each segment.
    EachSegment = 1,
    /// Before each segment that does not begin with a space.
    EachSegmentUnlessSpace = 2,
    /// Before the first segment, if the text begins with it and it does not begin with a space.
    FirstSegmentUnlessSpace = 3,
}

/// What happens to text before it is split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Normalizer {
    /// Unicode normalization form C.
    pub nfc: bool,
    /// Spaces at both ends are dropped, runs of spaces become one.
    pub collapse_spaces: bool,
    /// A space before the text.
    pub space_prefix: SpacePrefix,
}

/// How an atomic token is found in text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Margins {
    /// White space before it belongs to it.
    pub strip_left: bool,
    /// White space after it belongs to it.
    pub strip_right: bool,
}

/// Tokens with a meaning of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Beginning of text.
    pub bos: Option<TokenId>,
    /// End of text.
    pub eos: Option<TokenId>,
    /// Text that has no token.
    pub unk: Option<TokenId>,
    /// Padding.
    pub pad: Option<TokenId>,
    /// Tokens that end an answer, ascending; contains `eos`.
    pub end_of_turn: Vec<TokenId>,
}

/// A complete description of a tokenizer. Results are a pure function of it.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenizerSpec {
    /// Smallest units.
    pub alphabet: Alphabet,
    /// The tokens.
    pub vocabulary: Vocabulary,
    /// Which neighbours are merged first.
    pub model: MergeModel,
    /// What happens to text first.
    pub normalizer: Normalizer,
    /// How text is cut into pieces that are never merged across.
    pub pretokenizer: PreTokenizer,
    /// Tokens with a meaning of their own.
    pub special: SpecialIds,
    /// How some atomic tokens are found, by ascending id; the others are found as they are
    /// written.
    pub margins: Vec<(TokenId, Margins)>,
    /// Plain text gets the beginning token.
    pub add_bos: bool,
    /// Plain text gets the end token.
    pub add_eos: bool,
    /// Neighbouring unknown characters are one unknown token.
    pub fuse_unknown: bool,
    /// The publisher asks for spaces before punctuation to be removed after decoding. Kept for
    /// export; not applied, because it cannot be streamed and loses text.
    pub clean_up_spaces: bool,
}

impl TokenizerSpec {
    /// Checks every rule that does not need an index of the vocabulary.
    ///
    /// # Errors
    /// The first broken rule.
    pub fn check(&self) -> Result<(), TokenizerError> {
        self.check_vocabulary()?;
        self.check_model()?;
        self.check_special()?;
        self.check_margins()?;
        self.pretokenizer.check()?;
        let bytes = self.alphabet == Alphabet::Bytes;
        let prefix = self.normalizer.space_prefix != SpacePrefix::Never;
        if bytes && (prefix || self.normalizer.collapse_spaces || self.fuse_unknown) {
            return rule("normalizer", "space rules belong to a character alphabet");
        }
        Ok(())
    }

    fn check_vocabulary(&self) -> Result<(), TokenizerError> {
        let vocabulary = &self.vocabulary;
        check_limit("tokens", vocabulary.len(), limits::VOCAB_MAX)?;
        check_limit("token bytes", vocabulary.bytes_len(), limits::VOCAB_BYTES_MAX)?;
        if vocabulary.is_empty() {
            return rule("vocabulary", "must not be empty");
        }
        let mut byte_seen = [false; 256];
        let (mut atomic_count, mut atomic_bytes) = (0, 0);
        for (id, bytes, kind) in vocabulary.iter() {
            let broken = |rule| Err(TokenizerError::Token { id: id.0, rule });
            if bytes.len() > limits::TOKEN_BYTES_MAX {
                return broken("too long");
            }
            let text = kind != TokenKind::Normal || self.alphabet == Alphabet::Characters;
            if text && kind != TokenKind::Byte && std::str::from_utf8(bytes).is_err() {
                return broken("must be UTF-8");
            }
            match kind {
                TokenKind::Byte => {
                    if bytes.len() != 1 || self.alphabet == Alphabet::Bytes {
                        return broken("a byte token has one byte, in a character alphabet");
                    }
                    if std::mem::replace(&mut byte_seen[bytes[0] as usize], true) {
                        return broken("second token for this byte");
                    }
                }
                TokenKind::Control | TokenKind::UserDefined if bytes.is_empty() => {
                    return broken("must not be empty");
                }
                TokenKind::Control | TokenKind::UserDefined => {
                    atomic_count += 1;
                    atomic_bytes += bytes.len();
                }
                TokenKind::Normal | TokenKind::Unknown | TokenKind::Unused => {}
            }
        }
        check_limit("atomic tokens", atomic_count, limits::ATOMIC_TOKENS_MAX)?;
        check_limit("atomic token bytes", atomic_bytes, limits::ATOMIC_BYTES_MAX)
    }

    fn check_model(&self) -> Result<(), TokenizerError> {
        let count = self.vocabulary.len();
        match &self.model {
            MergeModel::Scores(scores) => {
                if self.alphabet != Alphabet::Characters {
                    return rule("scores", "belong to a character alphabet");
                }
                if scores.len() != count {
                    return rule("scores", "one per token");
                }
                for (index, score) in scores.iter().enumerate() {
                    if !score.is_finite() || score.to_bits() == (-0.0f32).to_bits() {
                        let rule = "a score is finite and not a negative zero";
                        return Err(TokenizerError::Token { id: index as u32, rule });
                    }
                }
            }
            MergeModel::Merges { pairs, .. } => {
                check_limit("merges", pairs.len(), limits::MERGES_MAX)?;
                for (index, (left, right)) in pairs.iter().enumerate() {
                    if left.index() >= count || right.index() >= count {
                        return Err(TokenizerError::Merge {
                            index: index as u32,
                            rule: "names a token outside the vocabulary",
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn check_special(&self) -> Result<(), TokenizerError> {
        let special = &self.special;
        let count = self.vocabulary.len();
        let named = [
            ("bos id", special.bos),
            ("eos id", special.eos),
            ("unk id", special.unk),
            ("pad id", special.pad),
        ];
        for (field, id) in named {
            if id.is_some_and(|id| id.index() >= count) {
                return rule(field, "outside the vocabulary");
            }
        }
        let ends = &special.end_of_turn;
        check_limit("end-of-turn tokens", ends.len(), limits::END_OF_TURN_MAX)?;
        if !ends.is_sorted_by(|a, b| a < b) || ends.last().is_some_and(|id| id.index() >= count) {
            return rule("end-of-turn ids", "ascending and inside the vocabulary");
        }
        if special.eos.is_some_and(|eos| !ends.contains(&eos)) {
            return rule("end-of-turn ids", "must contain the eos id");
        }
        if self.add_bos && special.bos.is_none() {
            return rule("add_bos", "there is no bos id");
        }
        if self.add_eos && special.eos.is_none() {
            return rule("add_eos", "there is no eos id");
        }
        Ok(())
    }

    fn check_margins(&self) -> Result<(), TokenizerError> {
        if !self.margins.is_sorted_by(|a, b| a.0 < b.0) {
            return rule("margins", "must be ascending");
        }
        for (id, margins) in &self.margins {
            let atomic = matches!(
                self.vocabulary.kind(*id),
                Some(TokenKind::Control | TokenKind::UserDefined)
            );
            if !atomic || *margins == Margins::default() {
                let rule = "margins belong to control and user-defined tokens";
                return Err(TokenizerError::Token { id: id.0, rule });
            }
        }
        Ok(())
    }
}

fn rule<T>(field: &'static str, rule: &'static str) -> Result<T, TokenizerError> {
    Err(TokenizerError::Rule { field, rule })
}
