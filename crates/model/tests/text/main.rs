//! Tokenizers and chat templates, through the public interface.

mod conversions;
mod corpora;
mod support;
mod vectors;
