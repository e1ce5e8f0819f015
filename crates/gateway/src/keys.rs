//! API keys: who may ask. Only hashes are kept, in the file and in memory.

use std::path::Path;

use crate::limits::KEYS_MAX;

/// Longest file: a line of 64 digits and a name for each key.
const FILE_BYTES_MAX: u64 = (KEYS_MAX * 256) as u64;

/// The keys that are accepted.
#[derive(Clone)]
pub struct ApiKeys {
    hashes: Vec<blake3::Hash>,
}

impl std::fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKeys({})", self.hashes.len())
    }
}

/// What is wrong with a file of keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// It is longer than any such file.
    #[error("more than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: u64,
    },
    /// A line is not a hash.
    #[error("line {line} is not a BLAKE3 hash (64 hexadecimal digits) and a name")]
    Line {
        /// Its number.
        line: usize,
    },
    /// No key at all would lock everybody out.
    #[error("no keys")]
    Empty,
    /// Too many keys to compare with.
    #[error("more than {limit} keys")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl ApiKeys {
    /// Reads a file: on each line the BLAKE3 hash of a key, and perhaps a name for it. Empty lines
    /// and those that start with `#` do not count.
    ///
    /// # Errors
    /// The file cannot be read, or is not such a file.
    pub fn open(path: &Path) -> Result<Self, KeysError> {
        use std::io::Read as _;

        let mut text = String::new();
        let file = std::fs::File::open(path)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_BYTES_MAX {
            return Err(KeysError::TooLong { limit: FILE_BYTES_MAX });
        }
        Self::parse(&text)
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// It is not such a text.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let mut hashes = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let digits = line.split_whitespace().next().unwrap_or_default();
            let hash = blake3::Hash::from_hex(digits);
            hashes.push(hash.map_err(|_| KeysError::Line { line: index + 1 })?);
        }
        match hashes.len() {
            0 => Err(KeysError::Empty),
            count if count > KEYS_MAX => Err(KeysError::TooMany { limit: KEYS_MAX }),
            _ => Ok(Self { hashes }),
        }
    }

    /// Whether a key is among them. All are compared, each in constant time.
    pub(crate) fn accept(&self, key: &[u8]) -> bool {
        let asked = blake3::hash(key);
        // The comparison of hashes is constant in time; `|` looks at every one of them.
        self.hashes.iter().fold(false, |found, hash| found | (*hash == asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_of_the_file_are_accepted() {
        let hash = |key: &str| blake3::hash(key.as_bytes()).to_hex().to_string();
        let text = format!("# keys\n\n{} laptop\n{}\n", hash("one"), hash("two"));
        let keys = ApiKeys::parse(&text).unwrap();
        assert!(keys.accept(b"one") && keys.accept(b"two"));
        assert!(
            !keys.accept(b"three") && !keys.accept(b"") && !keys.accept(hash("one").as_bytes())
        );
        assert_eq!(format!("{keys:?}"), "ApiKeys(2)");
    }

    #[test]
    fn files_that_are_none_are_refused() {
        assert!(matches!(ApiKeys::parse("# none\n"), Err(KeysError::Empty)));
        assert!(matches!(ApiKeys::parse("\nsecret"), Err(KeysError::Line { line: 2 })));
        let line = format!("{}\n", "0".repeat(64));
        let many = line.repeat(KEYS_MAX + 1);
        assert!(matches!(ApiKeys::parse(&many), Err(KeysError::TooMany { .. })));
        assert!(matches!(ApiKeys::open(Path::new("no/such/file")), Err(KeysError::Io(_))));
    }
}
