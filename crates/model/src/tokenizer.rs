//! Tokenizers: text to ids and back.
//!
//! Owns the description of a tokenizer ([`TokenizerSpec`], a blob of a package), the files it comes
//! from and goes to, and the engine that runs it ([`Tokenizer`], [`Detokenizer`]). Does not own
//! reading model files: the fields of a GGUF file come as [`GgufTokenizer`].
//!
//! Invariants:
//! - results are a pure function of the description, on every machine and with every version;
//! - control tokens are never made from text unless the caller asks for it;
//! - no input makes it panic, and time is near-linear in the text.
//!
//! Why the engine is our own: `docs/adr/0002-tokenizer.md`.

mod byte_alphabet;
mod codec;
mod decode;
mod encode;
mod end_of_turn;
mod error;
mod gguf;
mod hf;
mod index;
pub mod limits;
mod llama2c;
mod merge;
mod merge_list;
mod pretokenizer;
mod rows;
mod sentencepiece;
mod spec;
mod tiktoken;
mod vocabulary;

pub use decode::{ControlTokens, DecodeFrom, Detokenizer};
pub use encode::{EncodeOptions, Tokenizer};
pub use error::{EncodeError, TokenizerError, UnknownTokenId};
pub use gguf::GgufTokenizer;
pub use hf::{HfFiles, HfTokenizer};
pub use pretokenizer::{NamedPreTokenizer, PreTokenizer, Splitter};
pub use spec::{Alphabet, Margins, MergeModel, Normalizer, SpacePrefix, SpecialIds, TokenizerSpec};
pub use tiktoken::TiktokenProfile;
pub use vocabulary::{TokenKind, Vocabulary};
