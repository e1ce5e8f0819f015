//! Tokenizers of GGUF files: their fields to a description and back.

use shoal_base::TokenId;

use super::byte_alphabet;
use super::end_of_turn;
use super::error::{TokenizerError, check_limit};
use super::limits;
use super::merge_list::{scores_of, text_ids};
use super::pretokenizer::{NamedPreTokenizer, PreTokenizer};
use super::rows::drop_unused_rows;
use super::spec::{
    Alphabet, Margins, MergeModel, Normalizer, SpacePrefix, SpecialIds, TokenizerSpec,
};
use super::vocabulary::{TokenKind, Vocabulary};

/// The tokenizer fields of a GGUF file, as they are there. Names in the comments are under
/// `tokenizer.ggml.` unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GgufTokenizer {
    /// `general.architecture`; decides how control tokens of Phi-3 are found.
    pub architecture: String,
    /// `model`
    pub model: String,
    /// `pre`
    pub pre: Option<String>,
    /// `tokens`
    pub tokens: Vec<Vec<u8>>,
    /// `scores`
    pub scores: Option<Vec<f32>>,
    /// `token_type`
    pub token_types: Option<Vec<i32>>,
    /// `merges`
    pub merges: Option<Vec<Vec<u8>>>,
    /// `bos_token_id`
    pub bos_id: Option<u32>,
    /// `eos_token_id`
    pub eos_id: Option<u32>,
    /// `eot_token_id`
    pub eot_id: Option<u32>,
    /// `eom_token_id`
    pub eom_id: Option<u32>,
    /// `unknown_token_id`
    pub unk_id: Option<u32>,
    /// `padding_token_id`
    pub pad_id: Option<u32>,
    /// `add_bos_token`
    pub add_bos: Option<bool>,
    /// `add_eos_token`
    pub add_eos: Option<bool>,
    /// `add_space_prefix`
    pub add_space_prefix: Option<bool>,
    /// `remove_extra_whitespaces`
    pub remove_extra_whitespaces: Option<bool>,
    /// Length of `precompiled_charsmap`
    pub charsmap_bytes: usize,
}

impl TokenizerSpec {
    /// Reads the tokenizer fields of a GGUF file.
    ///
    /// # Errors
    /// A kind of tokenizer or pre-tokenizer that is not known, or fields that do not fit together.
    pub fn from_gguf(fields: &GgufTokenizer) -> Result<Self, TokenizerError> {
        let alphabet = match fields.model.as_str() {
            "llama" => Alphabet::Characters,
            "gpt2" => Alphabet::Bytes,
            other => return Err(TokenizerError::unsupported("tokenizer model", other)),
        };
        if fields.charsmap_bytes > 0 {
            let what = "normalization table";
            return Err(TokenizerError::unsupported(what, "precompiled_charsmap"));
        }
        let mut vocabulary = read_tokens(fields, alphabet)?;
        let (pretokenizer, nfc, whole_word_first) = match alphabet {
            Alphabet::Characters => (PreTokenizer::None, false, false),
            Alphabet::Bytes => read_pre(fields.pre.as_deref())?,
        };
        let id = |id: Option<u32>| id.filter(|&id| id != u32::MAX).map(TokenId);
        let mut special = SpecialIds {
            bos: id(fields.bos_id),
            eos: id(fields.eos_id),
            unk: id(fields.unk_id),
            pad: id(fields.pad_id),
            end_of_turn: Vec::new(),
        };
        let declared = [id(fields.eot_id), id(fields.eom_id)].into_iter().flatten();
        end_of_turn::collect(&mut special, &vocabulary, declared);
        drop_unused_rows(&mut vocabulary, &special);
        let model = read_model(fields, alphabet, &vocabulary, whole_word_first)?;
        // Written by their makers into every file of these kinds, and missing from some.
        let bos_usual = alphabet == Alphabet::Characters || whole_word_first;
        let characters = alphabet == Alphabet::Characters;
        let spec = Self {
            alphabet,
            model,
            normalizer: Normalizer {
                nfc,
                collapse_spaces: characters && fields.remove_extra_whitespaces == Some(true),
                space_prefix: if characters && fields.add_space_prefix != Some(false) {
                    SpacePrefix::EachSegment
                } else {
                    SpacePrefix::Never
                },
            },
            pretokenizer,
            margins: read_margins(fields, &vocabulary),
            add_bos: fields.add_bos.unwrap_or(bos_usual && special.bos.is_some()),
            add_eos: fields.add_eos.unwrap_or(false),
            fuse_unknown: characters,
            clean_up_spaces: false,
            vocabulary,
            special,
        };
        spec.check()?;
        Ok(spec)
    }

