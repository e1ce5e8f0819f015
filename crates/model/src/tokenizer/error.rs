//! Why a tokenizer was refused.

use super::limits::NAME_BYTES_MAX;

/// Why a description, or a file that should become one, was refused. Blame: whoever made the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file is not of the format it was taken for.
    #[error("{format} at byte {offset}: {rule}")]
    Malformed {
        /// Format that was expected.
        format: &'static str,
        /// Where reading stopped.
        offset: usize,
        /// What was expected there.
        rule: &'static str,
    },
    /// The file is not JSON, or a value has another type than expected.
    #[error("{format} is not readable: {reason}")]
    Json {
        /// Format that was expected.
        format: &'static str,
        /// The reader's words.
        reason: String,
    },
    /// The file is well formed and says something that this tokenizer cannot do exactly.
    #[error("{what} `{name}` is not supported")]
    Unsupported {
        /// Part of the file.
        what: &'static str,
        /// What it says.
        name: String,
    },
    /// Two parts do not fit together.
    #[error("{field}: {rule}")]
    Rule {
        /// Part of the description.
        field: &'static str,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A token breaks a rule.
    #[error("token {id}: {rule}")]
    Token {
        /// Its id.
        id: u32,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// A merge breaks a rule.
    #[error("merge {index}: {rule}")]
    Merge {
        /// Its rank, from 0.
        index: u32,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// Something is larger than any tokenizer needs.
    #[error("{what}: {got}, limit {limit}")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// How much there is.
        got: usize,
        /// How much there may be.
        limit: usize,
    },
    /// A pre-tokenizer expression cannot be used.
    #[error("pre-tokenizer expression {index}: {reason}")]
    Expression {
        /// Its position, from 0.
        index: usize,
        /// Why.
        reason: String,
    },
}

impl TokenizerError {
    pub(super) fn unsupported(what: &'static str, name: &str) -> Self {
        Self::Unsupported { what, name: shorten(name) }
    }

    pub(super) fn json(format: &'static str, error: &serde_json::Error) -> Self {
        Self::Json { format, reason: shorten(&error.to_string()) }
    }
}

/// The first [`NAME_BYTES_MAX`] bytes of `name`, cut at a character.
pub(super) fn shorten(name: &str) -> String {
    let mut end = name.len().min(NAME_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let mut short = name[..end].to_owned();
    if end < name.len() {
        short.push('…');
    }
    short
}

/// Refuses `got` above `limit`.
pub(super) fn check_limit(
    what: &'static str,
    got: usize,
    limit: usize,
) -> Result<(), TokenizerError> {
    if got > limit {
        return Err(TokenizerError::Limit { what, got, limit });
    }
    Ok(())
}

/// Why a text was not turned into ids. Blame: whoever sent the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The text is longer than any prompt may be.
    #[error("text of {got} bytes, limit {limit}")]
    TextBytes {
        /// Its length.
        got: usize,
        /// The limit.
        limit: usize,
    },
    /// The vocabulary has neither a token for this byte nor one for unknown text.
    #[error("no token for byte {byte:#04x}")]
    NoToken {
        /// The byte.
        byte: u8,
    },
    /// The pre-tokenizer's expressions look at the same text too often. Those of the named
    /// pre-tokenizers never do.
    #[error("the pre-tokenizer's expressions are too slow on this text")]
    Work,
    /// A beginning or end token was asked for and the vocabulary names none.
    #[error("the vocabulary has no {name} token")]
    NoSpecial {
        /// `bos` or `eos`.
        name: &'static str,
    },
}

/// An id outside the vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("token {id} is outside the vocabulary of {vocab_count}")]
pub struct UnknownTokenId {
    /// The id.
    pub id: u32,
    /// Entries of the vocabulary.
    pub vocab_count: u32,
}
