//! Making a tokenizer: byte pairs counted in a text by the `tokenizers` library.
//!
//! Owns which pieces are counted and which tokens a new vocabulary begins with. What text becomes
//! is the business of `shoal_model::tokenizer`, which also cuts the pieces, so that what is counted
//! is what will be merged. The same text gives the same tokenizer, on every machine.

use serde_json::json;
use shoal_model::tokenizer::{
    EncodeError, HfFiles, NamedPreTokenizer, PreTokenizer, TokenizerError, TokenizerSpec, limits,
};
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Trainer as _};

/// Ends a document, and begins one.
pub const END: &str = "<|endoftext|>";
/// Begin and end of a turn in the built-in template `chatml`.
pub const TURN: [&str; 2] = ["<|im_start|>", "<|im_end|>"];
/// Tokens that every vocabulary has: the three above and the 256 bytes.
pub const VOCAB_MIN: usize = 3 + 256;
/// Bytes of all texts. The library counts pairs in 31 bits, and there are fewer pairs than bytes.
pub const TEXT_BYTES_MAX: u64 = i32::MAX as u64;

/// Single digits, then as GPT-2: small models count better, and llama.cpp knows it.
const PRETOKENIZER: NamedPreTokenizer = NamedPreTokenizer::SmolLm;
/// A pair that comes once is no pattern.
const COUNT_MIN: u64 = 2;
/// Longer tokens are ornaments: lines of dashes, runs of spaces.
const TOKEN_BYTES_MAX: usize = 64;
/// A text is cut where a line begins after so many bytes, so that pieces of one part fit in memory.
const PART_BYTES: usize = 1 << 18;

/// Why no tokenizer was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeTokenizerError {
    /// Too few tokens for what every vocabulary has, or more than a vocabulary may have.
    #[error("a vocabulary of {got} tokens; it has {least} to {most}")]
    Vocabulary {
        /// Asked for.
        got: usize,
        /// Least.
        least: usize,
        /// Most.
        most: usize,
    },
    /// Nothing to count.
    #[error("the text is empty")]
    Empty,
    /// More text than can be counted.
    #[error("{got} bytes of text, limit {limit}; give a part of it")]
    TextBytes {
        /// There are.
        got: u64,
        /// There may be.
        limit: u64,
    },
    /// The text has fewer patterns than tokens are asked for.
    #[error("the text gives {got} tokens, {wanted} are asked for; give more text or ask for less")]
    Short {
        /// Tokens it gives.
        got: usize,
        /// Asked for.
        wanted: usize,
    },
    /// The caller ended it.
    #[error("stopped")]
    Stopped,
    /// The text could not be cut into pieces.
    #[error(transparent)]
    Pieces(#[from] EncodeError),
    /// What came out is no tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The library refused.
    #[error("the tokenizers library: {reason}")]
    Library {
        /// Its words.
        reason: String,
    },
}

impl MakeTokenizerError {
    fn library(reason: &dyn std::fmt::Display) -> Self {
        Self::Library { reason: reason.to_string() }
    }
}

/// Makes a tokenizer of `vocab_count` tokens: [`END`], [`TURN`], the bytes, then the pairs that
/// come most often. `progress` is told the bytes that were counted and says whether to go on; the
/// merges that follow take about as long and tell nothing.
///
/// # Errors
/// See [`MakeTokenizerError`].
pub fn make_tokenizer(
    texts: &[String],
    vocab_count: usize,
    progress: &(dyn Fn(u64) -> bool + Sync),
) -> Result<TokenizerSpec, MakeTokenizerError> {
    let (least, most) = (VOCAB_MIN, limits::VOCAB_MAX);
    if !(least..=most).contains(&vocab_count) {
        return Err(MakeTokenizerError::Vocabulary { got: vocab_count, least, most });
    }
    let got = texts.iter().map(|text| text.len() as u64).sum();
    if got == 0 {
        return Err(MakeTokenizerError::Empty);
    }
    if got > TEXT_BYTES_MAX {
        return Err(MakeTokenizerError::TextBytes { got, limit: TEXT_BYTES_MAX });
    }
    // Threads gain little here, and the library takes all there are.
    tokenizers::parallelism::set_parallelism(false);
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_count)
        .min_frequency(COUNT_MIN)
        .max_token_length(Some(TOKEN_BYTES_MAX))
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(specials().map(|name| AddedToken::from(name, true)).to_vec())
        .build();
    count(&mut trainer, texts, progress)?;
    let mut model = BPE::default();
    trainer.train(&mut model).map_err(|error| MakeTokenizerError::library(&error))?;
    let spec = describe(&model)?;
    match spec.vocabulary.len() {
        got if got < vocab_count => Err(MakeTokenizerError::Short { got, wanted: vocab_count }),
        _ => Ok(spec),
    }
}

const fn specials() -> [&'static str; 3] {
    [END, TURN[0], TURN[1]]
}

