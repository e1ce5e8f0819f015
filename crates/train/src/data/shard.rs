//! Packed tokens: documents as a file of little-endian numbers. Spec 05 §8.3.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `shoaltks` |
//! | 2 | version, 1 |
//! | 4 | vocabulary: every token is below it |
//! | 8 | documents `n` |
//! | n x | 4 tokens `t`, 1 whether there are weights, 4 t tokens, 4 t weights if any |
//! | 32 | digest of everything before |

use shoal_base::Digest;

use super::Document;

const MAGIC: &[u8; 8] = b"shoaltks";
const VERSION: u16 = 1;
const DOMAIN: &str = "shoal/train/shard/v1";
const HEADER_BYTES: usize = 8 + 2 + 4 + 8;
const DIGEST_BYTES: usize = 32;
/// A document has a token count and a flag.
const DOCUMENT_BYTES_MIN: u64 = 5;

/// Why bytes are no shard.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// Another kind of file, or another version.
    #[error("not packed tokens of version {VERSION}")]
    Format,
    /// The file ends early or goes on.
    #[error("packed tokens end at byte {at}, where more was expected or less")]
    Truncated {
        /// Where.
        at: u64,
    },
    /// The digest does not fit.
    #[error("packed tokens are damaged, their digest differs")]
    Damaged,
    /// Made for another tokenizer.
    #[error("packed tokens of a vocabulary of {got}, the model has {expected}")]
    Vocabulary {
        /// What the file says.
        got: u32,
        /// What the model has.
        expected: u32,
    },
    /// A token or weight that cannot be.
    #[error("document {document}: {rule}")]
    Document {
        /// Its index.
        document: u64,
        /// What must hold.
        rule: &'static str,
    },
}

/// Packs documents.
#[must_use]
pub fn encode_shard(vocab_count: u32, documents: &[Document]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&vocab_count.to_le_bytes());
    bytes.extend_from_slice(&(documents.len() as u64).to_le_bytes());
    for document in documents {
        put_document(&mut bytes, document);
    }
    let digest = Digest::tagged(DOMAIN, &bytes);
    bytes.extend_from_slice(&digest.0);
    bytes
}

/// The bytes of one document, which are also its leaf in the data's Merkle tree.
pub(super) fn put_document(bytes: &mut Vec<u8>, document: &Document) {
    bytes.extend_from_slice(&(document.tokens.len() as u32).to_le_bytes());
    bytes.push(u8::from(!document.weights.is_empty()));
    document.tokens.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
    document.weights.iter().for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
}

