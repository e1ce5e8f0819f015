//! Finding a token by its bytes.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use shoal_base::TokenId;

use super::vocabulary::{TokenKind, Vocabulary};

/// The tokens that text can become: normal and user-defined ones, by their bytes. Of tokens with
/// equal bytes the first is found.
///
/// The hash is keyed with random numbers, so that a hostile vocabulary cannot choose collisions;
/// nothing depends on its order.
pub(super) struct TextIndex {
    table: HashTable<TokenId>,
    hasher: RandomState,
    longest: usize,
}

impl TextIndex {
    pub(super) fn new(vocabulary: &Vocabulary) -> Self {
        let mut index = Self {
            table: HashTable::with_capacity(vocabulary.len()),
            hasher: RandomState::new(),
            longest: 0,
        };
        for (id, bytes, kind) in vocabulary.iter() {
            let text = matches!(kind, TokenKind::Normal | TokenKind::UserDefined);
            if text && !bytes.is_empty() && index.get(vocabulary, bytes).is_none() {
                let hasher = &index.hasher;
                let rehash = |id: &TokenId| hasher.hash_one(vocabulary.get(*id));
                index.table.insert_unique(hasher.hash_one(Some(bytes)), id, rehash);
                index.longest = index.longest.max(bytes.len());
            }
        }
        index
    }

    /// The token with these bytes. `vocabulary` is the one the index was made of.
    pub(super) fn get(&self, vocabulary: &Vocabulary, bytes: &[u8]) -> Option<TokenId> {
        if bytes.len() > self.longest {
            return None;
        }
        let hash = self.hasher.hash_one(Some(bytes));
        let same = |id: &TokenId| vocabulary.get(*id) == Some(bytes);
        self.table.find(hash, same).copied()
    }
}