    /// The fields of a GGUF file with this tokenizer and `row_count` rows of weights, at least as
    /// many as tokens. Reading them gives a tokenizer with the same results.
    ///
    /// # Errors
    /// A tokenizer that GGUF files cannot describe.
    pub fn to_gguf(&self, row_count: usize) -> Result<GgufTokenizer, TokenizerError> {
        self.check()?;
        check_limit("rows", row_count, limits::VOCAB_MAX)?;
        check_limit("tokens", self.vocabulary.len(), row_count)?;
        let mut fields = GgufTokenizer {
            architecture: if self.margins.is_empty() { "llama" } else { "phi3" }.to_owned(),
            token_types: Some((self.vocabulary.iter()).map(|(_, _, kind)| kind as i32).collect()),
            bos_id: self.special.bos.map(|id| id.0),
            eos_id: self.special.eos.map(|id| id.0),
            unk_id: self.special.unk.map(|id| id.0),
            pad_id: self.special.pad.map(|id| id.0),
            add_bos: Some(self.add_bos),
            add_eos: Some(self.add_eos),
            ..GgufTokenizer::default()
        };
        let mut ends = self.special.end_of_turn.iter().filter(|&&id| Some(id) != self.special.eos);
        fields.eot_id = ends.next().map(|id| id.0);
        fields.eom_id = ends.next().map(|id| id.0);
        match self.alphabet {
            Alphabet::Characters => self.write_characters(&mut fields)?,
            Alphabet::Bytes => self.write_bytes(&mut fields)?,
        }
        add_unused_rows(&mut fields, row_count);
        let mut back = Self::from_gguf(&fields)?;
        back.clean_up_spaces = self.clean_up_spaces;
        if self.alphabet == Alphabet::Characters {
            // Merges were written as the scores they were made from.
            back.model = self.model.clone();
        }
        if back != *self {
            return Err(TokenizerError::unsupported("GGUF export", "of this tokenizer"));
        }
        Ok(fields)
    }

    fn write_characters(&self, fields: &mut GgufTokenizer) -> Result<(), TokenizerError> {
        fields.model = "llama".to_owned();
        fields.pre = Some("default".to_owned());
        fields.add_space_prefix = Some(self.normalizer.space_prefix != SpacePrefix::Never);
        fields.remove_extra_whitespaces = Some(self.normalizer.collapse_spaces);
        fields.tokens =
            self.vocabulary.iter().map(|(_, bytes, kind)| byte_name(bytes, kind)).collect();
        fields.scores = Some(match &self.model {
            MergeModel::Scores(scores) => scores.clone(),
            MergeModel::Merges { pairs, .. } => scores_of(&self.vocabulary, pairs)?,
        });
        Ok(())
    }

    fn write_bytes(&self, fields: &mut GgufTokenizer) -> Result<(), TokenizerError> {
        fields.model = "gpt2".to_owned();
        let PreTokenizer::Named(name) = &self.pretokenizer else {
            return Err(TokenizerError::unsupported("pre-tokenizer", "expressions in GGUF"));
        };
        let without_nfc = *name == NamedPreTokenizer::Qwen2 && !self.normalizer.nfc;
        let pre = if without_nfc { "deepseek-r1-qwen" } else { name.gguf_name() };
        fields.pre = Some(pre.to_owned());
        let text = |(_, bytes, kind): (TokenId, &[u8], TokenKind)| match kind {
            TokenKind::Normal => byte_alphabet::to_text(bytes).into_bytes(),
            _ => bytes.to_vec(),
        };
        fields.tokens = self.vocabulary.iter().map(text).collect();
        if let MergeModel::Merges { pairs, .. } = &self.model {
            let name = |id: TokenId| fields.tokens[id.index()].as_slice();
            let line =
                |&(left, right): &(TokenId, TokenId)| [name(left), b" ", name(right)].concat();
            fields.merges = Some(pairs.iter().map(line).collect());
        }
        Ok(())
    }
}

