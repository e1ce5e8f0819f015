//! The tokens of a vocabulary, packed: one allocation for all bytes, so that 150 000 tokens load in
//! milliseconds.

use shoal_base::TokenId;

/// What a token is for. The numbers are those of GGUF files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TokenKind {
    /// Text, reached by merging.
    Normal = 1,
    /// Stands for text that has no token.
    Unknown = 2,
    /// A control token such as "end of turn": never made from plain text, not part of an answer.
    Control = 3,
    /// Text that is always one token and is never split or merged.
    UserDefined = 4,
    /// A row that exists in the weights only.
    Unused = 5,
    /// One raw byte, for text that has no other token.
    Byte = 6,
}

impl TokenKind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

/// The tokens of a vocabulary: id, bytes and kind. Ids are positions.
///
/// Bytes are what the token stands for: raw bytes for a byte alphabet, text in which `▁` is a space
/// for a character alphabet, one byte for [`TokenKind::Byte`], the literal name for control tokens.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Vocabulary {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    kinds: Vec<TokenKind>,
}

impl Vocabulary {
    /// An empty vocabulary with room for `token_count` tokens of `bytes_count` bytes together.
    #[must_use]
    pub fn with_capacity(token_count: usize, bytes_count: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes_count),
            ends: Vec::with_capacity(token_count),
            kinds: Vec::with_capacity(token_count),
        }
    }

    /// Appends a token and returns its id. The caller keeps the total below 4 GiB.
    pub fn push(&mut self, bytes: &[u8], kind: TokenKind) -> TokenId {
        let id = TokenId(self.ends.len() as u32);
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u32);
        self.kinds.push(kind);
        id
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Bytes of all tokens together.
    #[must_use]
    pub fn bytes_len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of a token; `None` outside the vocabulary.
    #[must_use]
    pub fn get(&self, id: TokenId) -> Option<&[u8]> {
        let end = *self.ends.get(id.index())? as usize;
        let start = match id.index() {
            0 => 0,
            index => self.ends[index - 1] as usize,
        };
        Some(&self.bytes[start..end])
    }

    /// Kind of a token; `None` outside the vocabulary.
    #[must_use]
    pub fn kind(&self, id: TokenId) -> Option<TokenKind> {
        self.kinds.get(id.index()).copied()
    }

    /// Changes the kind of a token inside the vocabulary.
    pub(super) fn set_kind(&mut self, id: TokenId, kind: TokenKind) {
        self.kinds[id.index()] = kind;
    }

    /// Drops all tokens from id `count` on.
    pub(super) fn truncate(&mut self, count: usize) {
        self.kinds.truncate(count);
        self.ends.truncate(count);
        let end = self.ends.last().copied().unwrap_or(0);
        self.bytes.truncate(end as usize);
    }

    /// All tokens in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (TokenId, &[u8], TokenKind)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).zip(&self.kinds).enumerate().map(
            |(index, ((start, &end), &kind))| {
                let bytes = &self.bytes[start as usize..end as usize];
                (TokenId(index as u32), bytes, kind)
            },
        )
    }

    pub(super) fn packed(&self) -> (&[u8], &[u32], &[TokenKind]) {
        (&self.bytes, &self.ends, &self.kinds)
    }
}

impl std::fmt::Debug for Vocabulary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vocabulary({} tokens)", self.len())
    }
}
