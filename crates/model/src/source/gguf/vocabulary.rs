//! The tokenizer fields of a GGUF file.

use super::super::{GgufVocabulary, Input, SourceError, limits};
use super::metadata::{Metadata, wrong};

pub(super) fn read(input: &Input, metadata: &Metadata) -> Result<GgufVocabulary, SourceError> {
    let key = |name: &str| format!("tokenizer.ggml.{name}");
    let text = |name: &str| metadata.text(input, &key(name), limits::SHORT_TEXT_BYTES_MAX);
    let texts = |name: &str| metadata.texts(input, &key(name), limits::PIECE_COUNT_MAX);
    let flag = |name: &str| metadata.bool(input, &key(name));
    // Some writers put -1 for "absent", as a signed or an unsigned number.
    let id = |name: &str| -> Result<Option<u32>, SourceError> {
        let key = key(name);
        if metadata.is_minus_one(&key) {
            return Ok(None);
        }
        metadata.u32(input, &key)
    };
    let missing =
        |name: &str| SourceError::MissingKey { file: input.file().to_path_buf(), key: key(name) };
    let tokens = texts("tokens")?.ok_or_else(|| missing("tokens"))?;
    let scores = metadata.floats(input, &key("scores"), limits::PIECE_COUNT_MAX)?;
    let scores = scores.unwrap_or_default();
    let types = metadata.integers(input, &key("token_type"), limits::PIECE_COUNT_MAX)?;
    let types = types.unwrap_or_default();
    for (name, len) in [("scores", scores.len()), ("token_type", types.len())] {
        if len != 0 && len != tokens.len() {
            return Err(wrong(input, &key(name), "one entry per token"));
        }
    }
    let charsmap = key("precompiled_charsmap");
    let architecture = "general.architecture";
    let architecture = metadata.text(input, architecture, limits::SHORT_TEXT_BYTES_MAX)?;
    Ok(GgufVocabulary {
        architecture: architecture.unwrap_or_default(),
        model: text("model")?.ok_or_else(|| missing("model"))?,
        pre: text("pre")?,
        tokens,
        scores,
        types,
        merges: texts("merges")?.unwrap_or_default(),
        bos_id: id("bos_token_id")?,
        eos_id: id("eos_token_id")?,
        eot_id: id("eot_token_id")?,
        eom_id: id("eom_token_id")?,
        unknown_id: id("unknown_token_id")?,
        separator_id: id("seperator_token_id")?,
        padding_id: id("padding_token_id")?,
        add_bos: flag("add_bos_token")?,
        add_eos: flag("add_eos_token")?,
        add_space_prefix: flag("add_space_prefix")?,
        remove_extra_whitespaces: flag("remove_extra_whitespaces")?,
        precompiled_charsmap: metadata.bytes(input, &charsmap, limits::CHARSMAP_BYTES_MAX)?,
    })
}
