//! Cutting text into pieces that merges never cross.
//!
//! Each step is a regular expression; what it matches and what lies between matches become pieces,
//! which the next step cuts further. Expressions are run by the automata of `regex-automata`, which
//! never go back in the text. They have no look-ahead; the only one that published tokenizers use,
//! `\s+(?!\S)` followed by `\s+` at the end of an expression, means "a run of white space, without
//! its last character if text follows", and is done here by hand. Character classes are those of
//! Unicode 16.0; a test pins them, so that an update cannot change results unseen.

use std::panic::{RefUnwindSafe, UnwindSafe};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::NFA;
use regex_automata::util::pool::Pool;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::byte_alphabet;
use super::error::{EncodeError, TokenizerError, check_limit, shorten};
use super::limits;

/// Looks that expressions may take at a byte of text, on average. Those of the named pre-tokenizers
/// need less than 6 on any text; more than this is an expression that scans ahead again and again.
const LOOKS_PER_BYTE: usize = 64;
/// Ends of an expression that mean "white space, without its last character if text follows".
const LOOK_AHEADS: [&str; 2] = [r"|\s+(?!\S)|\s+", r"|\s+(?!\S)|\s"];

/// How text is cut into pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreTokenizer {
    /// Not at all.
    None,
    /// As a published family does.
    Named(NamedPreTokenizer),
    /// By these expressions, one after the other.
    Expressions(Vec<String>),
}

macro_rules! named {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $gguf:literal,
        [$($expression:expr),+ $(,)?];)+) => {
        /// Pre-tokenizers of published families.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum NamedPreTokenizer {
            $($(#[$doc])* $variant,)+
        }

        impl NamedPreTokenizer {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Its number in the bytes of a description. Numbers are never reused.
            pub(super) const fn number(self) -> u8 {
                match self { $(Self::$variant => $number,)+ }
            }

            /// The pre-tokenizer with this number.
            pub(super) const fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(Self::$variant),)+ _ => None }
            }

            /// Its name in `tokenizer.ggml.pre` of GGUF files.
            #[must_use]
            pub const fn gguf_name(self) -> &'static str {
                match self { $(Self::$variant => $gguf,)+ }
            }

            /// Its expressions, applied one after the other.
            #[must_use]
            pub const fn expressions(self) -> &'static [&'static str] {
                match self { $(Self::$variant => &[$($expression),+],)+ }
            }
        }
    };
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

named! {
    /// GPT-2.
    Gpt2 = 1, "gpt-2", [GPT2];
    /// Llama 3.
    Llama3 = 2, "llama-bpe", [concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )];
    /// Qwen2, Qwen2.5 and Qwen3.
    Qwen2 = 3, "qwen2", [concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )];
    /// Qwen3.5: marks belong to words.
    Qwen35 = 4, "qwen35", [concat!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}",
        r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )];
    /// `SmolLM`, StarCoder, Refact: single digits, then as GPT-2.
    SmolLm = 5, "smollm", [r"\p{N}", GPT2];
    /// Mistral NeMo ("tekken").
    Tekken = 6, "tekken", [concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
        r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )];
    /// GPT-4o and Llama 4.
    Gpt4o = 7, "gpt-4o", [concat!(
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )];
    /// DeepSeek V3 and R1.
    DeepSeek3 = 8, "deepseek-v3", [
        r"\p{N}{1,3}",
        "[一-龥぀-ゟ゠-ヿ]+",
        concat!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"##,
            r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+",
            r"|\s+(?!\S)|\s+"
        ),
    ];
}

impl NamedPreTokenizer {
    /// The pre-tokenizer behind a name in GGUF files; some share one.
    #[must_use]
    pub fn from_gguf_name(name: &str) -> Option<Self> {
        Some(match name {
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "gigachat" | "exaone4" | "trillion" => Self::Gpt2,
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" | "smaug-bpe" | "dbrx" => {
                Self::Llama3
            }
            "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "megrez" | "hunyuan" => Self::Qwen2,
            "qwen35" => Self::Qwen35,
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone"
            | "minerva-7b" => Self::SmolLm,
            "tekken" => Self::Tekken,
            "gpt-4o" | "llama4" => Self::Gpt4o,
            "deepseek-v3" => Self::DeepSeek3,
            _ => return None,
        })
    }
}

