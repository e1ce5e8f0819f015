//! The one byte form of a [`TokenizerSpec`]. All numbers little-endian.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | `shoaltok` |
//! | 2 | version, 1 |
//! | 1 | alphabet: 0 bytes, 1 characters |
//! | 1 | model: 0 scores, 1 merges, 2 merges with whole words first |
//! | 1 | flags: 1 nfc, 2 collapse spaces, 4 add bos, 8 add eos, 16 fuse unknown, 32 clean up spaces
//! |
//! | 1 | space prefix: 0 never, 1 each segment, 2 and 3 each and first segment unless it has a
//! space |
//! | 16 | ids of bos, eos, unk, pad; `ff ff ff ff` for none |
//! | 1 + 4 n | end-of-turn ids |
//! | 1 | pre-tokenizer: 0 none, 1 named, 2 expressions |
//! | … | named: 1 byte, its number; expressions: 1 byte count, each 2 bytes length and text |
//! | 4 | tokens `V` |
//! | `V` | kinds |
//! | 2 `V` | lengths |
//! | … | bytes of all tokens |
//! | 4 + 5 n | margins: count, each id and flags: 1 strip left, 2 strip right |
//! | 4 `V` or 4 + 8 n | scores (f32), or count of merges and their pairs of ids |
//!
//! A value has one encoding: [`TokenizerSpec::from_bytes`] refuses everything that
//! [`TokenizerSpec::to_bytes`] would not have written, so the digest of the bytes names the
//! tokenizer.

use shoal_base::TokenId;

use super::error::{TokenizerError, check_limit};
use super::limits;
use super::pretokenizer::{NamedPreTokenizer, PreTokenizer};
use super::spec::{
    Alphabet, Margins, MergeModel, Normalizer, SpacePrefix, SpecialIds, TokenizerSpec,
};
use super::vocabulary::{TokenKind, Vocabulary};

const MAGIC: &[u8; 8] = b"shoaltok";
const VERSION: u16 = 1;
const NO_ID: u32 = u32::MAX;
const FORMAT: &str = "tokenizer";

impl TokenizerSpec {
    /// The bytes that stand for this description in a package.
    ///
    /// # Errors
    /// The first rule of [`TokenizerSpec::check`] that is broken.
    pub fn to_bytes(&self) -> Result<Vec<u8>, TokenizerError> {
        self.check()?;
        let mut out = Vec::with_capacity(self.vocabulary.bytes_len() + self.vocabulary.len() * 24);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.push(self.alphabet as u8);
        out.push(match &self.model {
            MergeModel::Scores(_) => 0,
            MergeModel::Merges { whole_word_first, .. } => 1 + u8::from(*whole_word_first),
        });
        let flags = [
            self.normalizer.nfc,
            self.normalizer.collapse_spaces,
            self.add_bos,
            self.add_eos,
            self.fuse_unknown,
            self.clean_up_spaces,
        ];
        out.push(pack(&flags));
        out.push(self.normalizer.space_prefix as u8);
        let special = &self.special;
        for id in [special.bos, special.eos, special.unk, special.pad] {
            put_u32(&mut out, id.map_or(NO_ID, |id| id.0));
        }
        out.push(special.end_of_turn.len() as u8);
        special.end_of_turn.iter().for_each(|id| put_u32(&mut out, id.0));
        put_pretokenizer(&mut out, &self.pretokenizer);
        put_vocabulary(&mut out, &self.vocabulary);
        put_u32(&mut out, self.margins.len() as u32);
        for (id, margins) in &self.margins {
            put_u32(&mut out, id.0);
            out.push(pack(&[margins.strip_left, margins.strip_right]));
        }
        match &self.model {
            MergeModel::Scores(scores) => {
                scores.iter().for_each(|score| out.extend_from_slice(&score.to_le_bytes()));
            }
            MergeModel::Merges { pairs, .. } => {
                put_u32(&mut out, pairs.len() as u32);
                for (left, right) in pairs {
                    put_u32(&mut out, left.0);
                    put_u32(&mut out, right.0);
                }
            }
        }
        Ok(out)
    }

