//! A tokenizer file of llama2.c.

use crate::{Target, tokenizers};

pub(super) const TARGET: Target = Target {
    name: "tokenizer_llama2c",
    seeds,
    memory_bytes: tokenizers::MEMORY_BYTES,
    run: tokenizers::run_file,
};

fn seeds() -> Vec<Vec<u8>> {
    let mut file = 9_u32.to_le_bytes().to_vec();
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let names = ["<unk>", "\n<s>\n", "\n</s>\n"].map(str::to_owned).into_iter();
    let pieces = [" ", "a", "b", "ab", " ab", "é"].map(str::to_owned);
    for (id, piece) in names.chain(bytes).chain(pieces).enumerate() {
        file.extend((-(id as f32)).to_le_bytes());
        file.extend((piece.len() as u32).to_le_bytes());
        file.extend(piece.as_bytes());
    }
    vec![file]
}

#[cfg(test)]
mod tests {
    use shoal_model::tokenizer::TokenizerSpec;

    #[test]
    fn seeds_are_tokenizers() {
        for seed in &super::seeds() {
            let spec = TokenizerSpec::from_llama2c(seed);
            assert!(spec.is_ok(), "{spec:?}");
        }
    }
}