impl PreTokenizer {
    /// The named pre-tokenizer with exactly these expressions, or the expressions themselves.
    #[must_use]
    pub fn from_expressions(expressions: Vec<String>) -> Self {
        if expressions.is_empty() {
            return Self::None;
        }
        let known =
            NamedPreTokenizer::ALL.iter().find(|name| name.expressions().iter().eq(&expressions));
        known.map_or(Self::Expressions(expressions), |&name| Self::Named(name))
    }

    pub(super) fn check(&self) -> Result<(), TokenizerError> {
        let Self::Expressions(list) = self else {
            return Ok(());
        };
        check_limit("expressions", list.len(), limits::EXPRESSIONS_MAX)?;
        for expression in list {
            let length = expression.len();
            check_limit("expression bytes", length, limits::EXPRESSION_BYTES_MAX)?;
        }
        if Self::from_expressions(list.clone()) != *self {
            return Err(TokenizerError::Rule {
                field: "pre-tokenizer",
                rule: "known expressions are written as their name",
            });
        }
        Ok(())
    }

    /// Makes it ready for use.
    ///
    /// # Errors
    /// An expression that cannot be used.
    pub fn compile(&self) -> Result<Splitter, TokenizerError> {
        let steps = match self {
            Self::None => Vec::new(),
            Self::Named(name) => (name.expressions().iter().enumerate())
                .map(|(index, expression)| Step::compile(index, expression))
                .collect::<Result<_, _>>()?,
            Self::Expressions(list) => (list.iter().enumerate())
                .map(|(index, expression)| Step::compile(index, expression))
                .collect::<Result<_, _>>()?,
        };
        Ok(Splitter { steps })
    }
}

/// How often the expressions may look at a text of `text_bytes` bytes.
pub(super) const fn work_max(text_bytes: usize) -> usize {
    LOOKS_PER_BYTE.saturating_mul(text_bytes.saturating_add(64))
}

/// A compiled pre-tokenizer.
#[derive(Debug)]
pub struct Splitter {
    steps: Vec<Step>,
}

impl Splitter {
    /// The pieces of `text`, their bytes written by the stand-ins that vocabularies of byte pairs
    /// use: what is counted to make such a vocabulary.
    ///
    /// # Errors
    /// Expressions that look at the same text too often.
    pub fn byte_pieces(&self, text: &str) -> Result<Vec<String>, EncodeError> {
        let mut pieces = Vec::new();
        self.split(text, &mut work_max(text.len()), &mut |piece| {
            pieces.push(byte_alphabet::to_text(piece.as_bytes()));
            Ok(())
        })?;
        Ok(pieces)
    }

    /// Calls `each` with the pieces of `text`, in order; together they are the text.
    ///
    /// `work` is the number of bytes that may still be looked at; each look counts.
    pub(super) fn split(
        &self,
        text: &str,
        work: &mut usize,
        each: &mut impl FnMut(&str) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        split_by(&self.steps, text, work, each)
    }
}

fn split_by(
    steps: &[Step],
    text: &str,
    work: &mut usize,
    each: &mut impl FnMut(&str) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    if text.is_empty() {
        return Ok(());
    }
    let Some((step, rest)) = steps.split_first() else {
        return each(text);
    };
    let mut cache = step.caches.get();
    let (mut gap, mut at) = (0, 0);
    while let Some(character) = text[at..].chars().next() {
        match step.find(&mut cache, text, at, work)? {
            Some(end) => {
                split_by(rest, &text[gap..at], work, each)?;
                split_by(rest, &text[at..end], work, each)?;
                (gap, at) = (end, end);
            }
            None => at += character.len_utf8(),
        }
    }
    split_by(rest, &text[gap..], work, each)
}

