//! Tokens against rows of weights: matrices are often taller than the vocabulary.

use super::error::{TokenizerError, check_limit};
use super::limits;
use super::spec::{MergeModel, SpecialIds, TokenizerSpec};
use super::vocabulary::{TokenKind, Vocabulary};

impl TokenizerSpec {
    /// The same with tokens that no text becomes, so that there are `rows` in all.
    ///
    /// # Errors
    /// There are more tokens than rows, or more rows than any vocabulary has.
    pub fn with_rows(mut self, rows: usize) -> Result<Self, TokenizerError> {
        check_limit("rows", rows, limits::VOCAB_MAX)?;
        check_limit("tokens", self.vocabulary.len(), rows)?;
        for id in self.vocabulary.len()..rows {
            self.vocabulary.push(format!("[PAD{id}]").as_bytes(), TokenKind::Unused);
        }
        if let MergeModel::Scores(scores) = &mut self.model {
            scores.resize(rows, 0.0);
        }
        Ok(self)
    }

    /// The same without unused tokens at the end.
    #[must_use]
    pub fn without_unused_rows(mut self) -> Self {
        drop_unused_rows(&mut self.vocabulary, &self.special);
        if let MergeModel::Scores(scores) = &mut self.model {
            scores.truncate(self.vocabulary.len());
        }
        self
    }
}

/// Drops unused tokens at the end: they are rows of the weights, not part of the tokenizer.
pub(super) fn drop_unused_rows(vocabulary: &mut Vocabulary, special: &SpecialIds) {
    let named = [special.bos, special.eos, special.unk, special.pad].into_iter().flatten();
    let named = named.chain(special.end_of_turn.iter().copied());
    let used = vocabulary.iter().filter(|(_, _, kind)| *kind != TokenKind::Unused);
    let last = used.map(|(id, _, _)| id).chain(named).max();
    vocabulary.truncate(last.map_or(0, |id| id.index() + 1));
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_base::TokenId;

    /// `<unk> <s> </s> a`
    fn spec() -> TokenizerSpec {
        let mut bytes = vec![5, 0, 0, 0];
        for piece in ["<unk>", "<s>", "</s>", "a"] {
            bytes.extend_from_slice(&0.0_f32.to_le_bytes());
            bytes.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            bytes.extend_from_slice(piece.as_bytes());
        }
        TokenizerSpec::from_llama2c(&bytes).unwrap()
    }

    #[test]
    fn rows_are_added_and_dropped_again() {
        let padded = spec().with_rows(8).unwrap();
        padded.check().unwrap();
        assert_eq!(padded.vocabulary.len(), 8);
        assert_eq!(padded.vocabulary.kind(TokenId(7)), Some(TokenKind::Unused));
        assert_eq!(padded.without_unused_rows(), spec());
        assert!(spec().with_rows(3).is_err());
        assert!(spec().with_rows(usize::MAX).is_err());
    }
}
