//! Lines of base64 pieces and their ranks.

use crate::{Target, tokenizers};

pub(super) const TARGET: Target = Target {
    name: "tokenizer_tiktoken",
    seeds,
    memory_bytes: tokenizers::MEMORY_BYTES,
    run: tokenizers::run_file,
};

/// One or two bytes in base64.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = bytes.iter().fold(0_u32, |bits, &byte| bits << 8 | u32::from(byte));
    let (bits, digits) = match bytes.len() {
        1 => (bits << 4, 2),
        _ => (bits << 2, 3),
    };
    let digit = |i: u32| DIGITS[(bits >> (6 * (digits - 1 - i)) & 63) as usize] as char;
    format!("{:=<4}", (0..digits).map(digit).collect::<String>())
}

fn seeds() -> Vec<Vec<u8>> {
    let bytes = (0..=255_u8).map(|byte| vec![byte]);
    let pieces = bytes.chain([b"ab".to_vec(), b" a".to_vec(), vec![0xc3, 0xa9]]);
    let lines = pieces.enumerate().map(|(rank, piece)| format!("{} {rank}\n", base64(&piece)));
    vec![lines.collect::<String>().into_bytes()]
}

#[cfg(test)]
mod tests {
    use shoal_model::tokenizer::{TiktokenProfile, TokenizerSpec};

    #[test]
    fn seeds_are_tokenizers() {
        for seed in &super::seeds() {
            let spec = TokenizerSpec::from_tiktoken(seed, &TiktokenProfile::llama3());
            assert!(spec.is_ok(), "{spec:?}");
        }
    }
}