type NewCache = Box<dyn Fn() -> Cache + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// One expression as a lazy automaton. Its searches are written out below so that they can be
/// metered: an expression from a file may look far ahead at each position, which is quadratic in
/// the text.
struct Step {
    dfa: DFA,
    /// Working memory, one per thread that searches.
    caches: Pool<Cache, NewCache>,
    /// Whether pattern 1 is the white space in front of the look-ahead.
    has_look_ahead: bool,
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Step")
    }
}

impl Step {
    fn compile(index: usize, expression: &str) -> Result<Self, TokenizerError> {
        let refuse = |reason: &str| TokenizerError::Expression { index, reason: shorten(reason) };
        let head = LOOK_AHEADS.iter().find_map(|tail| expression.strip_suffix(tail));
        let parsed = syntax::parse(head.unwrap_or(expression)).map_err(|error| {
            if ["(?!", "(?=", "(?<!", "(?<="].iter().any(|look| expression.contains(look)) {
                refuse(r"look-around is supported only as a final `\s+(?!\S)|\s+`")
            } else {
                refuse(&error.to_string())
            }
        })?;
        if parsed.properties().minimum_len().is_none_or(|length| length == 0) {
            return Err(refuse("must not match the empty text"));
        }
        let mut patterns = vec![parsed];
        if head.is_some() {
            patterns.push(syntax::parse(r"\s+").expect("a constant expression"));
        }
        let limit = limits::EXPRESSION_COMPILED_BYTES_MAX;
        let nfa = NFA::compiler()
            .configure(NFA::config().nfa_size_limit(Some(limit)))
            .build_many_from_hir(&patterns)
            .map_err(|error| refuse(&error.to_string()))?;
        let dfa = DFA::builder()
            .configure(DFA::config().skip_cache_capacity_check(true))
            .build_from_nfa(nfa)
            .map_err(|error| refuse(&error.to_string()))?;
        let for_caches = dfa.clone();
        Ok(Self {
            dfa,
            caches: Pool::new(Box::new(move || for_caches.create_cache())),
            has_look_ahead: head.is_some(),
        })
    }

    /// The end of the piece that begins at `from`, if the expression matches there.
    fn find(
        &self,
        cache: &mut Cache,
        text: &str,
        from: usize,
        work: &mut usize,
    ) -> Result<Option<usize>, EncodeError> {
        let bytes = text.as_bytes();
        let input = Input::new(text).range(from..).anchored(Anchored::Yes);
        let given_up = |_| EncodeError::Work;
        let mut state =
            self.dfa.start_state_forward(cache, &input).map_err(|_| EncodeError::Work)?;
        let mut found = None;
        // A match is known one byte after its end.
        for (at, &byte) in bytes.iter().enumerate().skip(from) {
            *work = work.checked_sub(1).ok_or(EncodeError::Work)?;
            state = self.dfa.next_state(cache, state, byte).map_err(given_up)?;
            if state.is_match() {
                found = Some((at, self.dfa.match_pattern(cache, state, 0)));
            } else if state.is_dead() || state.is_quit() {
                break;
            }
        }
        if !state.is_dead() && !state.is_quit() {
            state = self.dfa.next_eoi_state(cache, state).map_err(given_up)?;
            if state.is_match() {
                found = Some((bytes.len(), self.dfa.match_pattern(cache, state, 0)));
            }
        }
        Ok(found.map(|(end, pattern)| {
            let whitespace = self.has_look_ahead && pattern.as_usize() == 1;
            if !whitespace || end == bytes.len() {
                return end;
            }
            let last = text[from..end].chars().next_back();
            let shorter = end - last.map_or(0, char::len_utf8);
            if shorter > from { shorter } else { end }
        }))
    }
}

#[cfg(test)]
mod tests {
    use shoal_base::Digest;

    use super::*;

