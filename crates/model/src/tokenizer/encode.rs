//! [`Tokenizer`]: a description made ready for use, and text to ids.
//!
//! Encoding is near-linear in the text whatever the text is: atomic tokens are found by one
//! automaton, expressions are metered, merges use a heap.

use std::borrow::Cow;

use aho_corasick::{AhoCorasick, MatchKind};
use shoal_base::{RequestLimits, TokenId};
use unicode_normalization::UnicodeNormalization;

use super::error::{EncodeError, TokenizerError};
use super::index::TextIndex;
use super::merge::{Merger, NONE, PairRules, ScoreRules};
use super::pretokenizer::{Splitter, work_max};
use super::spec::{
    Alphabet, Margins, MergeModel, Normalizer, SPACE_MARK, SpacePrefix, TokenizerSpec,
};
use super::vocabulary::{TokenKind, Vocabulary};

/// What to do besides turning text into ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Names of control tokens in the text become these tokens. Off for text from users.
    pub parse_special: bool,
    /// Begin with the beginning token; `None` does as the description says.
    pub add_bos: Option<bool>,
    /// End with the end token; `None` does as the description says.
    pub add_eos: Option<bool>,
}

impl EncodeOptions {
    /// For what a chat template wrote: it contains all control tokens by name.
    pub const RENDERED: Self =
        Self { parse_special: true, add_bos: Some(false), add_eos: Some(false) };
}

/// Turns text into ids and ids into text. A pure function of its description.
pub struct Tokenizer {
    spec: TokenizerSpec,
    index: TextIndex,
    rules: AnyRules,
    splitter: Splitter,
    /// Tokens that are found in any text.
    user_defined: Atoms,
    /// Those and the control tokens.
    all_atoms: Atoms,
    /// Byte alphabet: first symbol of each byte. Character alphabet: token for each byte, as a
    /// last resort. [`NONE`] where there is none.
    byte_tokens: [u32; 256],
    /// No token has a space mark after another character, so that words can be merged one by one.
    words_are_separate: bool,
    /// What tokens add to a text, where it differs from the vocabulary.
    shown: Option<Vocabulary>,
}

enum AnyRules {
    Pairs(PairRules),
    Scores(ScoreRules),
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Tokenizer").field(&self.spec).finish()
    }
}

impl Tokenizer {
    /// Checks a description and builds its tables.
    ///
    /// # Errors
    /// The first rule that the description breaks.
    pub fn new(spec: TokenizerSpec) -> Result<Self, TokenizerError> {
        spec.check()?;
        let vocabulary = &spec.vocabulary;
        let index = TextIndex::new(vocabulary);
        let splitter = spec.pretokenizer.compile()?;
        let rules = match &spec.model {
            MergeModel::Scores(scores) => AnyRules::Scores(ScoreRules::new(scores)),
            MergeModel::Merges { pairs, .. } => {
                AnyRules::Pairs(PairRules::new(vocabulary, &index, pairs)?)
            }
        };
        let words_are_separate = match &rules {
            AnyRules::Scores(_) => vocabulary.iter().all(|(_, bytes, kind)| {
                let merged = matches!(kind, TokenKind::Normal | TokenKind::UserDefined);
                !merged || !has_inner_mark(bytes)
            }),
            AnyRules::Pairs(pairs) => {
                pairs.results().all(|id| !vocabulary.get(id).is_some_and(has_inner_mark))
            }
        };
        let byte_tokens = byte_tokens(&spec, &index);
        let shown = (spec.alphabet == Alphabet::Characters).then(|| with_spaces(vocabulary));
        let user_defined = Atoms::new(&spec, |kind| kind == TokenKind::UserDefined)?;
        let all_atoms = Atoms::new(&spec, |kind| {
            let named = [TokenKind::UserDefined, TokenKind::Control, TokenKind::Unknown];
            named.contains(&kind)
        })?;
        Ok(Self {
            index,
            rules,
            splitter,
            user_defined,
            all_atoms,
            byte_tokens,
            words_are_separate,
            shown,
            spec,
        })
    }

    /// The description it was made of.
    #[must_use]
    pub const fn spec(&self) -> &TokenizerSpec {
        &self.spec
    }

    /// Number of tokens. A model may have more rows than that; they stand for nothing.
    #[must_use]
    pub fn vocab_count(&self) -> u32 {
        self.spec.vocabulary.len() as u32
    }

