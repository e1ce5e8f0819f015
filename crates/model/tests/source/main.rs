//! Reading and writing of model files: generated files of every kind, hostile ones, real ones.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "functions that tests share are tests too"
)]

mod gguf;
mod gguf_refusals;
mod hostile;
mod hugging_face;
mod llama2c;
mod lone_tokenizer;
mod real_files;
mod support;
mod writer;