    fn pieces(splitter: &Splitter, text: &str) -> Vec<String> {
        let mut pieces = Vec::new();
        let mut work = usize::MAX;
        splitter
            .split(text, &mut work, &mut |piece| {
                pieces.push(piece.to_owned());
                Ok(())
            })
            .unwrap();
        assert_eq!(pieces.concat(), text);
        pieces
    }

    fn compile(expressions: &[&str]) -> Result<Splitter, TokenizerError> {
        let list = expressions.iter().map(|&text| text.to_owned()).collect();
        PreTokenizer::from_expressions(list).compile()
    }

    #[test]
    fn each_family_cuts_its_own_way() {
        use NamedPreTokenizer::*;
        let text = "It's 2024:  DON'T  stop\n\n  now\tÉté५६ //x";
        let cases: [(NamedPreTokenizer, &[&str]); 8] = [
            (
                Gpt2,
                &[
                    "It", "'s", " 2024", ":", " ", " DON", "'", "T", " ", " stop", "\n\n ", " now",
                    "\t", "Été", "५६", " //", "x",
                ],
            ),
            (
                Llama3,
                &[
                    "It", "'s", " ", "202", "4", ":", " ", " DON", "'T", " ", " stop", "\n\n", " ",
                    " now", "\tÉté", "५६", " //", "x",
                ],
            ),
            (
                Qwen2,
                &[
                    "It", "'s", " ", "2", "0", "2", "4", ":", " ", " DON", "'T", " ", " stop",
                    "\n\n", " ", " now", "\tÉté", "५", "६", " //", "x",
                ],
            ),
            (
                Qwen35,
                &[
                    "It", "'s", " ", "2", "0", "2", "4", ":", " ", " DON", "'T", " ", " stop",
                    "\n\n", " ", " now", "\tÉté", "५", "६", " //", "x",
                ],
            ),
            (
                SmolLm,
                &[
                    "It", "'s", " ", "2", "0", "2", "4", ":", " ", " DON", "'", "T", " ", " stop",
                    "\n\n ", " now", "\t", "Été", "५", "६", " //", "x",
                ],
            ),
            (
                Tekken,
                &[
                    "It", "'s", " ", "2", "0", "2", "4", ":", " ", " DON", "'T", " ", " stop",
                    "\n\n", " ", " now", "\tÉté", "५", "६", " //", "x",
                ],
            ),
            (
                Gpt4o,
                &[
                    "It's", " ", "202", "4", ":", " ", " DON'T", " ", " stop", "\n\n", " ", " now",
                    "\tÉté", "५६", " //", "x",
                ],
            ),
            (
                DeepSeek3,
                &[
                    "It", "'s", " ", "202", "4", ":", " ", " DON", "'T", " ", " stop", "\n\n", " ",
                    " now", "\tÉté", "५६", " //", "x",
                ],
            ),
        ];
        for (name, expected) in cases {
            let splitter = PreTokenizer::Named(name).compile().unwrap();
            assert_eq!(pieces(&splitter, text), expected, "{name:?}");
        }
    }

    #[test]
    fn what_no_expression_matches_is_a_piece_of_its_own() {
        let splitter = compile(&["[0-9]+", "b"]).unwrap();
        assert_eq!(pieces(&splitter, "abba12c"), ["a", "b", "b", "a", "12", "c"]);
        assert_eq!(pieces(&splitter, ""), [""; 0]);
    }