    /// What a token adds to a text: empty for control, unknown and unused tokens. `None` outside
    /// the vocabulary.
    #[must_use]
    pub fn token_bytes(&self, id: TokenId) -> Option<&[u8]> {
        match self.spec.vocabulary.kind(id)? {
            TokenKind::Control | TokenKind::Unknown | TokenKind::Unused => Some(&[]),
            TokenKind::Normal | TokenKind::UserDefined | TokenKind::Byte => self.token_name(id),
        }
    }

    /// As [`Tokenizer::token_bytes`], with names for control, unknown and unused tokens.
    #[must_use]
    pub fn token_name(&self, id: TokenId) -> Option<&[u8]> {
        self.shown.as_ref().unwrap_or(&self.spec.vocabulary).get(id)
    }

    /// What a token is for. `None` outside the vocabulary.
    #[must_use]
    pub fn token_kind(&self, id: TokenId) -> Option<TokenKind> {
        self.spec.vocabulary.kind(id)
    }

    /// The control or user-defined token with this name.
    #[must_use]
    pub fn find_atomic(&self, name: &str) -> Option<TokenId> {
        self.all_atoms.find(name)
    }

    /// The ids of `text`.
    ///
    /// # Errors
    /// A text that is too long, that has no encoding in this vocabulary, or for which a token is
    /// missing that `options` ask for.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<TokenId>, EncodeError> {
        let limit = RequestLimits::PROMPT_BYTES_MAX;
        if text.len() > limit {
            let got = text.len();
            return Err(EncodeError::TextBytes { got, limit });
        }
        let special = &self.spec.special;
        let mut run = Run {
            tokenizer: self,
            merger: Merger::default(),
            work: work_max(text.len()),
            ids: Vec::with_capacity(text.len() / 4 + 2),
            after_unknown: false,
        };
        if options.add_bos.unwrap_or(self.spec.add_bos) {
            let bos = special.bos.ok_or(EncodeError::NoSpecial { name: "bos" })?;
            run.ids.push(bos);
        }
        let atoms = if options.parse_special { &self.all_atoms } else { &self.user_defined };
        let mut at = 0;
        for (start, end, id) in atoms.find_in(text) {
            // A token that strips white space may reach over the start of the next one.
            if at < start {
                run.segment(&text[at..start], at == 0)?;
            }
            run.ids.push(id);
            at = end;
        }
        run.segment(&text[at..], at == 0)?;
        if options.add_eos.unwrap_or(self.spec.add_eos) {
            let eos = special.eos.ok_or(EncodeError::NoSpecial { name: "eos" })?;
            run.ids.push(eos);
        }
        Ok(run.ids)
    }
}

fn byte_tokens(spec: &TokenizerSpec, index: &TextIndex) -> [u32; 256] {
    let mut tokens = [NONE; 256];
    match spec.alphabet {
        Alphabet::Bytes => {
            for byte in 0..=255u8 {
                if let Some(id) = index.get(&spec.vocabulary, &[byte]) {
                    tokens[byte as usize] = id.0;
                }
            }
        }
        Alphabet::Characters => {
            for (id, bytes, kind) in spec.vocabulary.iter() {
                if let (TokenKind::Byte, [byte]) = (kind, bytes) {
                    tokens[*byte as usize] = id.0;
                }
            }
        }
    }
    tokens
}

/// Whether a space mark comes after another character.
fn has_inner_mark(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes)
        .is_ok_and(|text| text.trim_start_matches(SPACE_MARK).contains(SPACE_MARK))
}

fn with_spaces(vocabulary: &Vocabulary) -> Vocabulary {
    let mut shown = Vocabulary::with_capacity(vocabulary.len(), vocabulary.bytes_len());
    for (_, bytes, kind) in vocabulary.iter() {
        let piece = matches!(kind, TokenKind::Normal | TokenKind::UserDefined);
        match std::str::from_utf8(bytes) {
            Ok(text) if piece => shown.push(text.replace(SPACE_MARK, " ").as_bytes(), kind),
            _ => shown.push(bytes, kind),
        };
    }
    shown
}

/// One encoding in progress.
struct Run<'a> {
    tokenizer: &'a Tokenizer,
    merger: Merger,
    work: usize,
    ids: Vec<TokenId>,
    /// The last id stands for unknown text of this segment.
    after_unknown: bool,
}