/// Unpacks documents.
///
/// # Errors
/// Bytes that [`encode_shard`] would not have written for this vocabulary.
pub fn decode_shard(vocab_count: u32, bytes: &[u8]) -> Result<Vec<Document>, ShardError> {
    if bytes.len() < HEADER_BYTES + DIGEST_BYTES || bytes[..8] != *MAGIC {
        return Err(ShardError::Format);
    }
    if bytes[8..10] != VERSION.to_le_bytes() {
        return Err(ShardError::Format);
    }
    let (content, digest) = bytes.split_at(bytes.len() - DIGEST_BYTES);
    if Digest::tagged(DOMAIN, content).0 != *digest {
        return Err(ShardError::Damaged);
    }
    let got = u32::from_le_bytes(content[10..14].try_into().expect("four bytes"));
    if got != vocab_count {
        return Err(ShardError::Vocabulary { got, expected: vocab_count });
    }
    let count = u64::from_le_bytes(content[14..22].try_into().expect("eight bytes"));
    let mut reader = Reader { bytes: content, at: HEADER_BYTES };
    if count > (content.len() - HEADER_BYTES) as u64 / DOCUMENT_BYTES_MIN {
        return Err(reader.truncated());
    }
    let mut documents = Vec::with_capacity(count as usize);
    for index in 0..count {
        documents.push(reader.document(index, vocab_count)?);
    }
    if reader.at == content.len() { Ok(documents) } else { Err(reader.truncated()) }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn truncated(&self) -> ShardError {
        ShardError::Truncated { at: self.at as u64 }
    }

    fn take(&mut self, len: usize) -> Result<&[u8], ShardError> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or(ShardError::Truncated { at: self.at as u64 })?;
        self.at += len;
        Ok(taken)
    }

    fn words<T>(&mut self, count: usize, of: fn([u8; 4]) -> T) -> Result<Vec<T>, ShardError> {
        let bytes = self.take(count.checked_mul(4).ok_or_else(|| self.truncated())?)?;
        let words = bytes.chunks_exact(4);
        Ok(words.map(|word| of(word.try_into().expect("four bytes"))).collect())
    }

    fn document(&mut self, document: u64, vocab_count: u32) -> Result<Document, ShardError> {
        let refuse = |rule| Err(ShardError::Document { document, rule });
        let count = self.words(1, u32::from_le_bytes)?[0] as usize;
        let flag = self.take(1)?[0];
        if flag > 1 {
            return refuse("the flag is 0 or 1");
        }
        let tokens = self.words(count, u32::from_le_bytes)?;
        let weights = self.words(count * usize::from(flag), f32::from_le_bytes)?;
        if !tokens.iter().all(|&token| token < vocab_count) {
            return refuse("tokens are in the vocabulary");
        }
        if !weights.iter().all(|weight| (0.0..=1.0).contains(weight)) {
            return refuse("weights are in 0..=1");
        }
        if flag == 1 && weights.is_empty() {
            return refuse("an empty document has no weights");
        }
        Ok(Document { tokens, weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn documents() -> Vec<Document> {
        vec![
            Document { tokens: vec![1, 5, 2], weights: vec![] },
            Document::default(),
            Document { tokens: vec![1, 9], weights: vec![0.0, 1.0] },
        ]
    }

    /// Bytes with a digest that fits them.
    fn sealed(mut content: Vec<u8>) -> Vec<u8> {
        let digest = Digest::tagged(DOMAIN, &content);
        content.extend_from_slice(&digest.0);
        content
    }

    #[test]
    fn documents_come_back_as_they_were() {
        assert_eq!(decode_shard(10, &encode_shard(10, &documents())), Ok(documents()));
    }

    #[test]
    fn each_refusal_is_named() {
        let bytes = encode_shard(10, &documents());
        let content = bytes[..bytes.len() - DIGEST_BYTES].to_vec();
        assert_eq!(decode_shard(10, b"shoal"), Err(ShardError::Format));
        let mut damaged = bytes.clone();
        damaged[30] ^= 1;
        assert_eq!(decode_shard(10, &damaged), Err(ShardError::Damaged));
        let other = ShardError::Vocabulary { got: 10, expected: 11 };
        assert_eq!(decode_shard(11, &bytes), Err(other));
        let cut = sealed(content[..content.len() - 1].to_vec());
        assert!(matches!(decode_shard(10, &cut), Err(ShardError::Truncated { .. })));
        let long = sealed([content.clone(), vec![0]].concat());
        assert!(matches!(decode_shard(10, &long), Err(ShardError::Truncated { .. })));
        let mut many = content.clone();
        many[14..22].fill(0xff);
        assert!(matches!(decode_shard(10, &sealed(many)), Err(ShardError::Truncated { .. })));
        let mut token = content;
        token[HEADER_BYTES + 5] = 10;
        let refused = decode_shard(10, &sealed(token));
        assert!(matches!(refused, Err(ShardError::Document { document: 0, .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_behind_a_right_digest_are_read_or_refused(
            tail in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0_usize..60,
        ) {
            let mut content = encode_shard(10, &documents());
            content.truncate(content.len() - DIGEST_BYTES);
            content.truncate(at.max(14).min(content.len()));
            content.extend(tail);
            let bytes = sealed(content);
            if let Ok(documents) = decode_shard(10, &bytes) {
                prop_assert_eq!(encode_shard(10, &documents), bytes);
            }
        }
    }
}
