//! Names of page-sized prefixes: a chain of hashes over package, salt and tokens.

use shoal_arith::limits::CHUNK;
use shoal_base::{PackageId, TokenId};

use crate::PageKey;

const DOMAIN: &str = "shoal/page/v1";

/// The chain over the tokens of one sequence.
#[derive(Clone, Debug)]
pub(crate) struct PrefixChain {
    start: PageKey,
    keys: Vec<PageKey>,
}

impl PrefixChain {
    /// An empty chain. Sequences of different salts share nothing.
    pub(crate) fn new(package: PackageId, salt: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
        hasher.update(&package.0.0);
        hasher.update(salt);
        Self { start: *hasher.finalize().as_bytes(), keys: Vec::new() }
    }

    /// Extends the chain to all full chunks of `tokens`, of which it has seen the beginning.
    pub(crate) fn extend(&mut self, tokens: &[TokenId]) {
        while (self.keys.len() + 1) * CHUNK <= tokens.len() {
            let chunk = &tokens[self.keys.len() * CHUNK..][..CHUNK];
            let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
            hasher.update(self.keys.last().unwrap_or(&self.start));
            for token in chunk {
                hasher.update(&token.0.to_le_bytes());
            }
            self.keys.push(*hasher.finalize().as_bytes());
        }
    }

    /// Keys of the full chunks seen so far.
    pub(crate) fn keys(&self) -> &[PageKey] {
        &self.keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_base::Digest;

    #[test]
    fn keys_cover_everything_before_their_end() {
        let package = PackageId(Digest([1; 32]));
        let tokens: Vec<TokenId> = (0..200).map(TokenId).collect();
        let keys = |tokens: &[TokenId], salt: &[u8]| {
            let mut chain = PrefixChain::new(package, salt);
            chain.extend(tokens);
            chain.keys().to_vec()
        };
        let whole = keys(&tokens, b"");
        assert_eq!(whole.len(), 3);
        assert_eq!(keys(&tokens[..130], b""), whole[..2]);
        let mut changed = tokens.clone();
        changed[0] = TokenId(7);
        assert!(keys(&changed, b"").iter().zip(&whole).all(|(a, b)| a != b));
        assert!(keys(&tokens, b"other").iter().zip(&whole).all(|(a, b)| a != b));
    }
}
