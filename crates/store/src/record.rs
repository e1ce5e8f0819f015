//! What is known about a blob on its way: the digests of its leaves, and which are there.
//!
//! A record is a hint. It may be older than the file beside it, or younger than what reached the
//! disk before the power went; so leaves it names are hashed again before they count. It cannot
//! name other leaves: their digests hash to the name of the blob.

use shoal_base::Digest;
use shoal_wire::limits::LEAVES_MAX;
use shoal_wire::{LeafSet, blob_root, leaf_count};

const MAGIC: &[u8; 8] = b"shoalprt";
const VERSION: u16 = 1;
/// Magic, version, name, length.
const HEAD_BYTES: usize = 8 + 2 + 32 + 8;
/// Longest record.
pub(crate) const RECORD_BYTES_MAX: u64 = (HEAD_BYTES + LEAVES_MAX / 8 + LEAVES_MAX * 32) as u64;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) blob: Digest,
    pub(crate) bytes: u64,
    pub(crate) held: LeafSet,
    pub(crate) leaves: Vec<Digest>,
}

impl Record {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bits = vec![0_u8; self.leaves.len().div_ceil(8)];
        for leaf in self.held.iter() {
            bits[leaf as usize / 8] |= 1 << (leaf % 8);
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.blob.0);
        bytes.extend(self.bytes.to_le_bytes());
        bytes.extend(bits);
        bytes.extend(self.leaves.iter().flat_map(|leaf| leaf.0));
        bytes
    }

    /// `None` for whatever is no record.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let (magic, head) = head.split_first_chunk::<8>()?;
        let (version, head) = head.split_first_chunk::<2>()?;
        let (blob, length) = head.split_first_chunk::<32>()?;
        let length = u64::from_le_bytes(length.try_into().ok()?);
        if magic != MAGIC || u16::from_le_bytes(*version) != VERSION {
            return None;
        }
        let count = usize::try_from(leaf_count(length)).ok().filter(|c| *c <= LEAVES_MAX)?;
        let (bits, list) = rest.split_at_checked(count.div_ceil(8))?;
        if list.len() != count * 32 {
            return None;
        }
        let leaves: Vec<Digest> =
            list.as_chunks::<32>().0.iter().map(|digest| Digest(*digest)).collect();
        let mut held = LeafSet::new(u32::try_from(count).ok()?);
        for bit in (0..bits.len() * 8).filter(|bit| bits[bit / 8] >> (bit % 8) & 1 == 1) {
            // A bit beyond the end is no leaf: a record has one form.
            if !held.insert(u32::try_from(bit).ok()?) {
                return None;
            }
        }
        let blob = Digest(*blob);
        (blob_root(&leaves) == Some(blob)).then_some(Self { blob, bytes: length, held, leaves })
    }
}