fn add_unused_rows(fields: &mut GgufTokenizer, row_count: usize) {
    for id in fields.tokens.len()..row_count {
        fields.tokens.push(format!("[PAD{id}]").into_bytes());
    }
    if let Some(types) = &mut fields.token_types {
        types.resize(row_count, TokenKind::Unused as i32);
    }
    if let Some(scores) = &mut fields.scores {
        scores.resize(row_count, 0.0);
    }
}

/// The way GGUF and SentencePiece files write a token of a character alphabet.
pub(super) fn byte_name(bytes: &[u8], kind: TokenKind) -> Vec<u8> {
    match (kind, bytes) {
        (TokenKind::Byte, [byte]) => format!("<0x{byte:02X}>").into_bytes(),
        _ => bytes.to_vec(),
    }
}

/// The byte that a name such as `<0x0A>` stands for.
pub(super) fn parse_byte_name(name: &[u8]) -> Option<u8> {
    let digits = name.strip_prefix(b"<0x")?.strip_suffix(b">")?;
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.len() == 2)?;
    let upper = |digit: u8| digit.is_ascii_digit() || (b'A'..=b'F').contains(&digit);
    let hex = digits.bytes().all(upper);
    hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten()
}

fn read_tokens(fields: &GgufTokenizer, alphabet: Alphabet) -> Result<Vocabulary, TokenizerError> {
    let count = fields.tokens.len();
    check_limit("tokens", count, limits::VOCAB_MAX)?;
    let total = fields.tokens.iter().map(Vec::len).sum();
    check_limit("token bytes", total, limits::VOCAB_BYTES_MAX)?;
    if fields.token_types.as_ref().is_some_and(|types| types.len() != count) {
        let rule = "one per token";
        let field = "token_type";
        return Err(TokenizerError::Rule { field, rule });
    }
    let mut vocabulary = Vocabulary::with_capacity(count, total);
    let mut bytes = Vec::new();
    for (index, name) in fields.tokens.iter().enumerate() {
        let id = index as u32;
        let refuse = |rule| TokenizerError::Token { id, rule };
        let mut kind = match &fields.token_types {
            Some(types) => u8::try_from(types[index])
                .ok()
                .and_then(TokenKind::from_number)
                .ok_or_else(|| refuse("unknown type"))?,
            None => usual_kind(fields, id, name, alphabet),
        };
        let unnamed =
            matches!(kind, TokenKind::Unknown | TokenKind::Control | TokenKind::UserDefined);
        // Rows that converters add so that vocabulary and weights have the same height.
        if unnamed && name == format!("[PAD{id}]").as_bytes() {
            kind = TokenKind::Unused;
        }
        match kind {
            TokenKind::Byte => {
                let byte = parse_byte_name(name).ok_or_else(|| refuse("not the name of a byte"))?;
                vocabulary.push(&[byte], kind);
            }
            TokenKind::Normal if alphabet == Alphabet::Bytes => {
                bytes.clear();
                std::str::from_utf8(name)
                    .ok()
                    .and_then(|text| byte_alphabet::append_bytes(&mut bytes, text))
                    .ok_or_else(|| refuse("has a character outside the byte alphabet"))?;
                vocabulary.push(&bytes, kind);
            }
            _ => {
                vocabulary.push(name, kind);
            }
        }
    }
    end_of_turn::correct_kinds(&mut vocabulary);
    Ok(vocabulary)
}

/// The kind of a token in files that do not say.
fn usual_kind(fields: &GgufTokenizer, id: u32, name: &[u8], alphabet: Alphabet) -> TokenKind {
    if fields.unk_id == Some(id) && alphabet == Alphabet::Characters {
        TokenKind::Unknown
    } else if [fields.bos_id, fields.eos_id, fields.eot_id].contains(&Some(id)) {
        TokenKind::Control
    } else if alphabet == Alphabet::Characters && parse_byte_name(name).is_some() {
        TokenKind::Byte
    } else {
        TokenKind::Normal
    }
}

