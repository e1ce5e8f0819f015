//! Hugging Face tokenizers: `tokenizer.json` and the small files beside it.
//!
//! One thing is read otherwise than there: an added token marked `normalized` is looked for in the
//! text as it is. There its name goes through the normalizer first, so that `<s>` becomes `▁<s>`
//! and is found only after a space. Such marks come from old converters; other files of the same
//! models do not have them.

mod export;
mod parts;

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use shoal_base::TokenId;

use super::byte_alphabet;
use super::end_of_turn;
use super::error::{TokenizerError, check_limit};
use super::gguf::parse_byte_name;
use super::limits;
use super::pretokenizer::PreTokenizer;
use super::spec::{Alphabet, Margins, MergeModel, SpecialIds, TokenizerSpec};
use super::vocabulary::{TokenKind, Vocabulary};
pub use export::HfTokenizer;

const FORMAT: &str = "tokenizer.json";

/// The files of a Hugging Face folder that describe its tokenizer.
#[derive(Clone, Copy, Debug, Default)]
pub struct HfFiles<'a> {
    /// `tokenizer.json`
    pub tokenizer: &'a [u8],
    /// `tokenizer_config.json`
    pub tokenizer_config: Option<&'a [u8]>,
    /// `special_tokens_map.json`
    pub special_tokens_map: Option<&'a [u8]>,
    /// `generation_config.json`
    pub generation_config: Option<&'a [u8]>,
}

impl TokenizerSpec {
    /// Reads the tokenizer of a Hugging Face folder.
    ///
    /// # Errors
    /// A part that this tokenizer cannot do exactly, by its name, or files that do not fit
    /// together.
    pub fn from_hf(files: &HfFiles<'_>) -> Result<Self, TokenizerError> {
        check_limit("tokenizer bytes", files.tokenizer.len(), limits::SOURCE_BYTES_MAX)?;
        let file: TokenizerFile = parse(files.tokenizer, FORMAT)?;
        let settings = Settings::read(files)?;
        let model = &file.model;
        model.check()?;
        let pre = parts::PreTokenizerParts::read(file.pre_tokenizer.as_ref())?;
        let alphabet = if pre.byte_level { Alphabet::Bytes } else { Alphabet::Characters };
        let normalizer = parts::read_normalizer(file.normalizer.as_ref(), alphabet, pre.metaspace)?;
        parts::check_decoder(file.decoder.as_ref(), alphabet, normalizer)?;
        let frame = parts::Frame::read(file.post_processor.as_ref())?;
        let (vocabulary, margins) = read_tokens(&file, alphabet)?;
        let names = Names::new(&file);
        let pairs = read_merges(model, &names)?;
        let mut special = settings.special_ids(&names, &frame)?;
        if special.unk.is_none() {
            special.unk = model.unk_token.as_deref().and_then(|name| names.get(name));
        }
        end_of_turn::collect(&mut special, &vocabulary, settings.ends.iter().copied());
        let framed = |configured: Option<bool>, token: Option<&str>| {
            configured.unwrap_or_else(|| token.is_some())
        };
        let spec = Self {
            alphabet,
            model: MergeModel::Merges { pairs, whole_word_first: model.ignore_merges },
            normalizer,
            pretokenizer: PreTokenizer::from_expressions(pre.expressions),
            margins,
            add_bos: framed(settings.add_bos, frame.before.as_deref()),
            add_eos: framed(settings.add_eos, frame.after.as_deref()),
            fuse_unknown: alphabet == Alphabet::Characters && model.fuse_unk,
            clean_up_spaces: settings.clean_up_spaces,
            vocabulary,
            special,
        };
        spec.check()?;
        Ok(spec)
    }
}

fn parse<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    format: &'static str,
) -> Result<T, TokenizerError> {
    check_limit("tokenizer bytes", bytes.len(), limits::SOURCE_BYTES_MAX)?;
    serde_json::from_slice(bytes).map_err(|error| TokenizerError::json(format, &error))
}

#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    dropout: Option<f32>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
    vocab: Entries,
    #[serde(default)]
    merges: Vec<MergeLine>,
}

impl Model {
    fn check(&self) -> Result<(), TokenizerError> {
        let refuse = |what, name: &str| Err(TokenizerError::unsupported(what, name));
        match self.kind.as_deref() {
            Some("BPE") => {}
            other => return refuse("tokenizer model", other.unwrap_or("without a type")),
        }
        if self.dropout.is_some_and(|dropout| dropout != 0.0) {
            return refuse("tokenizer model option", "dropout");
        }
        for (name, affix) in [
            ("continuing_subword_prefix", &self.continuing_subword_prefix),
            ("end_of_word_suffix", &self.end_of_word_suffix),
        ] {
            if affix.as_ref().is_some_and(|affix| !affix.is_empty()) {
                return refuse("tokenizer model option", name);
            }
        }
        check_limit("tokens", self.vocab.0.len(), limits::VOCAB_MAX)?;
        check_limit("merges", self.merges.len(), limits::MERGES_MAX)
    }
}