/// Counts the pieces of all texts.
fn count(
    trainer: &mut BpeTrainer,
    texts: &[String],
    progress: &(dyn Fn(u64) -> bool + Sync),
) -> Result<(), MakeTokenizerError> {
    let splitter = PreTokenizer::Named(PRETOKENIZER).compile()?;
    let done = std::sync::atomic::AtomicU64::new(0);
    let pieces = |part: &str| -> tokenizers::Result<Vec<String>> {
        let bytes = part.len() as u64;
        let before = done.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        if !progress(before + bytes) {
            return Err(MakeTokenizerError::Stopped.into());
        }
        Ok(splitter.byte_pieces(part).map_err(MakeTokenizerError::from)?)
    };
    trainer.feed(texts.iter().flat_map(|text| parts(text)), pieces).map_err(|error| {
        match error.downcast::<MakeTokenizerError>() {
            Ok(ours) => *ours,
            Err(theirs) => MakeTokenizerError::library(&theirs),
        }
    })
}

/// A text in parts of about [`PART_BYTES`], each but the first at the beginning of a line if there
/// is one, and else at a character.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let at = rest.floor_char_boundary(PART_BYTES);
        let line = rest[at..].find('\n').filter(|&line| line <= PART_BYTES);
        let end = line.map_or(at, |line| at + line + 1);
        let part;
        (part, rest) = rest.split_at(end);
        Some(part)
    })
}

/// The result of the library as a description.
fn describe(model: &BPE) -> Result<TokenizerSpec, MakeTokenizerError> {
    let added = specials().into_iter().enumerate();
    let added = added.map(|(id, name)| json!({ "id": id, "content": name, "special": true }));
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "use_regex": false });
    let file = json!({
        "added_tokens": added.collect::<Vec<_>>(),
        "pre_tokenizer": byte_level,
        "decoder": { "type": "ByteLevel" },
        "model": model,
    });
    let config = json!({ "bos_token": END, "eos_token": END, "add_bos_token": true });
    let mut spec = TokenizerSpec::from_hf(&HfFiles {
        tokenizer: file.to_string().as_bytes(),
        tokenizer_config: Some(config.to_string().as_bytes()),
        ..HfFiles::default()
    })?;
    spec.pretokenizer = PreTokenizer::Named(PRETOKENIZER);
    spec.check()?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_base::TokenId;
    use shoal_model::tokenizer::{ControlTokens, DecodeFrom, EncodeOptions, TokenKind, Tokenizer};

    fn text() -> Vec<String> {
        let line =
            |i: u32| format!("Once upon a time there were {i} cats, and they sat on a mat.\n");
        vec![(0..300).map(line).collect(), "Größe, 漢字 and 🐟 are written too. ".repeat(9)]
    }

    fn make(texts: &[String], vocab_count: usize) -> Result<TokenizerSpec, MakeTokenizerError> {
        make_tokenizer(texts, vocab_count, &|_| true)
    }

    #[test]
    fn any_text_comes_back_and_known_text_is_short() {
        let spec = make(&text(), 310).expect("there is enough text");
        assert_eq!(spec.vocabulary.len(), 310);
        let tokenizer = Tokenizer::new(spec).expect("the description is valid");
        let control = |id| tokenizer.spec().vocabulary.kind(TokenId(id));
        assert_eq!([control(0), control(2)], [Some(TokenKind::Control); 2]);
        for text in ["Once upon a time\n\n  12345", "\u{0}\u{7f}é漢🐟\t ", "<|endoftext|>"] {
            let ids = tokenizer.encode(text, EncodeOptions::default()).expect("it has bytes");
            assert_eq!(ids[0], TokenId(0), "the beginning");
            let back = tokenizer.decode(&ids, DecodeFrom::Start, ControlTokens::Skip);
            assert_eq!(back.as_deref(), Ok(text));
        }
        let ids = tokenizer.encode(" time there", EncodeOptions::default()).expect("it has bytes");
        assert!(ids.len() <= 4, "{ids:?}");
    }

    #[test]
    fn the_same_text_gives_the_same_tokenizer() {
        let bytes = |texts: &[String]| make(texts, 310).expect("enough").to_bytes().expect("valid");
        let first = bytes(&text());
        for _ in 0..4 {
            assert_eq!(bytes(&text()), first);
        }
        let mut other = text();
        other.push("quite another text ".repeat(50));
        assert_ne!(bytes(&other), first);
    }

    #[test]
    fn what_gives_no_tokenizer_is_refused() {
        let refused = |texts: &[String], count| make(texts, count).expect_err("refused");
        for count in [0, VOCAB_MIN - 1, limits::VOCAB_MAX + 1] {
            let error = refused(&text(), count);
            assert!(matches!(error, MakeTokenizerError::Vocabulary { .. }), "{error}");
        }
        for empty in [vec![], vec![String::new()]] {
            assert!(matches!(refused(&empty, 300), MakeTokenizerError::Empty));
        }
        let error = refused(&["a cat".to_owned()], 300);
        assert!(matches!(error, MakeTokenizerError::Short { got: VOCAB_MIN, wanted: 300 }));
        let error = make_tokenizer(&text(), 300, &|_| false).expect_err("stopped");
        assert!(matches!(error, MakeTokenizerError::Stopped), "{error}");
    }

    #[test]
    fn parts_are_the_text() {
        let long = "é".repeat(PART_BYTES);
        let lines = "a line\n".repeat(PART_BYTES / 3);
        for text in [long.as_str(), lines.as_str(), "", "a", "a\n\nb"] {
            let cut: Vec<&str> = parts(text).collect();
            assert_eq!(cut.concat(), text);
            assert!(cut.iter().all(|part| !part.is_empty() && part.len() <= 2 * PART_BYTES + 1));
        }
    }
}
