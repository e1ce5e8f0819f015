//! Cutting text into pieces that merges never cross.
//!
//! Each step is a regular expression; what it matches and what lies between matches become pieces, which
//! the next step cuts further. Expressions are run by the automata of `regex-automata`, which never go
//! back in the text. They have no look-ahead; the only one that published tokenizers use, `\s+(?!\S)`
//! followed by `\s+` at the end of an expression, means "a run of white space, without its last character
//! if text follows", and is done here by hand. Character classes are those of Unicode as `regex-syntax` has them;
//! a test pins their digest, so that an update cannot change results unseen.

use std::panic::{RefUnwindSafe, UnwindSafe};

use regex_automata::hybrid::dfa::{Cache, DFA};
use regex_automata::nfa::thompson::NFA;
use regex_automata::util::pool::Pool;
use regex_automata::util::syntax;
use regex_automata::{Anchored, Input};

use super::error::{EncodeError, TokenizerError, check_limit, shorten};
use super::limits;

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
        let known = NamedPreTokenizer::ALL
            .iter()
            .find(|name| name.expressions().iter().eq(&expressions));
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

    pub(super) fn compile(&self) -> Result<Splitter, TokenizerError> {
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

/// A compiled pre-tokenizer.
#[derive(Debug)]
pub(super) struct Splitter {
    steps: Vec<Step>,
}

impl Splitter {
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

/// One expression as a lazy automaton. Its searches are written out below so that they can be metered:
/// an expression from a file may look far ahead at each position, which is quadratic in the text.
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
        let refuse = |reason: &str| TokenizerError::Expression {
            index,
            reason: shorten(reason),
        };
        let head = LOOK_AHEADS
            .iter()
            .find_map(|tail| expression.strip_suffix(tail));
        let parsed = syntax::parse(head.unwrap_or(expression)).map_err(|error| {
            if ["(?!", "(?=", "(?<!", "(?<="]
                .iter()
                .any(|look| expression.contains(look))
            {
                refuse(r"look-around is supported only as a final `\s+(?!\S)|\s+`")
            } else {
                refuse(&error.to_string())
            }
        })?;
        if parsed
            .properties()
            .minimum_len()
            .is_none_or(|length| length == 0)
        {
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
        let mut state = self
            .dfa
            .start_state_forward(cache, &input)
            .map_err(|_| EncodeError::Work)?;
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
