//! What tests of several crates share. Never part of what ships.
#![forbid(unsafe_code)]

mod skip;
mod stressed;
mod tiny;

pub use skip::{shared_data, skip};
pub use stressed::Stressed;
pub use tiny::{TinyModel, byte_tokenizer, import, tiny_architecture};
