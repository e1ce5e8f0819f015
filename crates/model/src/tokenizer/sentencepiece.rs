//! `tokenizer.model` of SentencePiece: a protocol-buffers message, read with the few fields that
//! matter.
//!
//! Models of type BPE and CHAR are merges by score. UNIGRAM and WORD models choose among all
//! segmentations and would give other ids; they are refused, as are normalization tables.

use shoal_base::TokenId;

use super::error::{TokenizerError, check_limit};
use super::gguf::parse_byte_name;
use super::limits;
use super::spec::{Alphabet, MergeModel, Normalizer, SpacePrefix, SpecialIds, TokenizerSpec};
use super::vocabulary::{TokenKind, Vocabulary};
use super::{PreTokenizer, end_of_turn};

const FORMAT: &str = "sentencepiece model";

impl TokenizerSpec {
    /// Reads a SentencePiece model.
    ///
    /// # Errors
    /// Bytes that are not of this format, or a model that is not merged by score.
    pub fn from_sentencepiece(bytes: &[u8]) -> Result<Self, TokenizerError> {
        check_limit("tokenizer bytes", bytes.len(), limits::SOURCE_BYTES_MAX)?;
        let mut vocabulary = Vocabulary::default();
        let mut scores = Vec::new();
        let mut trainer = Trainer::default();
        let mut rules = NormalizerRules::default();
        let mut message = Message::new(bytes, 0);
        while let Some((number, value)) = message.next()? {
            match (number, value) {
                (1, Value::Bytes(piece)) => {
                    check_limit("tokens", vocabulary.len() + 1, limits::VOCAB_MAX)?;
                    scores.push(read_piece(piece, &mut vocabulary)?);
                }
                (2, Value::Bytes(spec)) => trainer.read(spec)?,
                (3, Value::Bytes(spec)) => rules.read(spec)?,
                _ => {}
            }
        }
        trainer.check()?;
        // A negative number, and any that is outside the vocabulary, means that there is none.
        let count = vocabulary.len() as u32;
        let id = |id: i64| u32::try_from(id).ok().filter(|&id| id < count).map(TokenId);
        let mut special = SpecialIds {
            bos: id(trainer.bos),
            eos: id(trainer.eos),
            unk: id(trainer.unk),
            pad: id(trainer.pad),
            end_of_turn: Vec::new(),
        };
        end_of_turn::correct_kinds(&mut vocabulary);
        end_of_turn::collect(&mut special, &vocabulary, []);
        let spec = Self {
            alphabet: Alphabet::Characters,
            vocabulary,
            model: MergeModel::Scores(scores),
            normalizer: Normalizer {
                nfc: false,
                collapse_spaces: rules.collapse_spaces,
                space_prefix: if rules.space_prefix {
                    SpacePrefix::EachSegment
                } else {
                    SpacePrefix::Never
                },
            },
            pretokenizer: PreTokenizer::None,
            margins: Vec::new(),
            add_bos: special.bos.is_some(),
            add_eos: false,
            fuse_unknown: true,
            clean_up_spaces: false,
            special,
        };
        spec.check()?;
        Ok(spec)
    }
}

/// `ModelProto.SentencePiece`: text, score, type.
fn read_piece(bytes: Part<'_>, vocabulary: &mut Vocabulary) -> Result<f32, TokenizerError> {
    let (mut text, mut score, mut kind) = (&[][..], 0.0, 1);
    let mut message = Message::new(bytes.bytes, bytes.offset);
    while let Some((number, value)) = message.next()? {
        match (number, value) {
            (1, Value::Bytes(part)) => text = part.bytes,
            (2, Value::Four(bits)) => score = f32::from_bits(bits),
            (3, Value::Number(number)) => kind = number,
            _ => {}
        }
    }
    let id = vocabulary.len() as u32;
    let refuse = |rule| TokenizerError::Token { id, rule };
    let kind = u8::try_from(kind)
        .ok()
        .and_then(TokenKind::from_number)
        .ok_or_else(|| refuse("unknown type"))?;
    match kind {
        TokenKind::Byte => {
            let byte = parse_byte_name(text).ok_or_else(|| refuse("not the name of a byte"))?;
            vocabulary.push(&[byte], kind);
        }
        // Such pieces are made by merging and then taken apart again.
        TokenKind::Unused => return Err(refuse("unused pieces are not supported")),
        _ => {
            vocabulary.push(text, kind);
        }
    }
    Ok(score + 0.0)
}

