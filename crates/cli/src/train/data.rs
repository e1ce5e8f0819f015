//! From files to documents of tokens.

use std::collections::HashSet;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use shoal_base::{Digest, TokenId};
use shoal_model::template::ChatTemplate;
use shoal_model::tokenizer::Tokenizer;
use shoal_train::data::text::{Separator, Shingles, documents, is_held_out};
use shoal_train::data::{Document, decode_shard, encode_shard, read_lines, text_document};
use shoal_train::{Examples, Preference, Synthesis, seed_digest, synthesize};

use super::config::{DataConfig, ModelPlace, SelectionConfig, TrainConfig};
use crate::failure::{Failure, at_path};
use crate::models::{self, ModelArgs, ModelName};
use crate::session::Session;
use crate::whole_file::replace_whole;

/// Largest file of data. All of it is held in memory.
const FILE_BYTES_MAX: u64 = 8 << 30;
/// Documents sampled at a time.
const CONCURRENT: usize = 64;
/// Shorter samples are none: the model ended at once.
const SYNTHETIC_TOKENS_MIN: usize = 21;

/// What the files of a run hold.
pub(crate) struct Loaded {
    pub(crate) examples: Examples,
    /// Documents set aside.
    pub(crate) held_out: Vec<Document>,
    /// Whether there are conversations.
    pub(crate) converses: bool,
}

/// Reads a whole file of at most `limit` bytes.
pub(crate) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, Failure> {
    let failed = |error: &std::io::Error| at_path(path, error);
    let file = File::open(path).map_err(|error| failed(&error))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > limit {
        return Err(Failure::bad_input(format!("{}: more than {limit} bytes", path.display())));
    }
    Ok(bytes)
}

/// Reads a whole text of at most `limit` bytes.
pub(crate) fn read_text(path: &Path, limit: u64) -> Result<String, Failure> {
    String::from_utf8(read_file(path, limit)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::bad_input(format!("{}: byte {at} is not UTF-8", path.display()))
    })
}

/// Reads, or samples, everything a run learns from. Texts come first, then the other sources.
pub(crate) fn load(
    session: &Session,
    folder: &Path,
    config: &TrainConfig,
    tokenizer: &Tokenizer,
    template: &str,
) -> Result<Loaded, Failure> {
    let template = ChatTemplate::parse(template)
        .map_err(|error| Failure::bad_input(format!("chat template: {error}")))?;
    let mut texts = Vec::new();
    let mut learned: Vec<Document> = Vec::new();
    let mut preferences: Vec<Preference> = Vec::new();
    let mut converses = false;
    for (index, data) in config.data.iter().enumerate() {
        match data {
            DataConfig::Text { path, separator } => {
                let separator = match separator {
                    Some(marker) if marker.is_empty() => {
                        return Err(Failure::bad_input("data: separator is not empty"));
                    }
                    Some(marker) => Separator::Marker(marker.clone()),
                    None => Separator::SingleNewline,
                };
                texts
                    .extend(documents(&read_text(&folder.join(path), FILE_BYTES_MAX)?, &separator));
            }
            DataConfig::Jsonl { path } => {
                let path = folder.join(path);
                let bad = |e| Failure::bad_input(format!("{}: {e}", path.display()));
                let text = read_text(&path, FILE_BYTES_MAX)?;
                let lines = read_lines(tokenizer, &template, &text).map_err(bad)?;
                learned.extend(lines.documents);
                preferences.extend(lines.preferences);
                converses |= lines.converses;
            }
            DataConfig::Tokens { path } => {
                learned.extend(read_shard(&folder.join(path), tokenizer.vocab_count())?);
            }
            DataConfig::Synthetic { .. } => {
                let kept = folder.join(format!("synthetic-{index}.tokens"));
                if !kept.exists() {
                    let made = sample(session, folder, config, index, tokenizer)?;
                    replace_whole(&kept, &encode_shard(tokenizer.vocab_count(), &made))?;
                }
                learned.extend(read_shard(&kept, tokenizer.vocab_count())?);
            }
        }
    }
    if !preferences.is_empty() {
        if !learned.is_empty() || !texts.is_empty() {
            return Err(Failure::bad_input("data: preferences and documents do not mix"));
        }
        let examples = Examples::Preferences(preferences);
        return Ok(Loaded { examples, held_out: Vec::new(), converses });
    }
    let (kept, held_out) = select(texts, config.selection);
    let encode = |text: &String| {
        text_document(tokenizer, text).map_err(|error| Failure::bad_input(format!("data: {error}")))
    };
    let mut all = kept.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
    all.extend(learned);
    let held_out = held_out.iter().map(encode).collect::<Result<_, _>>()?;
    Ok(Loaded { examples: Examples::Documents(all), held_out, converses })
}

