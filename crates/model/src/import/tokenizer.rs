//! From the files of a tokenizer to the one of a package.

use serde_json::{Map, Value};

use super::ImportError;
use crate::source::{GgufVocabulary, TokenizerFiles, TokenizerSettings, WeightSource};
use crate::tokenizer::{
    GgufTokenizer, HfFiles, MergeModel, SpecialIds, TiktokenProfile, TokenKind, TokenizerError,
    TokenizerSpec,
};

/// Rows that a vocabulary may lack, at least: matrices are padded to multiples of up to this.
const PADDING_ROWS: usize = 256;
/// And as a fraction of all rows, for large vocabularies.
const PADDING_FRACTION: usize = 32;

/// The tokenizer of `source`, with one token per row of its embedding.
///
/// # Errors
/// It has none that this program understands, or one of another model.
pub fn import_tokenizer(source: &dyn WeightSource) -> Result<TokenizerSpec, ImportError> {
    let spec = read_tokenizer(source.tokenizer_files()?)?;
    let rows = source.architecture().vocab_count as usize;
    let tokens = spec.vocabulary.len();
    let padding_max = PADDING_ROWS.max(rows / PADDING_FRACTION);
    if tokens > rows || rows - tokens > padding_max {
        return Err(ImportError::Mismatch { tokens, rows });
    }
    Ok(spec.with_rows(rows)?)
}

/// What the files of a tokenizer describe.
///
/// # Errors
/// A part that this program does not understand, by its name.
pub fn read_tokenizer(files: TokenizerFiles) -> Result<TokenizerSpec, TokenizerError> {
    match files {
        TokenizerFiles::Gguf(fields) => TokenizerSpec::from_gguf(&gguf(*fields)),
        TokenizerFiles::HuggingFace { tokenizer, settings } => TokenizerSpec::from_hf(&HfFiles {
            tokenizer: &tokenizer,
            tokenizer_config: settings.tokenizer_config.as_deref(),
            special_tokens_map: settings.special_tokens_map.as_deref(),
            generation_config: settings.generation_config.as_deref(),
        }),
        TokenizerFiles::SentencePiece { model, settings } => {
            let mut spec = TokenizerSpec::from_sentencepiece(&model)?;
            add_settings(&mut spec, &settings)?;
            Ok(spec)
        }
        TokenizerFiles::Tiktoken { ranks, .. } => {
            TokenizerSpec::from_tiktoken(&ranks, &TiktokenProfile::llama3())
        }
        TokenizerFiles::Llama2c(bytes) => TokenizerSpec::from_llama2c(&bytes),
    }
}

fn gguf(v: GgufVocabulary) -> GgufTokenizer {
    GgufTokenizer {
        architecture: v.architecture,
        model: v.model,
        pre: v.pre,
        tokens: v.tokens,
        scores: Some(v.scores).filter(|scores| !scores.is_empty()),
        token_types: Some(v.types).filter(|types| !types.is_empty()),
        merges: Some(v.merges).filter(|merges| !merges.is_empty()),
        bos_id: v.bos_id,
        eos_id: v.eos_id,
        eot_id: v.eot_id,
        eom_id: v.eom_id,
        unk_id: v.unknown_id,
        pad_id: v.padding_id,
        add_bos: v.add_bos,
        add_eos: v.add_eos,
        add_space_prefix: v.add_space_prefix,
        remove_extra_whitespaces: v.remove_extra_whitespaces,
        charsmap_bytes: v.precompiled_charsmap.map_or(0, |map| map.len()),
    }
}

