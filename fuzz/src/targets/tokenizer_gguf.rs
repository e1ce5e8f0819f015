//! The vocabulary of a GGUF file.

use shoal_model::Family;
use shoal_model::source::ElementType;
use shoal_model::tokenizer::{NamedPreTokenizer, PreTokenizer};

use crate::{Target, seeds, tokenizers};

pub(super) const TARGET: Target = Target {
    name: "tokenizer_gguf",
    seeds,
    memory_bytes: tokenizers::MEMORY_BYTES,
    run: tokenizers::run_file,
};

fn seeds() -> Vec<Vec<u8>> {
    let scores = seeds::character_spec().to_gguf(10).expect("it has a GGUF form");
    let mut bytes = seeds::byte_spec();
    bytes.pretokenizer = PreTokenizer::Named(NamedPreTokenizer::Gpt2);
    let rows = bytes.vocabulary.len();
    let merges = bytes.to_gguf(rows).expect("it has a GGUF form");
    [scores, merges].map(|v| seeds::gguf(Family::Llama, ElementType::F16, &v)).to_vec()
}

#[cfg(test)]
mod tests {
    use shoal_model::source::{TokenizerFiles, fuzz};

    #[test]
    fn seeds_are_files_with_vocabularies() {
        for seed in super::seeds() {
            let files = fuzz::tokenizer_file(&seed);
            assert!(matches!(files, Ok(TokenizerFiles::Gguf(_))), "{files:?}");
        }
    }
}
