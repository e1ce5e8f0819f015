//! Tokenizers and chat templates, through the public interface.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod byte_pieces;
mod bytes;
mod conversions;
mod corpora;
mod families;
mod made;
mod properties;
mod refusals;
mod support;
mod templates;
mod vectors;
