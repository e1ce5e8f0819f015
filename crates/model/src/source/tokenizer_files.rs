//! The raw material of a tokenizer, as the files of a model have it. What it means is the
//! tokenizer's business.

use super::gguf::{GgufFile, MAGIC};
use super::hugging_face::Folder;
use super::{Input, SourceError, limits};

/// Names under which folders have a tokenizer, the first that is there counts.
pub(super) const TOKENIZER_NAMES: [&str; 2] = ["tokenizer.json", "tokenizer.model"];

/// A tokenizer, still in the form of its files.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TokenizerFiles {
    /// Fields of a GGUF file.
    Gguf(Box<GgufVocabulary>),
    /// `tokenizer.json` of the `tokenizers` library.
    HuggingFace {
        /// `tokenizer.json`
        tokenizer: Vec<u8>,
        /// The files beside it.
        settings: TokenizerSettings,
    },
    /// A `SentencePiece` model.
    SentencePiece {
        /// The serialised model.
        model: Vec<u8>,
        /// The files beside it.
        settings: TokenizerSettings,
    },
    /// Lines of a base64 piece and its rank.
    Tiktoken {
        /// The lines.
        ranks: Vec<u8>,
        /// The files beside it.
        settings: TokenizerSettings,
    },
    /// A llama2.c tokenizer: the longest piece's length, then scores and pieces.
    Llama2c(Vec<u8>),
}

/// JSON files that come with a Hugging Face tokenizer. Each may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenizerSettings {
    /// `tokenizer_config.json`
    pub tokenizer_config: Option<Vec<u8>>,
    /// `special_tokens_map.json`
    pub special_tokens_map: Option<Vec<u8>>,
    /// `added_tokens.json`
    pub added_tokens: Option<Vec<u8>>,
    /// `generation_config.json`
    pub generation_config: Option<Vec<u8>>,
}

/// The `tokenizer.ggml.*` fields of a GGUF file. Ids are as the file has them, not compared with
/// the number of tokens; one of 2^32 - 1 or -1 is absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufVocabulary {
    /// `general.architecture`, which decides some quirks; empty when the file does not say.
    pub architecture: String,
    /// `llama` (`SentencePiece`), `gpt2` (byte pairs), and others.
    pub model: String,
    /// Which pre-tokenizer byte pairs want.
    pub pre: Option<String>,
    /// The pieces, in the order of their ids. Not always UTF-8.
    pub tokens: Vec<Vec<u8>>,
    /// As many as there are tokens, or none.
    pub scores: Vec<f32>,
    /// 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte. One per token, or none.
    pub types: Vec<i32>,
    /// Pairs with a space between, best first.
    pub merges: Vec<Vec<u8>>,
    /// Beginning of a text.
    pub bos_id: Option<u32>,
    /// End of a text.
    pub eos_id: Option<u32>,
    /// End of a turn.
    pub eot_id: Option<u32>,
    /// End of a message.
    pub eom_id: Option<u32>,
    /// Unknown piece.
    pub unknown_id: Option<u32>,
    /// Separator.
    pub separator_id: Option<u32>,
    /// Padding.
    pub padding_id: Option<u32>,
    /// Start a text with `bos_id`.
    pub add_bos: Option<bool>,
    /// End a text with `eos_id`.
    pub add_eos: Option<bool>,
    /// Start a text with a space.
    pub add_space_prefix: Option<bool>,
    /// Merge repeated spaces.
    pub remove_extra_whitespaces: Option<bool>,
    /// Normalisation table of a `SentencePiece` model.
    pub precompiled_charsmap: Option<Vec<u8>>,
}

impl TokenizerFiles {
    /// Reads a tokenizer from one file of any kind.
    pub(super) fn from_file(input: &Input) -> Result<Self, SourceError> {
        let mut start = [0; 64];
        let len = usize::try_from(input.size()).map_or(start.len(), |n| n.min(start.len()));
        let start = &mut start[..len];
        input.read_into(0, start)?;
        let Some(kind) = FileKind::of(start) else {
            return Err(SourceError::UnrecognisedTokenizer { file: input.file().to_path_buf() });
        };
        if kind == FileKind::Gguf {
            let vocabulary = GgufFile::parse(input.clone())?.vocabulary()?;
            return Ok(Self::Gguf(Box::new(vocabulary)));
        }
        let bytes = input.read_all(limits::TOKENIZER_BYTES_MAX)?;
        Ok(kind.with(bytes, TokenizerSettings::default()))
    }

    /// Reads the tokenizer of a Hugging Face folder, the first of `names` that is there.
    pub(super) fn from_folder(folder: &Folder, names: &[&str]) -> Result<Self, SourceError> {
        let optional = |name, limit| -> Result<Option<Vec<u8>>, SourceError> {
            let input = folder.open(name)?;
            input.map(|input| input.read_all(limit)).transpose()
        };
        let settings = TokenizerSettings {
            tokenizer_config: optional("tokenizer_config.json", limits::TOKENIZER_BYTES_MAX)?,
            special_tokens_map: optional("special_tokens_map.json", limits::CONFIG_BYTES_MAX)?,
            added_tokens: optional("added_tokens.json", limits::TOKENIZER_BYTES_MAX)?,
            generation_config: optional("generation_config.json", limits::CONFIG_BYTES_MAX)?,
        };
        for &name in names {
            let Some(bytes) = optional(name, limits::TOKENIZER_BYTES_MAX)? else {
                continue;
            };
            return match FileKind::of(&bytes[..bytes.len().min(64)]) {
                None | Some(FileKind::Gguf) => {
                    Err(SourceError::UnrecognisedTokenizer { file: folder.path(name) })
                }
                Some(kind) => Ok(kind.with(bytes, settings)),
            };
        }
        Err(SourceError::MissingFile { folder: folder.path(""), name: names.join(" or ") })
    }
}

/// What a tokenizer file is, by its first bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileKind {
    Gguf,
    Json,
    SentencePiece,
    Tiktoken,
    Llama2c,
}

impl FileKind {
    fn of(start: &[u8]) -> Option<Self> {
        let text = start.trim_ascii_start();
        match *start {
            _ if start.starts_with(&MAGIC) => Some(Self::Gguf),
            _ if text.first() == Some(&b'{') => Some(Self::Json),
            // A little-endian length below 2^16 and not 0.
            [a, b, 0, 0, ..] if (a, b) != (0, 0) => Some(Self::Llama2c),
            // Field 1 of the message, a piece, is first and not empty.
            [0x0a, len, ..] if len != 0 => Some(Self::SentencePiece),
            _ if is_tiktoken(start) => Some(Self::Tiktoken),
            _ => None,
        }
    }

    fn with(self, bytes: Vec<u8>, settings: TokenizerSettings) -> TokenizerFiles {
        match self {
            Self::Json => TokenizerFiles::HuggingFace { tokenizer: bytes, settings },
            Self::SentencePiece => TokenizerFiles::SentencePiece { model: bytes, settings },
            Self::Tiktoken => TokenizerFiles::Tiktoken { ranks: bytes, settings },
            Self::Llama2c => TokenizerFiles::Llama2c(bytes),
            Self::Gguf => unreachable!("callers read GGUF files by their own reader"),
        }
    }
}

/// Base64, a space, digits.
fn is_tiktoken(start: &[u8]) -> bool {
    let base64 = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let piece = start.iter().take_while(|b| base64(b)).count();
    piece > 0
        && start.get(piece) == Some(&b' ')
        && start.get(piece + 1).is_some_and(u8::is_ascii_digit)
}