/// Drops repeated texts, sets a share aside, drops what repeats that share.
fn select(mut texts: Vec<String>, selection: SelectionConfig) -> (Vec<String>, Vec<String>) {
    let mut seen = HashSet::new();
    texts.retain(|text| seen.insert(Digest::of(text.as_bytes())));
    let share = selection.held_out_share;
    let (held_out, kept): (Vec<_>, Vec<_>) =
        texts.into_iter().partition(|text| is_held_out(text, share));
    let shingles = Shingles::of(&held_out);
    let fresh = |text: &String| shingles.overlap(text) < selection.overlap_max;
    (kept.into_iter().filter(fresh).collect(), held_out)
}

fn read_shard(path: &Path, vocab_count: u32) -> Result<Vec<Document>, Failure> {
    let bytes = read_file(path, FILE_BYTES_MAX)?;
    decode_shard(vocab_count, &bytes)
        .map_err(|error| Failure::bad_input(format!("{}: {error}", path.display())))
}

/// Samples documents from a model.
fn sample(
    session: &Session,
    folder: &Path,
    config: &TrainConfig,
    index: usize,
    tokenizer: &Tokenizer,
) -> Result<Vec<Document>, Failure> {
    let DataConfig::Synthetic {
        path,
        tokenizer: file,
        documents,
        tokens_max,
        temperature,
        end_token,
    } = &config.data[index]
    else {
        return Ok(Vec::new());
    };
    let place = ModelPlace { path: folder.join(path), tokenizer: file.clone() };
    let model = import_place(session, folder, &place)?;
    let engine =
        models::load(session, &ModelArgs { name: ModelName { model }, kv_cache_mib: None }, None)?;
    if engine.tokenizer().spec() != tokenizer.spec() {
        let path = path.display();
        return Err(Failure::bad_input(format!("{path}: it has another tokenizer than the run")));
    }
    let special = &tokenizer.spec().special;
    let first = special.bos.ok_or_else(|| Failure::bad_input("the tokenizer has no beginning"))?;
    let ends = special.eos.into_iter().chain(end_token.map(TokenId)).collect();
    let settings = Synthesis {
        prompt: vec![first],
        ends,
        tokens_max: *tokens_max,
        temperature: *temperature,
        concurrent: CONCURRENT,
    };
    let count = usize::try_from(*documents).unwrap_or(usize::MAX);
    let seed = seed_digest(&format!("{} synthetic {index}", config.seed));
    let made = synthesize(&engine, seed, &settings, 0, count)?;
    let whole = made.into_iter().filter(|tokens| tokens.len() >= SYNTHETIC_TOKENS_MIN);
    let document = |tokens: Vec<TokenId>| {
        let tokens = [first].into_iter().chain(tokens).chain(special.eos);
        Document { tokens: tokens.map(|id| id.0).collect(), weights: Vec::new() }
    };
    Ok(whole.map(document).collect())
}

/// Imports a model file with its tokenizer, and says under which name.
fn import_place(session: &Session, folder: &Path, place: &ModelPlace) -> Result<String, Failure> {
    let Some(tokenizer) = &place.tokenizer else {
        return Ok(place.path.display().to_string());
    };
    let source = crate::import::open_source(&place.path, Some(&folder.join(tokenizer)))?;
    let name = crate::import::name_of(&place.path);
    let imported = crate::import::import(session, &*source, Default::default(), name)?;
    Ok(imported.id.to_string())
}

/// The folder a path of the configuration is relative to.
pub(crate) fn beside(folder: &Path, place: &ModelPlace) -> (PathBuf, Option<PathBuf>) {
    (folder.join(&place.path), place.tokenizer.as_ref().map(|path| folder.join(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_set_aside_is_learned() {
        let texts: Vec<String> = (0..400)
            .map(|i| format!("Story {i} of a cat that ran {i} miles to a house."))
            .collect();
        let twice = [texts.clone(), texts].concat();
        let selection = SelectionConfig { held_out_share: 0.2, overlap_max: 0.5 };
        let (kept, held_out) = select(twice, selection);
        assert_eq!(kept.len() + held_out.len(), 400);
        assert!((40..160).contains(&held_out.len()));
        assert!(held_out.iter().all(|text| !kept.contains(text)));
    }
}
