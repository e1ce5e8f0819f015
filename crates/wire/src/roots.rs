//! Prefix roots: 32 bytes that stand for every row at one boundary up to a position. Spec 03, 6.3.
//!
//! Both hashes name the package, the boundary and the position, and no request. So a root can lie
//! with a cached prefix and be the same after a hit, a rejected guess or a replay.

use shoal_base::{Digest, PackageId};

use crate::{Field, Writer};

const ACTIVATION_DOMAIN: &str = "shoal/activation/v1";
const PREFIX_DOMAIN: &str = "shoal/prefix/v1";

/// The hash of one row after `layers_done` layers.
#[must_use]
pub fn activation_leaf(package: PackageId, layers_done: u16, position: u32, row: &[u8]) -> Digest {
    let mut out = Writer::default();
    package.write(&mut out);
    layers_done.write(&mut out);
    position.write(&mut out);
    out.put(row);
    Digest::tagged(ACTIVATION_DOMAIN, &out.into_bytes())
}

/// The root of a prefix that is one row longer. The root of no rows is 32 zero bytes.
#[must_use]
pub fn next_root(before: Digest, leaf: Digest) -> Digest {
    Digest::tagged(PREFIX_DOMAIN, &[before.0, leaf.0].concat())
}

/// The roots of one sequence at one boundary. Can be cut anywhere, as sequences are.
#[derive(Clone, Debug)]
pub struct ActivationRoots {
    package: PackageId,
    layers_done: u16,
    /// The root after each position.
    roots: Vec<Digest>,
}

impl ActivationRoots {
    /// Of an empty sequence.
    #[must_use]
    pub fn new(package: PackageId, layers_done: u16) -> Self {
        Self { package, layers_done, roots: Vec::new() }
    }

    /// How many positions it covers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.roots.len()
    }

    /// Whether it covers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Forgets positions from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.roots.truncate(length);
    }

    /// The root of the first `length` positions, when it covers them.
    #[must_use]
    pub fn at(&self, length: usize) -> Option<Digest> {
        match length.checked_sub(1) {
            None => Some(Digest([0; 32])),
            Some(index) => self.roots.get(index).copied(),
        }
    }

    /// Appends rows of `width` elements and returns the root after the last one.
    ///
    /// # Panics
    /// When the bytes are not whole rows.
    pub fn append(&mut self, rows: &[u8], width: u32) -> Digest {
        let row_bytes = 2 * width as usize;
        assert!(row_bytes > 0 && rows.len().is_multiple_of(row_bytes), "whole rows");
        let mut root = self.at(self.roots.len()).expect("the length is its own");
        for row in rows.chunks_exact(row_bytes) {
            let position = u32::try_from(self.roots.len()).expect("positions are below 2^20");
            root = next_root(root, activation_leaf(self.package, self.layers_done, position, row));
            self.roots.push(root);
        }
        root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_sequence_continues_as_if_it_never_went_further() {
        let package = PackageId(Digest::of(b"package"));
        let rows: Vec<u8> = (0..40).collect();
        let mut straight = ActivationRoots::new(package, 3);
        let root = straight.append(&rows, 4);
        let mut cut = ActivationRoots::new(package, 3);
        cut.append(&rows[..24], 4);
        cut.append(&[9; 16], 4);
        cut.truncate(3);
        assert_eq!(cut.append(&rows[24..], 4), root);
        assert_eq!((cut.len(), cut.at(5)), (5, Some(root)));
        assert_eq!((cut.at(0), cut.at(6)), (Some(Digest([0; 32])), None));
    }

    #[test]
    fn package_boundary_position_and_row_change_the_leaf() {
        let package = PackageId(Digest::of(b"package"));
        let leaf = activation_leaf(package, 1, 2, &[3]);
        let other = PackageId(Digest::of(b"other"));
        assert_ne!(leaf, activation_leaf(other, 1, 2, &[3]));
        assert_ne!(leaf, activation_leaf(package, 2, 2, &[3]));
        assert_ne!(leaf, activation_leaf(package, 1, 3, &[3]));
        assert_ne!(leaf, activation_leaf(package, 1, 2, &[4]));
    }
}
