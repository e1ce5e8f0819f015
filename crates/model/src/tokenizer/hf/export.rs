//! A description as the files of a Hugging Face folder.

use serde_json::{Map, Value, json};
use shoal_base::TokenId;

use super::super::byte_alphabet;
use super::super::error::TokenizerError;
use super::super::gguf::byte_name;
use super::super::merge_list::all_splits;
use super::super::pretokenizer::PreTokenizer;
use super::super::spec::{
    Alphabet, Margins, MergeModel, SPACE_MARK_TEXT, SpacePrefix, TokenizerSpec,
};
use super::super::vocabulary::TokenKind;
use super::HfFiles;

/// The two files that describe a tokenizer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HfTokenizer {
    /// `tokenizer.json`
    pub tokenizer: String,
    /// `tokenizer_config.json`
    pub tokenizer_config: String,
}

impl TokenizerSpec {
    /// The files of a Hugging Face folder with this tokenizer. Reading them gives a tokenizer with
    /// the same results; scores are written as the merges they stand for.
    ///
    /// # Errors
    /// A tokenizer that these files cannot describe.
    pub fn to_hf(&self) -> Result<HfTokenizer, TokenizerError> {
        self.check()?;
        let refuse = |name| Err(TokenizerError::unsupported("Hugging Face export", name));
        if self.normalizer.collapse_spaces {
            return refuse("that collapses spaces");
        }
        let tokenizer = json!({
            "version": "1.0",
            "truncation": null,
            "padding": null,
            "added_tokens": self.added_tokens(),
            "normalizer": self.normalizer_part(),
            "pre_tokenizer": self.pre_tokenizer_part(),
            "post_processor": self.post_processor_part(),
            "decoder": self.decoder_part(),
            "model": self.model_part()?,
        });
        let token = |id: Option<TokenId>| id.map(|id| self.name(id));
        let config = json!({
            "add_bos_token": self.add_bos,
            "add_eos_token": self.add_eos,
            "bos_token": token(self.special.bos),
            "eos_token": token(self.special.eos),
            "unk_token": token(self.special.unk),
            "pad_token": token(self.special.pad),
            "clean_up_tokenization_spaces": self.clean_up_spaces,
            "tokenizer_class": "PreTrainedTokenizerFast",
        });
        let files =
            HfTokenizer { tokenizer: tokenizer.to_string(), tokenizer_config: config.to_string() };
        let ends = json!({
            "eos_token_id": self.special.end_of_turn.iter().map(|id| id.0).collect::<Vec<_>>(),
        });
        let mut back = Self::from_hf(&HfFiles {
            tokenizer: files.tokenizer.as_bytes(),
            tokenizer_config: Some(files.tokenizer_config.as_bytes()),
            special_tokens_map: None,
            generation_config: Some(ends.to_string().as_bytes()),
        })?;
        if matches!(self.model, MergeModel::Scores(_)) {
            back.model = self.model.clone();
        }
        if back != *self {
            return refuse("of this tokenizer");
        }
        Ok(files)
    }

    /// The name of a token inside the vocabulary, as these files write it.
    fn name(&self, id: TokenId) -> String {
        let bytes = self.vocabulary.get(id).unwrap_or_default();
        let kind = self.vocabulary.kind(id).unwrap_or(TokenKind::Unused);
        if self.alphabet == Alphabet::Bytes && kind == TokenKind::Normal {
            return byte_alphabet::to_text(bytes);
        }
        String::from_utf8_lossy(&byte_name(bytes, kind)).into_owned()
    }

    fn added_tokens(&self) -> Vec<Value> {
        let atomic = self.vocabulary.iter().filter(|(_, _, kind)| {
            let kinds = [TokenKind::Control, TokenKind::UserDefined, TokenKind::Unknown];
            kinds.contains(kind)
        });
        let added = atomic.map(|(id, _, kind)| {
            let margins = self.margins.binary_search_by_key(&id, |entry| entry.0);
            let margins = margins.map_or(Margins::default(), |at| self.margins[at].1);
            json!({
                "id": id.0,
                "content": self.name(id),
                "single_word": false,
                "lstrip": margins.strip_left,
                "rstrip": margins.strip_right,
                "normalized": false,
                "special": kind != TokenKind::UserDefined,
            })
        });
        added.collect()
    }

    fn normalizer_part(&self) -> Value {
        let mut parts = Vec::new();
        if self.normalizer.nfc {
            parts.push(json!({"type": "NFC"}));
        }
        if self.alphabet == Alphabet::Characters && !self.metaspace() {
            if self.normalizer.space_prefix == SpacePrefix::EachSegment {
                parts.push(json!({"type": "Prepend", "prepend": SPACE_MARK_TEXT}));
            }
            parts.push(replace(" ", SPACE_MARK_TEXT));
        }
        sequence("normalizers", parts)
    }