    #[test]
    fn character_classes_have_not_changed() {
        // Imported tokenizers stand on these; if an update of a library changed one, a package
        // would get other ids than before. The runs of a class in the text of all characters tell
        // it. These are those of Unicode 16.0.
        let all: String = ('\0'..=char::MAX).collect();
        let classes = [
            (r"\p{L}+", "68e589c7970380f4"),
            (r"\p{Lu}+", "29d9d98fd60f4bc1"),
            (r"\p{Ll}+", "293aeff2a75fcf85"),
            (r"\p{Lt}+", "efecbfa7324ccb31"),
            (r"\p{Lm}+", "3e7ae25c8173c1e0"),
            (r"\p{Lo}+", "a7781f14d19e3176"),
            (r"\p{M}+", "fd14f736dcf185b5"),
            (r"\p{N}+", "5cb2fc06dfae6ef6"),
            (r"\p{P}+", "d7abc628ecfe0a82"),
            (r"\p{S}+", "32fb300be1e8e73d"),
            (r"\s+", "0a2d899c227b1259"),
            ("(?i:s)+", "99757e5a41db31f2"),
        ];
        let mut changed = Vec::new();
        for (class, expected) in classes {
            let splitter = compile(&[class]).unwrap();
            let lengths = pieces(&splitter, &all).into_iter().map(|piece| piece.len() as u32);
            let bytes: Vec<u8> = lengths.flat_map(u32::to_le_bytes).collect();
            let digest = Digest::of(&bytes).to_string();
            if digest[..16] != *expected {
                changed.push(format!("{class} {}", &digest[..16]));
            }
        }
        assert_eq!(changed, [""; 0]);
    }

    #[test]
    fn look_ahead_leaves_one_character_of_white_space_to_the_text_after_it() {
        let splitter = compile(&[r"[a-z]+|\s+(?!\S)|\s+"]).unwrap();
        assert_eq!(pieces(&splitter, "a  b"), ["a", " ", " ", "b"]);
        assert_eq!(pieces(&splitter, "a b"), ["a", " ", "b"]);
        assert_eq!(pieces(&splitter, "a \u{3000}\n"), ["a", " \u{3000}\n"]);
        assert_eq!(pieces(&splitter, "\u{3000}\u{3000}b"), ["\u{3000}", "\u{3000}", "b"]);
    }

    #[test]
    fn expressions_that_cannot_be_used_are_refused_with_a_reason() {
        for (expression, reason) in [
            ("a*", "must not match the empty text"),
            ("a(?=b)", r"look-around is supported only as a final `\s+(?!\S)|\s+`"),
            (r"(?:\w{99}){999}", "exceeded limit"),
            (r"\bword\b", "word boundar"),
            ("(", "unclosed group"),
        ] {
            match compile(&["x", expression]) {
                Err(TokenizerError::Expression { index: 1, reason: got }) => {
                    assert!(got.contains(reason), "{expression}: {got}");
                }
                other => panic!("{expression}: {other:?}"),
            }
        }
    }

    #[test]
    fn an_expression_that_scans_ahead_again_and_again_is_stopped() {
        let splitter = compile(&["a[^b]*b|a"]).unwrap();
        let text = "a".repeat(1 << 20);
        let mut work = 64 * text.len();
        let result = splitter.split(&text, &mut work, &mut |_| Ok(()));
        assert_eq!(result, Err(EncodeError::Work));
    }

    #[test]
    fn named_families_look_at_each_byte_a_few_times_on_any_text() {
        let units = [
            "a", " ", "\n", " \n", "  a", "'", "1", "A", "aA", "Aa", "ª", "ªA", "/", "\u{301}",
            "一1",
        ];
        for &name in NamedPreTokenizer::ALL {
            let splitter = PreTokenizer::Named(name).compile().unwrap();
            for unit in units {
                let text = unit.repeat((1 << 16) / unit.len());
                let mut work = usize::MAX;
                splitter.split(&text, &mut work, &mut |_| Ok(())).unwrap();
                let looks = usize::MAX - work;
                assert!(looks < 8 * text.len(), "{name:?} {unit:?}: {looks} looks");
            }
        }
    }

    #[test]
    fn known_expressions_get_their_name() {
        for &name in NamedPreTokenizer::ALL {
            let list = name.expressions().iter().map(|&text| text.to_owned()).collect();
            assert_eq!(PreTokenizer::from_expressions(list), PreTokenizer::Named(name));
            assert_eq!(NamedPreTokenizer::from_number(name.number()), Some(name));
            assert_eq!(NamedPreTokenizer::from_gguf_name(name.gguf_name()), Some(name));
        }
        let spelled_out = PreTokenizer::Expressions(vec![GPT2.to_owned()]);
        assert!(spelled_out.check().is_err());
    }
}
