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
        level = level_above(&level);
    }
    level[0]
}

fn level_above(level: &[Digest]) -> Vec<Digest> {
    let parent = |pair: &[Digest]| match pair {
        [left, right] => node(left, right),
        _ => pair[0],
    };
    level.chunks(2).map(parent).collect()
}

fn node(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [0; 64];
    bytes[..32].copy_from_slice(&left.0);
    bytes[32..].copy_from_slice(&right.0);
    Digest::tagged(NODE_DOMAIN, &bytes)
}

/// What proves that leaf `index` is one of `leaves`: its siblings from the bottom up, none for a
/// level that passes it up unchanged.
///
/// # Panics
/// When there is no such leaf.
#[must_use]
pub fn merkle_path(leaves: &[Digest], index: usize) -> Vec<Digest> {
    assert!(index < leaves.len(), "the leaf exists");
    let (mut level, mut index) = (leaves.to_vec(), index);
    let mut path = Vec::new();
    while level.len() > 1 {
        path.extend(level.get(index ^ 1));
        level = level_above(&level);
        index /= 2;
    }
    path
}

/// The root of a tree of `count` leaves in which `leaf` has place `index` and these siblings.
/// `None` when no such tree has a path of this length.
#[must_use]
pub fn root_of_path(leaf: Digest, index: u64, count: u64, path: &[Digest]) -> Option<Digest> {
    if index >= count {
        return None;
    }
    let (mut digest, mut index, mut count) = (leaf, index, count);
    let mut siblings = path.iter();
    while count > 1 {
        if index ^ 1 < count {
            let sibling = siblings.next()?;
            digest = match index % 2 {
                0 => node(&digest, sibling),
                _ => node(sibling, &digest),
            };
        }
        (index, count) = (index / 2, count.div_ceil(2));
    }
    siblings.next().is_none().then_some(digest)
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
    fn a_path_proves_its_leaf_in_its_place_and_nothing_else() {
        let hasher = LeafHasher::default();
        for count in 1..=9_usize {
            let leaves: Vec<Digest> = (0..count as u8).map(|i| hasher.leaf(&[i])).collect();
            let root = Some(merkle_root(&leaves));
            for (index, &leaf) in leaves.iter().enumerate() {
                let path = merkle_path(&leaves, index);
                let (at, all) = (index as u64, count as u64);
                assert_eq!(root_of_path(leaf, at, all, &path), root, "{index} of {count}");
                assert_ne!(root_of_path(hasher.leaf(b"other"), at, all, &path), root);
                for wrong in (0..all + 2).filter(|&wrong| wrong != at) {
                    assert_ne!(root_of_path(leaf, wrong, all, &path), root, "place {wrong}");
                }
                let longer = [&path[..], &[leaf]].concat();
                assert_eq!(root_of_path(leaf, at, all, &longer), None);
                if let Some((_, shorter)) = path.split_last() {
                    assert_eq!(root_of_path(leaf, at, all, shorter), None);
                }
            }
        }
    }

    #[test]
    fn a_node_is_not_a_leaf() {
        let hasher = LeafHasher::default();
        let (left, right) = (hasher.leaf(b"l"), hasher.leaf(b"r"));
        let both = [left.0, right.0].concat();
        assert_ne!(merkle_root(&[left, right]), hasher.leaf(&both));
    }
}
