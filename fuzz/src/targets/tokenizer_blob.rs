//! The tokenizer blob of a package. A tokenizer has one form.

use shoal_model::tokenizer::TokenizerSpec;

use crate::{Target, seeds, tokenizers};

pub(super) const TARGET: Target = Target {
    name: "tokenizer_blob",
    seeds,
    memory_bytes: tokenizers::MEMORY_BYTES,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    [seeds::byte_spec(), seeds::character_spec()]
        .map(|spec| spec.to_bytes().expect("it is sound"))
        .to_vec()
}

fn run(bytes: &[u8]) {
    let Ok(spec) = TokenizerSpec::from_bytes(bytes) else {
        return;
    };
    assert_eq!(spec.to_bytes().as_deref(), Ok(bytes), "a tokenizer has one form");
    tokenizers::run_spec(spec, bytes);
}