impl Run<'_> {
    /// Encodes text between atomic tokens.
    fn segment(&mut self, text: &str, is_first: bool) -> Result<(), EncodeError> {
        let tokenizer = self.tokenizer;
        let spec = &tokenizer.spec;
        let text = normalize(text, spec.normalizer, spec.alphabet, is_first);
        self.after_unknown = false;
        let mut work = self.work;
        let result = tokenizer.splitter.split(&text, &mut work, &mut |piece| self.piece(piece));
        self.work = work;
        result
    }

    /// Encodes a piece that merges do not cross.
    fn piece(&mut self, piece: &str) -> Result<(), EncodeError> {
        let tokenizer = self.tokenizer;
        if let MergeModel::Merges { whole_word_first: true, .. } = tokenizer.spec.model
            && let Some(id) = tokenizer.index.get(&tokenizer.spec.vocabulary, piece.as_bytes())
        {
            self.ids.push(id);
            return Ok(());
        }
        if tokenizer.spec.alphabet == Alphabet::Bytes {
            return self.byte_piece(piece.as_bytes());
        }
        if !tokenizer.words_are_separate {
            return self.character_piece(piece);
        }
        let mut rest = piece;
        while !rest.is_empty() {
            let marks = rest.len() - rest.trim_start_matches(SPACE_MARK).len();
            let letters = rest[marks..].find(SPACE_MARK);
            let (word, after) = rest.split_at(letters.map_or(rest.len(), |count| marks + count));
            self.character_piece(word)?;
            rest = after;
        }
        Ok(())
    }

    fn byte_piece(&mut self, piece: &[u8]) -> Result<(), EncodeError> {
        let tokens = &self.tokenizer.byte_tokens;
        if let Some(&byte) = piece.iter().find(|&&byte| tokens[byte as usize] == NONE) {
            return Err(EncodeError::NoToken { byte });
        }
        let initial = (piece.iter().enumerate()).map(|(at, &byte)| (at, tokens[byte as usize]));
        self.merge(piece, initial);
        let merged = self.merger.symbols(piece).map(|(_, id)| TokenId(id));
        self.ids.extend(merged);
        Ok(())
    }

    fn character_piece(&mut self, piece: &str) -> Result<(), EncodeError> {
        let Tokenizer { spec, index, .. } = self.tokenizer;
        let initial = piece.char_indices().map(|(at, character)| {
            let bytes = &piece.as_bytes()[at..at + character.len_utf8()];
            let id = index.get(&spec.vocabulary, bytes);
            (at, id.map_or(NONE, |id| id.0))
        });
        self.merge(piece.as_bytes(), initial);
        let merger = std::mem::take(&mut self.merger);
        for (text, id) in merger.symbols(piece.as_bytes()) {
            if id == NONE {
                self.unknown(text)?;
            } else {
                self.after_unknown = false;
                self.ids.push(TokenId(id));
            }
        }
        self.merger = merger;
        Ok(())
    }

    fn merge(&mut self, piece: &[u8], initial: impl Iterator<Item = (usize, u32)>) {
        let Tokenizer { spec, index, rules, .. } = self.tokenizer;
        match rules {
            AnyRules::Pairs(pairs) => self.merger.run(piece, initial, pairs),
            AnyRules::Scores(scores) => {
                let rules = scores.with(&spec.vocabulary, index);
                self.merger.run(piece, initial, &rules);
            }
        }
    }

    /// A character without a token: its bytes if all of them have tokens, else the unknown token.
    fn unknown(&mut self, text: &[u8]) -> Result<(), EncodeError> {
        let tokens = &self.tokenizer.byte_tokens;
        let missing = text.iter().find(|&&byte| tokens[byte as usize] == NONE);
        let Some(&byte) = missing else {
            self.after_unknown = false;
            let bytes = text.iter().map(|&byte| TokenId(tokens[byte as usize]));
            self.ids.extend(bytes);
            return Ok(());
        };
        let unk = self.tokenizer.spec.special.unk;
        let unk = unk.ok_or(EncodeError::NoToken { byte })?;
        if !(self.after_unknown && self.tokenizer.spec.fuse_unknown) {
            self.ids.push(unk);
        }
        self.after_unknown = true;
        Ok(())
    }
}