/// `"left right"` in older files, `["left", "right"]` in newer ones.
#[derive(Deserialize)]
#[serde(untagged)]
enum MergeLine {
    Line(String),
    Pair(String, String),
}

/// A JSON object as a list, so that a name that comes twice is seen.
struct Entries(Vec<(String, u32)>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of tokens and ids")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}

/// Ids by the names that files use for tokens.
struct Names<'a> {
    ids: HashMap<&'a str, TokenId>,
}

impl<'a> Names<'a> {
    fn new(file: &'a TokenizerFile) -> Self {
        let entries = file.model.vocab.0.iter();
        let entries = entries.map(|(name, id)| (name.as_str(), TokenId(*id)));
        let added = file.added_tokens.iter();
        let added = added.map(|token| (token.content.as_str(), TokenId(token.id)));
        Self { ids: entries.chain(added).collect() }
    }

    fn get(&self, name: &str) -> Option<TokenId> {
        self.ids.get(name).copied()
    }

    /// The token that a file refers to.
    fn find(&self, name: &str) -> Result<TokenId, TokenizerError> {
        self.get(name).ok_or_else(|| {
            TokenizerError::unsupported("special token outside the vocabulary", name)
        })
    }
}

fn read_tokens(
    file: &TokenizerFile,
    alphabet: Alphabet,
) -> Result<(Vocabulary, Vec<(TokenId, Margins)>), TokenizerError> {
    let entries = &file.model.vocab.0;
    let ids = entries.iter().map(|(_, id)| *id);
    let ids = ids.chain(file.added_tokens.iter().map(|token| token.id));
    let count = ids.max().map_or(0, |id| id as usize + 1);
    check_limit("tokens", count, limits::VOCAB_MAX)?;
    // Ids that no token has are rows of the weights only.
    let mut tokens: Vec<(&str, Option<TokenKind>)> = vec![("", Some(TokenKind::Unused)); count];
    for (name, id) in entries {
        let slot = &mut tokens[*id as usize];
        if *slot != ("", Some(TokenKind::Unused)) {
            let rule = "two tokens have this id";
            return Err(TokenizerError::Token { id: *id, rule });
        }
        *slot = (name, None);
    }
    let mut margins = Vec::new();
    for token in &file.added_tokens {
        let id = token.id;
        let refuse = |rule| Err(TokenizerError::Token { id, rule });
        if token.single_word {
            return refuse("`single_word` is not supported");
        }
        let slot = &mut tokens[id as usize];
        if !(slot.0.is_empty() || slot.0 == token.content) {
            return refuse("an added token has another token's id");
        }
        let kind = if file.model.unk_token.as_deref() == Some(&token.content)
            && alphabet == Alphabet::Characters
        {
            TokenKind::Unknown
        } else if token.special {
            TokenKind::Control
        } else {
            TokenKind::UserDefined
        };
        *slot = (&token.content, Some(kind));
        let margin = Margins { strip_left: token.lstrip, strip_right: token.rstrip };
        if margin != Margins::default() && kind != TokenKind::Unknown {
            margins.push((TokenId(id), margin));
        }
    }
    margins.sort_unstable_by_key(|(id, _)| *id);
    margins.dedup();
    let mut vocabulary = pack(&tokens, &file.model, alphabet)?;
    end_of_turn::correct_kinds(&mut vocabulary);
    Ok((vocabulary, margins))
}

/// Tokens by id; those without a kind are read as the alphabet writes them.
fn pack(
    tokens: &[(&str, Option<TokenKind>)],
    model: &Model,
    alphabet: Alphabet,
) -> Result<Vocabulary, TokenizerError> {
    let total = tokens.iter().map(|(name, _)| name.len()).sum();
    check_limit("token bytes", total, limits::VOCAB_BYTES_MAX)?;
    let mut vocabulary = Vocabulary::with_capacity(tokens.len(), total);
    let mut bytes = Vec::new();
    for (index, &(name, kind)) in tokens.iter().enumerate() {
        let byte = parse_byte_name(name.as_bytes()).filter(|_| model.byte_fallback);
        match (kind, alphabet, byte) {
            (Some(kind), _, _) => vocabulary.push(name.as_bytes(), kind),
            (None, Alphabet::Characters, Some(byte)) => vocabulary.push(&[byte], TokenKind::Byte),
            (None, Alphabet::Characters, None) => {
                let unknown = model.unk_token.as_deref() == Some(name);
                let kind = if unknown { TokenKind::Unknown } else { TokenKind::Normal };
                vocabulary.push(name.as_bytes(), kind)
            }
            (None, Alphabet::Bytes, _) => {
                bytes.clear();
                if byte_alphabet::append_bytes(&mut bytes, name).is_none() {
                    return Err(TokenizerError::Token {
                        id: index as u32,
                        rule: "has a character outside the byte alphabet",
                    });
                }
                vocabulary.push(&bytes, TokenKind::Normal)
            }
        };
    }
    Ok(vocabulary)
}

