//! `tokenizer.json` of a Hugging Face folder.

use crate::{Target, seeds, tokenizers};

pub(super) const TARGET: Target = Target {
    name: "tokenizer_hf",
    seeds,
    memory_bytes: tokenizers::MEMORY_BYTES,
    run: tokenizers::run_file,
};

const SMALL: &str = r#"{"version":"1.0","added_tokens":[{"id":3,"content":"<s>","special":true,
"single_word":false,"lstrip":true,"rstrip":false,"normalized":false}],"normalizer":{"type":"NFC"},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":"[a-z]+"},
"behavior":"Isolated","invert":false},{"type":"ByteLevel","add_prefix_space":false,
"trim_offsets":true,"use_regex":false}]},"post_processor":null,"decoder":{"type":"ByteLevel"},
"model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
"end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":false,"ignore_merges":true,
"vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}"#;

fn seeds() -> Vec<Vec<u8>> {
    let written = seeds::character_spec().to_hf().expect("it has this form").tokenizer;
    vec![SMALL.into(), written.into()]
}

#[cfg(test)]
mod tests {
    use shoal_model::tokenizer::{HfFiles, TokenizerSpec};

    #[test]
    fn seeds_are_tokenizers() {
        for tokenizer in &super::seeds() {
            let spec = TokenizerSpec::from_hf(&HfFiles { tokenizer, ..HfFiles::default() });
            assert!(spec.is_ok(), "{spec:?}");
        }
    }
}