    /// Reads what [`TokenizerSpec::to_bytes`] wrote.
    ///
    /// # Errors
    /// Bytes that it would not have written, with the place where they differ.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TokenizerError> {
        check_limit("tokenizer bytes", bytes.len(), limits::SPEC_BYTES_MAX)?;
        let mut reader = Reader { bytes, at: 0 };
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(reader.malformed("does not begin with `shoaltok`"));
        }
        if reader.u16()? != VERSION {
            return Err(reader.malformed("version 1 expected"));
        }
        let alphabet = match reader.u8()? {
            0 => Alphabet::Bytes,
            1 => Alphabet::Characters,
            _ => return Err(reader.malformed("unknown alphabet")),
        };
        let model = reader.u8()?;
        if model > 2 {
            return Err(reader.malformed("unknown model"));
        }
        let [nfc, collapse_spaces, add_bos, add_eos, fuse_unknown, clean_up_spaces] =
            reader.flags()?;
        let space_prefix = reader.space_prefix()?;
        let special = reader.special_ids()?;
        let pretokenizer = reader.pretokenizer()?;
        let vocabulary = reader.vocabulary()?;
        let margins = reader.margins()?;
        let model = match model {
            0 => MergeModel::Scores(reader.scores(vocabulary.len())?),
            _ => MergeModel::Merges { pairs: reader.pairs()?, whole_word_first: model == 2 },
        };
        if reader.at != bytes.len() {
            return Err(reader.malformed("nothing may follow"));
        }
        let spec = Self {
            alphabet,
            vocabulary,
            model,
            normalizer: Normalizer { nfc, collapse_spaces, space_prefix },
            pretokenizer,
            special,
            margins,
            add_bos,
            add_eos,
            fuse_unknown,
            clean_up_spaces,
        };
        spec.check()?;
        Ok(spec)
    }
}

