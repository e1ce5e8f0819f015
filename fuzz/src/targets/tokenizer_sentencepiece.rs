//! A SentencePiece model.

use crate::{Target, tokenizers};

pub(super) const TARGET: Target = Target {
    name: "tokenizer_sentencepiece",
    seeds,
    memory_bytes: tokenizers::MEMORY_BYTES,
    run: tokenizers::run_file,
};

/// A field of a message; it is shorter than 128 bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

fn seeds() -> Vec<Vec<u8>> {
    let mut file = Vec::new();
    let pieces = [("<unk>", 2), ("<s>", 3), ("</s>", 3), ("<0xC3>", 6), ("▁", 1), ("a", 1)];
    for (id, (piece, kind)) in pieces.into_iter().chain([("▁a", 1), ("é", 4)]).enumerate() {
        let mut message = field(1, piece.as_bytes());
        message.push(2 << 3 | 5);
        message.extend((-(id as f32)).to_le_bytes());
        message.extend([3 << 3, kind]);
        file.extend(field(1, &message));
    }
    // Byte pairs; spaces are kept.
    file.extend(field(2, &[3 << 3, 2]));
    file.extend(field(3, &[3 << 3, 1, 4 << 3, 0]));
    vec![file]
}

#[cfg(test)]
mod tests {
    use shoal_model::tokenizer::TokenizerSpec;

    #[test]
    fn seeds_are_tokenizers() {
        for seed in &super::seeds() {
            let spec = TokenizerSpec::from_sentencepiece(seed);
            assert!(spec.is_ok(), "{spec:?}");
        }
    }
}