/// Pre-tokenizer, whether text is normalized to NFC, and whether whole words come first. The file
/// gives a name only; the rest is what publishers of that name use.
fn read_pre(name: Option<&str>) -> Result<(PreTokenizer, bool, bool), TokenizerError> {
    let Some(name) = name else {
        return Err(TokenizerError::Rule {
            field: "tokenizer.ggml.pre",
            rule: "missing; convert the model again with a newer converter",
        });
    };
    let known = NamedPreTokenizer::from_gguf_name(name)
        .ok_or_else(|| TokenizerError::unsupported("pre-tokenizer", name))?;
    let nfc = matches!(name, "qwen2" | "qwen35");
    let whole_word_first = matches!(known, NamedPreTokenizer::Llama3 | NamedPreTokenizer::Tekken);
    Ok((PreTokenizer::Named(known), nfc, whole_word_first))
}

fn read_model(
    fields: &GgufTokenizer,
    alphabet: Alphabet,
    vocabulary: &Vocabulary,
    whole_word_first: bool,
) -> Result<MergeModel, TokenizerError> {
    let missing = |field| TokenizerError::Rule { field, rule: "missing" };
    let merges = || {
        let lines = fields.merges.as_ref().ok_or_else(|| missing("merges"))?;
        let pairs = read_merges(lines, vocabulary, alphabet)?;
        Ok(MergeModel::Merges { pairs, whole_word_first })
    };
    if alphabet == Alphabet::Bytes {
        return merges();
    }
    let scores = fields.scores.as_ref().ok_or_else(|| missing("scores"))?;
    if scores.len() != fields.tokens.len() {
        return Err(TokenizerError::Rule { field: "scores", rule: "one per token" });
    }
    let scores = &scores[..vocabulary.len()];
    // Some converters write merges and leave all scores zero.
    if fields.merges.is_some() && scores.iter().all(|&score| score == 0.0) {
        return merges();
    }
    Ok(MergeModel::Scores(scores.iter().map(|score| score + 0.0).collect()))
}

/// Merges as lines of two names with a space between them.
pub(super) fn read_merges(
    lines: &[Vec<u8>],
    vocabulary: &Vocabulary,
    alphabet: Alphabet,
) -> Result<Vec<(TokenId, TokenId)>, TokenizerError> {
    check_limit("merges", lines.len(), limits::MERGES_MAX)?;
    let ids = text_ids(vocabulary);
    let mut bytes = Vec::new();
    let mut pairs = Vec::with_capacity(lines.len());
    for (index, line) in lines.iter().enumerate() {
        let refuse = |rule| TokenizerError::Merge { index: index as u32, rule };
        let line = std::str::from_utf8(line).map_err(|_| refuse("must be UTF-8"))?;
        let (left, right) = line.split_once(' ').ok_or_else(|| refuse("two names expected"))?;
        let mut id = |name: &str| {
            bytes.clear();
            match alphabet {
                Alphabet::Bytes => byte_alphabet::append_bytes(&mut bytes, name)?,
                Alphabet::Characters => bytes.extend_from_slice(name.as_bytes()),
            }
            ids.get(bytes.as_slice()).copied()
        };
        match (id(left), id(right)) {
            (Some(left), Some(right)) => pairs.push((left, right)),
            _ => return Err(refuse("names no token")),
        }
    }
    Ok(pairs)
}

/// Phi-3 swallows white space after its control tokens; the file does not say so.
fn read_margins(fields: &GgufTokenizer, vocabulary: &Vocabulary) -> Vec<(TokenId, Margins)> {
    if fields.architecture != "phi3" {
        return Vec::new();
    }
    let strip_right = Margins { strip_left: false, strip_right: true };
    let kept = [b"<unk>".as_slice(), b"<s>", b"<|endoftext|>"];
    vocabulary
        .iter()
        .filter(|(_, bytes, kind)| {
            matches!(kind, TokenKind::Control | TokenKind::UserDefined) && !kept.contains(bytes)
        })
        .map(|(id, _, _)| (id, strip_right))
        .collect()
}
