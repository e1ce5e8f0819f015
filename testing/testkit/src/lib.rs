//! What tests of several crates share. Never part of what ships.
#![forbid(unsafe_code)]

mod altered;
mod files;
mod server;
mod skip;
mod stressed;
mod tiny;

pub use altered::Altered;
pub use files::{gguf_file, gguf_file_with, llama2c_tokenizer, write_hugging_face, write_llama2c};
pub use server::{Asked, HttpServer};
pub use skip::{shared_data, skip};
pub use stressed::stressed;
pub use tiny::{TinyModel, byte_tokenizer, import, tiny_architecture};