/// `TrainerSpec`; the defaults are those of the format.
struct Trainer {
    model_type: u64,
    unk: i64,
    bos: i64,
    eos: i64,
    pad: i64,
}

impl Default for Trainer {
    fn default() -> Self {
        Self { model_type: 1, unk: 0, bos: 1, eos: 2, pad: -1 }
    }
}

impl Trainer {
    fn read(&mut self, part: Part<'_>) -> Result<(), TokenizerError> {
        let mut message = Message::new(part.bytes, part.offset);
        while let Some((number, value)) = message.next()? {
            let Value::Number(value) = value else {
                continue;
            };
            // Negative numbers are written as their 64-bit two's complement.
            let signed = value.cast_signed();
            match number {
                3 => self.model_type = value,
                24 if value != 0 => {
                    let what = "sentencepiece option";
                    return Err(TokenizerError::unsupported(what, "treat_whitespace_as_suffix"));
                }
                40 => self.unk = signed,
                41 => self.bos = signed,
                42 => self.eos = signed,
                43 => self.pad = signed,
                _ => {}
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<(), TokenizerError> {
        let name = match self.model_type {
            2 | 4 => return Ok(()),
            1 => "UNIGRAM",
            3 => "WORD",
            _ => "of unknown type",
        };
        Err(TokenizerError::unsupported("sentencepiece model", name))
    }
}

/// `NormalizerSpec`; the defaults are those of the format.
struct NormalizerRules {
    space_prefix: bool,
    collapse_spaces: bool,
}

impl Default for NormalizerRules {
    fn default() -> Self {
        Self { space_prefix: true, collapse_spaces: true }
    }
}

impl NormalizerRules {
    fn read(&mut self, part: Part<'_>) -> Result<(), TokenizerError> {
        let what = "sentencepiece normalizer";
        let mut name = &[][..];
        let mut message = Message::new(part.bytes, part.offset);
        while let Some((number, value)) = message.next()? {
            match (number, value) {
                (1, Value::Bytes(part)) => name = part.bytes,
                (2, Value::Bytes(table)) if !table.bytes.is_empty() => {
                    let name = String::from_utf8_lossy(name);
                    return Err(TokenizerError::unsupported(what, &name));
                }
                (3, Value::Number(value)) => self.space_prefix = value != 0,
                (4, Value::Number(value)) => self.collapse_spaces = value != 0,
                (5, Value::Number(0)) => {
                    return Err(TokenizerError::unsupported(what, "without space marks"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A length-delimited field and its place in the file.
#[derive(Clone, Copy)]
struct Part<'a> {
    bytes: &'a [u8],
    offset: usize,
}

enum Value<'a> {
    Number(u64),
    Four(u32),
    Bytes(Part<'a>),
    Other,
}

/// The fields of a protocol-buffers message, one after the other.
struct Message<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Message<'a> {
    const fn new(rest: &'a [u8], offset: usize) -> Self {
        Self { rest, offset }
    }

    fn malformed(&self, rule: &'static str) -> TokenizerError {
        TokenizerError::Malformed { format: FORMAT, offset: self.offset, rule }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], TokenizerError> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.malformed("cut short"));
        };
        self.rest = rest;
        self.offset += count;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<u64, TokenizerError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(self.malformed("a number of more than 64 bits"))
    }

    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, TokenizerError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let value = match tag & 7 {
            0 => Value::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Other
            }
            2 => {
                let length = self.varint()?;
                let length =
                    usize::try_from(length).map_err(|_| self.malformed("longer than the file"))?;
                let offset = self.offset;
                let bytes = self.take(length)?;
                Value::Bytes(Part { bytes, offset })
            }
            5 => {
                let bytes = self.take(4)?;
                Value::Four(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            }
            _ => return Err(self.malformed("unknown wire type")),
        };
        Ok(Some((tag >> 3, value)))
    }
}
