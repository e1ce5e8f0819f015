//! Ids to text, at once and as they come.

use std::sync::Arc;

use shoal_base::TokenId;

use super::encode::Tokenizer;
use super::error::UnknownTokenId;
use super::spec::SpacePrefix;
use super::vocabulary::TokenKind;

/// Where the decoded ids begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeFrom {
    /// At the beginning of a text: the space that encoding put in front of it is removed.
    Start,
    /// In the middle of a text, such as after a prompt: all spaces are kept.
    Middle,
}

/// What becomes of control and unknown tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlTokens {
    /// They add nothing.
    Skip,
    /// They add their names.
    Show,
}

impl Tokenizer {
    /// The bytes that `ids` stand for; not necessarily UTF-8.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode_bytes(
        &self,
        ids: &[TokenId],
        from: DecodeFrom,
        control: ControlTokens,
    ) -> Result<Vec<u8>, UnknownTokenId> {
        let mut bytes = Vec::new();
        let mut at_start = from == DecodeFrom::Start;
        for &id in ids {
            self.append(&mut bytes, &mut at_start, id, control)?;
        }
        Ok(bytes)
    }

    /// The text that `ids` stand for; what is not UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(
        &self,
        ids: &[TokenId],
        from: DecodeFrom,
        control: ControlTokens,
    ) -> Result<String, UnknownTokenId> {
        let bytes = self.decode_bytes(ids, from, control)?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    fn append(
        &self,
        bytes: &mut Vec<u8>,
        at_start: &mut bool,
        id: TokenId,
        control: ControlTokens,
    ) -> Result<(), UnknownTokenId> {
        let named = control == ControlTokens::Show
            && matches!(self.token_kind(id), Some(TokenKind::Control | TokenKind::Unknown));
        let token = if named { self.token_name(id) } else { self.token_bytes(id) };
        let mut token =
            token.ok_or(UnknownTokenId { id: id.0, vocab_count: self.vocab_count() })?;
        if *at_start && !token.is_empty() {
            *at_start = false;
            if self.spec().normalizer.space_prefix != SpacePrefix::Never {
                token = token.strip_prefix(b" ").unwrap_or(token);
            }
        }
        bytes.extend_from_slice(token);
        Ok(())
    }
}

/// Turns ids into text as they come. Never splits a character; the parts add up to what
/// [`Tokenizer::decode`] gives for all ids at once.
#[derive(Clone, Debug)]
pub struct Detokenizer {
    tokenizer: Arc<Tokenizer>,
    control: ControlTokens,
    at_start: bool,
    /// The beginning of a character that later ids may complete; at most 3 bytes between calls.
    pending: Vec<u8>,
}

impl Detokenizer {
    /// A detokenizer that has seen nothing.
    #[must_use]
    pub const fn new(tokenizer: Arc<Tokenizer>, from: DecodeFrom, control: ControlTokens) -> Self {
        Self {
            tokenizer,
            control,
            at_start: matches!(from, DecodeFrom::Start),
            pending: Vec::new(),
        }
    }

    /// Takes an id and returns the text that is certain now; often nothing.
    ///
    /// # Errors
    /// An id outside the vocabulary; nothing changes.
    pub fn push(&mut self, id: TokenId) -> Result<String, UnknownTokenId> {
        let tokenizer = &self.tokenizer;
        tokenizer.append(&mut self.pending, &mut self.at_start, id, self.control)?;
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        while let Some(chunk) = rest.utf8_chunks().next() {
            text.push_str(chunk.valid());
            rest = &rest[chunk.valid().len()..];
            // Only at the end of the bytes may an invalid sequence still become a character.
            if rest.is_empty() || is_prefix_of_character(rest) {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[chunk.invalid().len()..];
        }
        let kept = rest.len();
        self.pending.drain(..self.pending.len() - kept);
        Ok(text)
    }

    /// The bytes of an unfinished character.
    #[must_use]
    pub fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// The rest of the text: U+FFFD if a character was left unfinished.
    #[must_use]
    pub fn finish(self) -> String {
        String::from_utf8_lossy(&self.pending).into_owned()
    }
}

/// Whether more bytes could make `bytes` one character.
fn is_prefix_of_character(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
}