fn normalize(
    text: &str,
    normalizer: Normalizer,
    alphabet: Alphabet,
    is_first: bool,
) -> Cow<'_, str> {
    let mut text = Cow::Borrowed(text);
    if normalizer.nfc && !unicode_normalization::is_nfc(&text) {
        text = Cow::Owned(text.nfc().collect());
    }
    if alphabet == Alphabet::Bytes {
        return text;
    }
    if normalizer.collapse_spaces {
        text = Cow::Owned(collapse_spaces(&text));
    }
    let unless_space = !text.starts_with([' ', SPACE_MARK]);
    let prefix = match normalizer.space_prefix {
        SpacePrefix::Never => false,
        SpacePrefix::EachSegment => true,
        SpacePrefix::EachSegmentUnlessSpace => unless_space,
        SpacePrefix::FirstSegmentUnlessSpace => unless_space && is_first,
    };
    let mut marked = String::with_capacity(text.len() + 3);
    if prefix && !text.is_empty() {
        marked.push(SPACE_MARK);
    }
    for part in text.split_inclusive(' ') {
        match part.strip_suffix(' ') {
            Some(word) => {
                marked.push_str(word);
                marked.push(SPACE_MARK);
            }
            None => marked.push_str(part),
        }
    }
    if normalizer.collapse_spaces {
        // SentencePiece drops marks at the end even if the text itself has them.
        let end = marked.trim_end_matches(SPACE_MARK).len();
        marked.truncate(end);
    }
    Cow::Owned(marked)
}

/// Single spaces between words, none at the ends.
fn collapse_spaces(text: &str) -> String {
    let mut collapsed = String::with_capacity(text.len());
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        if !collapsed.is_empty() {
            collapsed.push(' ');
        }
        collapsed.push_str(word);
    }
    collapsed
}

/// Tokens that are looked for in text before anything else; of those that begin at one place, the
/// longest is found.
struct Atoms {
    automaton: Option<AhoCorasick>,
    /// By number of the pattern.
    tokens: Vec<(TokenId, Margins)>,
}

impl Atoms {
    fn new(
        spec: &TokenizerSpec,
        wanted: impl Fn(TokenKind) -> bool,
    ) -> Result<Self, TokenizerError> {
        let mut names = Vec::new();
        let mut tokens = Vec::new();
        for (id, bytes, kind) in spec.vocabulary.iter() {
            if wanted(kind) && !bytes.is_empty() {
                let margins = spec.margins.binary_search_by_key(&id, |entry| entry.0);
                tokens.push((id, margins.map_or(Margins::default(), |at| spec.margins[at].1)));
                names.push(bytes);
            }
        }
        if names.is_empty() {
            return Ok(Self { automaton: None, tokens });
        }
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(names)
            .map_err(|_| TokenizerError::Rule {
                field: "control tokens",
                rule: "too many for one automaton",
            })?;
        Ok(Self { automaton: Some(automaton), tokens })
    }

    /// Start, end and id of each token in `text`, by rising start.
    fn find_in<'a>(&'a self, text: &'a str) -> impl Iterator<Item = (usize, usize, TokenId)> + 'a {
        let found = self.automaton.iter().flat_map(move |all| all.find_iter(text));
        found.map(move |found| {
            let (id, margins) = self.tokens[found.pattern().as_usize()];
            let (mut start, mut end) = (found.start(), found.end());
            if margins.strip_left {
                start = text[..start].trim_end().len();
            }
            if margins.strip_right {
                end = text.len() - text[end..].trim_start().len();
            }
            (start, end, id)
        })
    }

    fn find(&self, name: &str) -> Option<TokenId> {
        let (start, end, id) = self.find_in(name).next()?;
        (start == 0 && end == name.len()).then_some(id)
    }
}

#[cfg(test)]
mod tests {
    use shoal_base::Digest;
    use unicode_normalization::UnicodeNormalization;

    #[test]
    fn normalization_has_not_changed() {
        // As for character classes: the ids of packages stand on it. Each character alone, and put
        // together again from its parts.
        let mut text = String::new();
        for character in '\0'..=char::MAX {
            text.extend(character.nfc());
            text.push('\n');
            text.extend(character.nfd().nfc());
            text.push('\n');
        }
        assert_eq!(Digest::of(text.as_bytes()).to_string()[..16], *"e15945f789e4b656");
    }
}
