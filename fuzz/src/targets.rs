//! The list of targets. A new one is a file below this folder and a word here.

use crate::Target;

/// Declares the modules and lists their `TARGET`s.
macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(mod $name;)*

        /// Those with a file of their own.
        const SINGLE: &[Target] = &[$($name::TARGET),*];
    };
}

targets! {
    architecture,
    bundle,
    chat_template,
    digest,
    grammar,
    hf_config,
    hf_weights,
    manifest,
    model_file,
    package_blobs,
    sampler,
    store_index,
    store_names,
    store_record,
    tiles,
    tokenizer_blob,
    tokenizer_gguf,
    tokenizer_hf,
    tokenizer_llama2c,
    tokenizer_sentencepiece,
    tokenizer_tiktoken,
    tool_calls,
    wire_frame,
}

mod wire_messages;

/// Every target.
#[must_use]
pub fn all() -> Vec<Target> {
    [SINGLE, wire_messages::TARGETS].concat()
}

/// The target with a name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    all().into_iter().find(|target| target.name == name)
}