    /// Whether the space prefix is one that only a `Metaspace` pre-tokenizer puts.
    fn metaspace(&self) -> bool {
        let prefix = self.normalizer.space_prefix;
        !matches!(prefix, SpacePrefix::Never | SpacePrefix::EachSegment)
    }

    fn pre_tokenizer_part(&self) -> Value {
        let split = |expression: &str| {
            json!({
                "type": "Split",
                "pattern": {"Regex": expression},
                "behavior": "Isolated",
                "invert": false,
            })
        };
        let mut parts: Vec<Value> = match &self.pretokenizer {
            PreTokenizer::None => Vec::new(),
            PreTokenizer::Named(name) => {
                name.expressions().iter().map(|text| split(text)).collect()
            }
            PreTokenizer::Expressions(list) => list.iter().map(|text| split(text)).collect(),
        };
        if self.alphabet == Alphabet::Bytes {
            parts.push(json!({
                "type": "ByteLevel",
                "add_prefix_space": false,
                "trim_offsets": true,
                "use_regex": false,
            }));
        } else if self.metaspace() {
            let first = self.normalizer.space_prefix == SpacePrefix::FirstSegmentUnlessSpace;
            parts.push(json!({
                "type": "Metaspace",
                "replacement": SPACE_MARK_TEXT,
                "prepend_scheme": if first { "first" } else { "always" },
                "split": false,
            }));
        }
        sequence("pretokenizers", parts)
    }

    fn post_processor_part(&self) -> Value {
        let special = |id: TokenId| json!({"SpecialToken": {"id": self.name(id), "type_id": 0}});
        let bos = self.special.bos.filter(|_| self.add_bos);
        let eos = self.special.eos.filter(|_| self.add_eos);
        if bos.is_none() && eos.is_none() {
            return Value::Null;
        }
        let text = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
        let around = |id, kind| -> Vec<Value> {
            let before = bos.map(special);
            before.into_iter().chain([text(id, kind)]).chain(eos.map(special)).collect()
        };
        let mut tokens = Map::new();
        for id in [bos, eos].into_iter().flatten() {
            let name = self.name(id);
            tokens.insert(name.clone(), json!({"id": name, "ids": [id.0], "tokens": [name]}));
        }
        let pair = [around("A", 0), around("B", 1)].concat();
        json!({
            "type": "TemplateProcessing",
            "single": around("A", 0),
            "pair": pair,
            "special_tokens": tokens,
        })
    }

    fn decoder_part(&self) -> Value {
        if self.alphabet == Alphabet::Bytes {
            return json!({
                "type": "ByteLevel",
                "add_prefix_space": true,
                "trim_offsets": true,
                "use_regex": true,
            });
        }
        let mut parts = vec![
            replace(SPACE_MARK_TEXT, " "),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        if self.normalizer.space_prefix != SpacePrefix::Never {
            parts.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
        }
        json!({"type": "Sequence", "decoders": parts})
    }

    fn model_part(&self) -> Result<Value, TokenizerError> {
        let vocabulary = &self.vocabulary;
        let (pairs, whole_word_first) = match &self.model {
            MergeModel::Merges { pairs, whole_word_first } => (pairs.clone(), *whole_word_first),
            MergeModel::Scores(scores) => {
                let mut order: Vec<TokenId> = vocabulary.iter().map(|(id, _, _)| id).collect();
                order.sort_by(|a, b| scores[b.index()].total_cmp(&scores[a.index()]));
                (all_splits(vocabulary, order.into_iter())?, false)
            }
        };
        let named = vocabulary.iter().filter(|(_, _, kind)| match self.alphabet {
            // Control tokens are added to the model, not part of it.
            Alphabet::Bytes => *kind == TokenKind::Normal,
            Alphabet::Characters => *kind != TokenKind::Unused,
        });
        let vocab: Map<String, Value> =
            named.map(|(id, _, _)| (self.name(id), id.0.into())).collect();
        let merges: Vec<Value> =
            pairs.iter().map(|&(left, right)| json!([self.name(left), self.name(right)])).collect();
        let unknown = vocabulary.iter().find(|(_, _, kind)| *kind == TokenKind::Unknown);
        let characters = self.alphabet == Alphabet::Characters;
        Ok(json!({
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown.filter(|_| characters).map(|(id, _, _)| self.name(id)),
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": self.fuse_unknown,
            "byte_fallback": characters,
            "ignore_merges": whole_word_first,
            "vocab": vocab,
            "merges": merges,
        }))
    }
}

fn replace(from: &str, to: &str) -> Value {
    json!({"type": "Replace", "pattern": {"String": from}, "content": to})
}

fn sequence(list: &str, mut parts: Vec<Value>) -> Value {
    match parts.len() {
        0 => Value::Null,
        1 => parts.remove(0),
        _ => json!({"type": "Sequence", list: parts}),
    }
}
