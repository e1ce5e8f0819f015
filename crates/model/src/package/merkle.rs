//! Merkle trees over the leaves of a blob. Spec 02 §6.
//!
//! A leaf is `BLAKE3(tag "shoal/leaf/v1", bytes)`, a node `BLAKE3(tag "shoal/node/v1", left |
//! right)`. A level with an odd number of digests passes its last one up unchanged.

use shoal_base::Digest;

const LEAF_DOMAIN: &str = "shoal/leaf/v1";
const NODE_DOMAIN: &str = "shoal/node/v1";

/// Hashes leaves; keeps the keyed state, so that each leaf costs one pass.
#[derive(Clone, Debug)]
pub struct LeafHasher(blake3::Hasher);

impl Default for LeafHasher {
    fn default() -> Self {
        Self(blake3::Hasher::new_derive_key(LEAF_DOMAIN))
    }
}

impl LeafHasher {
    /// The digest of one leaf.
    #[must_use]
    pub fn leaf(&self, bytes: &[u8]) -> Digest {
        let mut hasher = self.0.clone();
        hasher.update(bytes);
        Digest(*hasher.finalize().as_bytes())
    }
}

/// The root over `leaves`; of none, the digest of the empty leaf.
#[must_use]
pub fn merkle_root(leaves: &[Digest]) -> Digest {
    let Some(first) = leaves.first() else {
        return LeafHasher::default().leaf(&[]);
    };
    if leaves.len() == 1 {
        return *first;
    }
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => {
                    let mut bytes = [0; 64];
                    bytes[..32].copy_from_slice(&left.0);
                    bytes[32..].copy_from_slice(&right.0);
                    Digest::tagged(NODE_DOMAIN, &bytes)
                }
                _ => pair[0],
            })
            .collect();
    }
    level[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_depends_on_every_leaf_and_their_order() {
        let hasher = LeafHasher::default();
        let leaves: Vec<Digest> = (0..7u8).map(|i| hasher.leaf(&[i])).collect();
        let root = merkle_root(&leaves);
        for i in 0..7 {
            let mut changed = leaves.clone();
            changed[i] = hasher.leaf(b"other");
            assert_ne!(merkle_root(&changed), root);
            changed[i] = leaves[i];
            changed.swap(i, (i + 1) % 7);
            assert_ne!(merkle_root(&changed), root);
        }
        assert_ne!(merkle_root(&leaves[..6]), root);
    }

    #[test]
    fn a_node_is_not_a_leaf() {
        let hasher = LeafHasher::default();
        let (left, right) = (hasher.leaf(b"l"), hasher.leaf(b"r"));
        let both = [left.0, right.0].concat();
        assert_ne!(merkle_root(&[left, right]), hasher.leaf(&both));
    }
}