/// What the files beside a `SentencePiece` model say: tokens after its own, and which of them
/// begin and end a text.
fn add_settings(
    spec: &mut TokenizerSpec,
    settings: &TokenizerSettings,
) -> Result<(), TokenizerError> {
    let object = |bytes: &Option<Vec<u8>>, field| match bytes {
        None => Ok(Map::new()),
        Some(bytes) => serde_json::from_slice::<Map<String, Value>>(bytes)
            .map_err(|_| TokenizerError::Rule { field, rule: "a JSON object" }),
    };
    let config = object(&settings.tokenizer_config, "tokenizer_config.json")?;
    let added = object(&settings.added_tokens, "added_tokens.json")?;
    let generation = object(&settings.generation_config, "generation_config.json")?;
    add_tokens(spec, &added, &config)?;
    let ends = match generation.get("eos_token_id") {
        Some(Value::Array(ids)) => ids.iter().filter_map(Value::as_u64).collect(),
        Some(id) => id.as_u64().into_iter().collect(),
        None => Vec::new(),
    };
    let SpecialIds { end_of_turn, .. } = &mut spec.special;
    let count = spec.vocabulary.len();
    let known = |id: &u64| usize::try_from(*id).is_ok_and(|id| id < count);
    end_of_turn.extend(ends.into_iter().filter(known).map(|id| shoal_base::TokenId(id as u32)));
    end_of_turn.sort_unstable();
    end_of_turn.dedup();
    let flag = |key: &str| config.get(key).and_then(Value::as_bool);
    if let Some(add_bos) = flag("add_bos_token") {
        spec.add_bos = add_bos && spec.special.bos.is_some();
    }
    if let Some(add_eos) = flag("add_eos_token") {
        spec.add_eos = add_eos && spec.special.eos.is_some();
    }
    spec.check()
}

/// Tokens of `added_tokens.json`, which follow those of the model without a gap.
fn add_tokens(
    spec: &mut TokenizerSpec,
    added: &Map<String, Value>,
    config: &Map<String, Value>,
) -> Result<(), TokenizerError> {
    let rule = |rule| TokenizerError::Rule { field: "added_tokens.json", rule };
    let mut tokens = Vec::with_capacity(added.len());
    for (name, id) in added {
        tokens.push((id.as_u64().ok_or(rule("ids are whole numbers"))?, name));
    }
    tokens.sort_unstable();
    for (id, name) in tokens {
        // Some files repeat tokens of the model.
        if id < spec.vocabulary.len() as u64 {
            continue;
        }
        if id != spec.vocabulary.len() as u64 {
            return Err(rule("ids follow those of the model without a gap"));
        }
        let described = config.get("added_tokens_decoder").and_then(|d| d.get(id.to_string()));
        let special = described.and_then(|d| d.get("special")).and_then(Value::as_bool);
        let kind = match special {
            Some(false) => TokenKind::UserDefined,
            _ => TokenKind::Control,
        };
        spec.vocabulary.push(name.as_bytes(), kind);
        if let MergeModel::Scores(scores) = &mut spec.model {
            scores.push(0.0);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_base::TokenId;

    fn settings(config: &str, added: &str) -> TokenizerSettings {
        TokenizerSettings {
            tokenizer_config: Some(config.into()),
            added_tokens: Some(added.into()),
            generation_config: Some(br#"{"eos_token_id": [2, 4, 900]}"#.to_vec()),
            ..TokenizerSettings::default()
        }
    }

    /// `<unk> <s> </s> a`
    fn spec() -> TokenizerSpec {
        let mut bytes = vec![5, 0, 0, 0];
        for piece in ["<unk>", "<s>", "</s>", "a"] {
            bytes.extend_from_slice(&0.0_f32.to_le_bytes());
            bytes.extend_from_slice(&(piece.len() as u32).to_le_bytes());
            bytes.extend_from_slice(piece.as_bytes());
        }
        TokenizerSpec::from_llama2c(&bytes).unwrap()
    }

    #[test]
    fn tokens_beside_the_model_follow_its_own() {
        let config = r#"{"add_bos_token": false,
            "added_tokens_decoder": {"4": {"special": true}, "5": {"special": false}}}"#;
        let mut spec = spec();
        let added = r#"{"<tool>": 5, "<turn>": 4, "a": 3}"#;
        add_settings(&mut spec, &settings(config, added)).unwrap();
        assert_eq!(spec.vocabulary.kind(TokenId(4)), Some(TokenKind::Control));
        assert_eq!(spec.vocabulary.get(TokenId(5)), Some(b"<tool>".as_slice()));
        assert_eq!(spec.vocabulary.kind(TokenId(5)), Some(TokenKind::UserDefined));
        assert_eq!(spec.special.end_of_turn, [TokenId(2), TokenId(4)]);
        assert!(!spec.add_bos);

        let gap = settings("{}", r#"{"<x>": 9}"#);
        assert!(add_settings(&mut spec, &gap).is_err());
        assert!(add_settings(&mut spec, &settings("[]", "{}")).is_err());
    }
}