fn read_merges(
    model: &Model,
    names: &Names<'_>,
) -> Result<Vec<(TokenId, TokenId)>, TokenizerError> {
    let mut pairs = Vec::with_capacity(model.merges.len());
    for (index, line) in model.merges.iter().enumerate() {
        let refuse = |rule| TokenizerError::Merge { index: index as u32, rule };
        let (left, right) = match line {
            MergeLine::Line(line) => {
                line.split_once(' ').ok_or_else(|| refuse("two names expected"))?
            }
            MergeLine::Pair(left, right) => (left.as_str(), right.as_str()),
        };
        match (names.get(left), names.get(right)) {
            (Some(left), Some(right)) => pairs.push((left, right)),
            _ => return Err(refuse("names no token")),
        }
    }
    Ok(pairs)
}

/// What the files beside `tokenizer.json` say. Of two that say something, the first counts.
#[derive(Default)]
struct Settings {
    bos: Option<String>,
    eos: Option<String>,
    unk: Option<String>,
    pad: Option<String>,
    /// From the generation configuration.
    bos_id: Option<TokenId>,
    ends: Vec<TokenId>,
    add_bos: Option<bool>,
    add_eos: Option<bool>,
    clean_up_spaces: bool,
}

impl Settings {
    fn read(files: &HfFiles<'_>) -> Result<Self, TokenizerError> {
        let object = |bytes: Option<&[u8]>, format| {
            let bytes = bytes.unwrap_or(b"{}");
            parse::<serde_json::Map<String, Value>>(bytes, format)
        };
        let config = object(files.tokenizer_config, "tokenizer_config.json")?;
        let map = object(files.special_tokens_map, "special_tokens_map.json")?;
        let generation = object(files.generation_config, "generation_config.json")?;
        // A token is a text, or an object with its text as `content`; `null` says that there is
        // none.
        let name = |key: &str| {
            let value = config.get(key).or_else(|| map.get(key))?;
            let text = value.as_str().or_else(|| value.get("content")?.as_str())?;
            (!text.is_empty()).then(|| text.to_owned())
        };
        let flag = |key: &str| config.get(key).and_then(Value::as_bool);
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).map(TokenId);
        let ends = match generation.get("eos_token_id") {
            Some(Value::Array(list)) => list.iter().filter_map(id).collect(),
            Some(value) => id(value).into_iter().collect(),
            None => Vec::new(),
        };
        Ok(Self {
            bos: name("bos_token"),
            eos: name("eos_token"),
            unk: name("unk_token"),
            pad: name("pad_token"),
            bos_id: generation.get("bos_token_id").and_then(id),
            ends,
            add_bos: flag("add_bos_token"),
            add_eos: flag("add_eos_token"),
            clean_up_spaces: flag("clean_up_tokenization_spaces").unwrap_or(false),
        })
    }

    fn special_ids(
        &self,
        names: &Names<'_>,
        frame: &parts::Frame,
    ) -> Result<SpecialIds, TokenizerError> {
        let find = |name: Option<&str>| name.map(|name| names.find(name)).transpose();
        let different = |name: &str| {
            let what = "post_processor with a token other than the configured one";
            Err(TokenizerError::unsupported(what, name))
        };
        let before = find(frame.before.as_deref())?;
        let after = find(frame.after.as_deref())?;
        let bos = find(self.bos.as_deref())?.or(before).or(self.bos_id);
        let eos = find(self.eos.as_deref())?;
        let eos = eos.or(after).or(self.ends.first().copied());
        if before.is_some() && before != bos {
            return different(frame.before.as_deref().unwrap_or_default());
        }
        if after.is_some() && after != eos {
            return different(frame.after.as_deref().unwrap_or_default());
        }
        Ok(SpecialIds {
            bos,
            eos,
            unk: find(self.unk.as_deref())?,
            pad: find(self.pad.as_deref())?,
            end_of_turn: Vec::new(),
        })
    }
}