fn pack(flags: &[bool]) -> u8 {
    flags.iter().enumerate().fold(0, |byte, (bit, &flag)| byte | u8::from(flag) << bit)
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_pretokenizer(out: &mut Vec<u8>, pretokenizer: &PreTokenizer) {
    match pretokenizer {
        PreTokenizer::None => out.push(0),
        PreTokenizer::Named(name) => out.extend_from_slice(&[1, name.number()]),
        PreTokenizer::Expressions(list) => {
            out.extend_from_slice(&[2, list.len() as u8]);
            for expression in list {
                out.extend_from_slice(&(expression.len() as u16).to_le_bytes());
                out.extend_from_slice(expression.as_bytes());
            }
        }
    }
}

fn put_vocabulary(out: &mut Vec<u8>, vocabulary: &Vocabulary) {
    let (bytes, ends, kinds) = vocabulary.packed();
    put_u32(out, kinds.len() as u32);
    out.extend(kinds.iter().map(|&kind| kind as u8));
    let mut start = 0;
    for &end in ends {
        out.extend_from_slice(&((end - start) as u16).to_le_bytes());
        start = end;
    }
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn malformed(&self, rule: &'static str) -> TokenizerError {
        TokenizerError::Malformed { format: FORMAT, offset: self.at, rule }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], TokenizerError> {
        let rest = &self.bytes[self.at..];
        let Some(taken) = rest.get(..count) else {
            return Err(self.malformed("cut short"));
        };
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TokenizerError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, TokenizerError> {
        Ok(self.array::<1>()?[0])
    }

    fn u16(&mut self) -> Result<u16, TokenizerError> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, TokenizerError> {
        self.array().map(u32::from_le_bytes)
    }

    fn flags<const N: usize>(&mut self) -> Result<[bool; N], TokenizerError> {
        let byte = self.u8()?;
        if u32::from(byte) >= 1 << N {
            return Err(self.malformed("unknown flag"));
        }
        Ok(std::array::from_fn(|bit| byte >> bit & 1 == 1))
    }

    fn space_prefix(&mut self) -> Result<SpacePrefix, TokenizerError> {
        Ok(match self.u8()? {
            0 => SpacePrefix::Never,
            1 => SpacePrefix::EachSegment,
            2 => SpacePrefix::EachSegmentUnlessSpace,
            3 => SpacePrefix::FirstSegmentUnlessSpace,
            _ => return Err(self.malformed("unknown space prefix")),
        })
    }

    fn special_ids(&mut self) -> Result<SpecialIds, TokenizerError> {
        let mut id = || {
            let id = self.u32()?;
            Ok((id != NO_ID).then_some(TokenId(id)))
        };
        let (bos, eos, unk, pad) = (id()?, id()?, id()?, id()?);
        let count = usize::from(self.u8()?);
        check_limit("end-of-turn tokens", count, limits::END_OF_TURN_MAX)?;
        let end_of_turn = (0..count).map(|_| self.u32().map(TokenId)).collect::<Result<_, _>>()?;
        Ok(SpecialIds { bos, eos, unk, pad, end_of_turn })
    }

    fn pretokenizer(&mut self) -> Result<PreTokenizer, TokenizerError> {
        match self.u8()? {
            0 => Ok(PreTokenizer::None),
            1 => NamedPreTokenizer::from_number(self.u8()?)
                .map(PreTokenizer::Named)
                .ok_or_else(|| self.malformed("unknown pre-tokenizer")),
            2 => {
                let count = usize::from(self.u8()?);
                check_limit("expressions", count, limits::EXPRESSIONS_MAX)?;
                let mut list = Vec::with_capacity(count);
                for _ in 0..count {
                    let length = usize::from(self.u16()?);
                    check_limit("expression bytes", length, limits::EXPRESSION_BYTES_MAX)?;
                    let text = std::str::from_utf8(self.take(length)?)
                        .map_err(|_| self.malformed("an expression is UTF-8"))?;
                    list.push(text.to_owned());
                }
                Ok(PreTokenizer::Expressions(list))
            }
            _ => Err(self.malformed("unknown pre-tokenizer form")),
        }
    }

    fn vocabulary(&mut self) -> Result<Vocabulary, TokenizerError> {
        let count = self.u32()? as usize;
        check_limit("tokens", count, limits::VOCAB_MAX)?;
        let kinds = self.take(count)?;
        let lengths = self.take(2 * count)?;
        let lengths = || {
            lengths.chunks_exact(2).map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])))
        };
        let bytes_count = lengths().sum();
        check_limit("token bytes", bytes_count, limits::VOCAB_BYTES_MAX)?;
        let mut bytes = self.take(bytes_count)?;
        let mut vocabulary = Vocabulary::with_capacity(count, bytes_count);
        for (&kind, length) in kinds.iter().zip(lengths()) {
            let kind = TokenKind::from_number(kind)
                .ok_or_else(|| self.malformed("a token has an unknown kind"))?;
            let (token, rest) = bytes.split_at(length);
            vocabulary.push(token, kind);
            bytes = rest;
        }
        Ok(vocabulary)
    }

    fn margins(&mut self) -> Result<Vec<(TokenId, Margins)>, TokenizerError> {
        let count = self.u32()? as usize;
        check_limit("margins", count, limits::ATOMIC_TOKENS_MAX)?;
        let mut margins = Vec::new();
        for _ in 0..count {
            let id = TokenId(self.u32()?);
            let [strip_left, strip_right] = self.flags()?;
            let margin = Margins { strip_left, strip_right };
            margins.push((id, margin));
        }
        Ok(margins)
    }

    fn scores(&mut self, count: usize) -> Result<Vec<f32>, TokenizerError> {
        let bytes = self.take(4 * count)?;
        let score = |four: &[u8]| f32::from_le_bytes([four[0], four[1], four[2], four[3]]);
        Ok(bytes.chunks_exact(4).map(score).collect())
    }

    fn pairs(&mut self) -> Result<Vec<(TokenId, TokenId)>, TokenizerError> {
        let count = self.u32()? as usize;
        check_limit("merges", count, limits::MERGES_MAX)?;
        let bytes = self.take(8 * count)?;
        let id = |four: &[u8]| TokenId(u32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        let pair = |eight: &[u8]| (id(&eight[..4]), id(&eight[4..]));
        Ok(bytes.chunks_exact(8).map(pair).collect())
    }
}
