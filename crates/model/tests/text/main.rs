//! Tokenizers and chat templates, through the public interface.

mod support;
mod vectors;
