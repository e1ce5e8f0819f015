//! Merge lists and the scores or ranks they are made from.

use std::collections::HashMap;

use shoal_base::TokenId;

use super::error::{TokenizerError, check_limit};
use super::limits;
use super::vocabulary::{TokenKind, Vocabulary};

/// Ids of the tokens that merges can name, by their bytes; of equal ones the first.
pub(super) fn text_ids(vocabulary: &Vocabulary) -> HashMap<&[u8], TokenId> {
    let mut ids = HashMap::with_capacity(vocabulary.len());
    for (id, bytes, kind) in vocabulary.iter() {
        if matches!(kind, TokenKind::Normal | TokenKind::UserDefined) {
            ids.entry(bytes).or_insert(id);
        }
    }
    ids
}

/// The list of all splits of a token into two tokens, ascending by their ids, token after token.
pub(super) fn all_splits(
    vocabulary: &Vocabulary,
    tokens: impl Iterator<Item = TokenId>,
) -> Result<Vec<(TokenId, TokenId)>, TokenizerError> {
    let ids = text_ids(vocabulary);
    let mut pairs = Vec::new();
    for id in tokens {
        let bytes = vocabulary.get(id).unwrap_or_default();
        if ids.get(bytes) != Some(&id) {
            continue;
        }
        let first = pairs.len();
        for at in 1..bytes.len() {
            let (left, right) = bytes.split_at(at);
            if let (Some(&left), Some(&right)) = (ids.get(left), ids.get(right)) {
                pairs.push((left, right));
            }
        }
        pairs[first..].sort_unstable();
        check_limit("merges", pairs.len(), limits::MERGES_MAX)?;
    }
    Ok(pairs)
}

/// The scores that a merge list was made from.
///
/// Such a list has, for each token from the highest score down, all its splits. Merging by it and
/// by score differ only where two different splits of one token overlap in a text.
pub(super) fn scores_of(
    vocabulary: &Vocabulary,
    pairs: &[(TokenId, TokenId)],
) -> Result<Vec<f32>, TokenizerError> {
    let ids = text_ids(vocabulary);
    let mut scores = vec![0.0; vocabulary.len()];
    let mut merges_of = vec![0usize; vocabulary.len()];
    let (mut place, mut last) = (0, None);
    let different = || TokenizerError::unsupported("merge list", "that is not made from scores");
    for &(left, right) in pairs {
        let bytes = |id| vocabulary.get(id).unwrap_or_default();
        let whole = [bytes(left), bytes(right)].concat();
        let id = *ids.get(whole.as_slice()).ok_or_else(different)?;
        if last != Some(id) {
            if merges_of[id.index()] > 0 {
                return Err(different());
            }
            place += 1;
            scores[id.index()] = -(place as f32);
            last = Some(id);
        }
        merges_of[id.index()] += 1;
    }
    for (&bytes, &id) in &ids {
        let text = std::str::from_utf8(bytes).map_err(|_| different())?;
        // A character is a symbol of its own even without a token.
        let symbol =
            |part: &str| part.chars().nth(1).is_none() || ids.contains_key(part.as_bytes());
        let splits = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        let count = splits.filter(|(left, right)| symbol(left) && symbol(right)).count();
        if count != merges_of[id.index()] {
            return Err(different());
        }
    }
    Ok(scores)
}
