//! The parts of `tokenizer.json` that exist in many kinds: normalizer, pre-tokenizer, decoder,
//! post-processor. Kinds and combinations that are not known to be done exactly are refused by
//! name.

use serde_json::Value;

use super::super::error::TokenizerError;
use super::super::pretokenizer::NamedPreTokenizer;
use super::super::spec::{Alphabet, Normalizer, SPACE_MARK_TEXT, SpacePrefix};

/// The type of a part; parts without one are refused under their own text.
fn kind(part: &Value) -> &str {
    part.get("type").and_then(Value::as_str).unwrap_or("without a type")
}

fn text<'a>(part: &'a Value, key: &str) -> Option<&'a str> {
    part.get(key).and_then(Value::as_str)
}

fn flag(part: &Value, key: &str, default: bool) -> bool {
    part.get(key).and_then(Value::as_bool).unwrap_or(default)
}

/// A part, or the parts of a sequence under `list`.
fn flatten<'a>(part: Option<&'a Value>, list: &str) -> Vec<&'a Value> {
    match part {
        None => Vec::new(),
        Some(part) if kind(part) == "Sequence" => {
            let items = part.get(list).and_then(Value::as_array);
            let items = items.map(Vec::as_slice).unwrap_or_default();
            items.iter().flat_map(|item| flatten(Some(item), list)).collect()
        }
        Some(part) => vec![part],
    }
}

fn is_replace(part: &Value, from: &str, to: &str) -> bool {
    let pattern = part.get("pattern").and_then(|pattern| text(pattern, "String"));
    kind(part) == "Replace" && pattern == Some(from) && text(part, "content") == Some(to)
}

/// What happens to text first. `metaspace` is what the pre-tokenizer says about spaces.
pub(super) fn read_normalizer(
    part: Option<&Value>,
    alphabet: Alphabet,
    metaspace: Option<SpacePrefix>,
) -> Result<Normalizer, TokenizerError> {
    let refuse = |name: &str| Err(TokenizerError::unsupported("normalizer", name));
    let mut parts = flatten(part, "normalizers").into_iter().peekable();
    let mut normalizer = Normalizer::default();
    if parts.next_if(|part| kind(part) == "NFC").is_some() {
        normalizer.nfc = true;
    }
    if alphabet == Alphabet::Characters {
        let prepend = |part: &&Value| {
            kind(part) == "Prepend" && text(part, "prepend") == Some(SPACE_MARK_TEXT)
        };
        let prefix = parts.next_if(prepend).is_some();
        let replace = |part: &&Value| is_replace(part, " ", SPACE_MARK_TEXT);
        let marks = parts.next_if(replace).is_some();
        normalizer.space_prefix = match (prefix, marks, metaspace) {
            (false, true, None) => SpacePrefix::Never,
            (true, true, None) => SpacePrefix::EachSegment,
            (false, false, Some(prefix)) => prefix,
            (false, false, None) => return refuse("that keeps spaces, without byte level"),
            _ => return refuse("with marks for spaces twice"),
        };
    }
    match parts.next() {
        Some(part) => refuse(kind(part)),
        None => Ok(normalizer),
    }
}

/// What the pre-tokenizer comes to.
pub(super) struct PreTokenizerParts {
    pub(super) expressions: Vec<String>,
    pub(super) byte_level: bool,
    /// It marks spaces, with this prefix.
    pub(super) metaspace: Option<SpacePrefix>,
}

impl PreTokenizerParts {
    pub(super) fn read(part: Option<&Value>) -> Result<Self, TokenizerError> {
        let refuse = |name: &str| Err(TokenizerError::unsupported("pre_tokenizer", name));
        let mut read = Self { expressions: Vec::new(), byte_level: false, metaspace: None };
        for part in flatten(part, "pretokenizers") {
            if read.byte_level || read.metaspace.is_some() {
                return refuse("after the last step");
            }
            match kind(part) {
                "Split" => read.expressions.push(split_expression(part)?),
                "Digits" if flag(part, "individual_digits", false) => {
                    read.expressions.push(r"\p{N}".to_owned());
                }
                "Digits" => read.expressions.push(r"\p{N}+".to_owned()),
                "ByteLevel" if flag(part, "add_prefix_space", true) => {
                    return refuse("ByteLevel with add_prefix_space");
                }
                "ByteLevel" => {
                    read.byte_level = true;
                    if flag(part, "use_regex", true) {
                        let gpt2 = NamedPreTokenizer::Gpt2.expressions();
                        read.expressions.extend(gpt2.iter().map(|&text| text.to_owned()));
                    }
                }
                "Metaspace" => read.metaspace = Some(metaspace_prefix(part)?),
                other => return refuse(other),
            }
        }
        if !read.byte_level && !read.expressions.is_empty() {
            return refuse("expressions without byte level");
        }
        Ok(read)
    }
}

fn metaspace_prefix(part: &Value) -> Result<SpacePrefix, TokenizerError> {
    let refuse = |name: &str| Err(TokenizerError::unsupported("pre_tokenizer", name));
    if text(part, "replacement") != Some(SPACE_MARK_TEXT) {
        return refuse("Metaspace with another mark");
    }
    if flag(part, "split", true) {
        return refuse("Metaspace with split");
    }
    match text(part, "prepend_scheme") {
        Some("first") => Ok(SpacePrefix::FirstSegmentUnlessSpace),
        Some("always") => Ok(SpacePrefix::EachSegmentUnlessSpace),
        Some("never") => Ok(SpacePrefix::Never),
        _ => refuse("Metaspace without prepend_scheme"),
    }
}

/// The expression of a `Split`, whose matches and what lies between them become pieces.
fn split_expression(part: &Value) -> Result<String, TokenizerError> {
    let refuse = |name: &str| Err(TokenizerError::unsupported("pre_tokenizer Split", name));
    let pattern = part.get("pattern");
    let regex = pattern.and_then(|pattern| text(pattern, "Regex"));
    let literal = pattern.and_then(|pattern| text(pattern, "String"));
    let expression = match (regex, literal) {
        (Some(regex), None) => regex.to_owned(),
        (None, Some(literal)) => escape(literal),
        _ => return refuse("without a pattern"),
    };
    let invert = flag(part, "invert", false);
    let known = NamedPreTokenizer::ALL
        .iter()
        .any(|name| name.expressions().last() == Some(&expression.as_str()));
    match text(part, "behavior") {
        Some("Isolated") if !invert => {}
        // Keeps matches and drops the rest; the same where the expression matches everything.
        Some("Removed") if invert && known => {}
        other => return refuse(other.unwrap_or("without behavior")),
    }
    check_dialect(&expression)?;
    Ok(expression)
}

/// Refuses what the dialect of these files reads otherwise than ours does: `^` and `$` at line
/// breaks, quantifiers that give nothing back.
fn check_dialect(expression: &str) -> Result<(), TokenizerError> {
    let refuse = |name: &str| Err(TokenizerError::unsupported("in an expression", name));
    let mut in_class = 0u32;
    let mut previous = None;
    let mut characters = expression.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                let class = matches!(characters.next(), Some('p' | 'P' | 'x'));
                if class && characters.as_str().starts_with('{') {
                    characters.find(|&character| character == '}');
                }
                previous = None;
                continue;
            }
            '[' => in_class += 1,
            ']' => in_class = in_class.saturating_sub(1),
            '^' | '$' if in_class == 0 => return refuse("^ or $"),
            '+' if in_class == 0 && matches!(previous, Some('+' | '*' | '?' | '}')) => {
                return refuse("possessive quantifier");
            }
            _ => {}
        }
        previous = Some(character);
    }
    Ok(())
}

fn escape(literal: &str) -> String {
    let mut escaped = String::with_capacity(literal.len());
    for character in literal.chars() {
        if character.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(character);
    }
    escaped
}

/// Refuses a decoder that does something else than undo the encoding.
pub(super) fn check_decoder(
    part: Option<&Value>,
    alphabet: Alphabet,
    normalizer: Normalizer,
) -> Result<(), TokenizerError> {
    let refuse = |name: &str| Err(TokenizerError::unsupported("decoder", name));
    let parts = flatten(part, "decoders");
    let kinds: Vec<&str> = parts.iter().map(|part| kind(part)).collect();
    let prefixed = normalizer.space_prefix != SpacePrefix::Never;
    match (alphabet, kinds.as_slice()) {
        (Alphabet::Bytes, ["ByteLevel"]) => Ok(()),
        (Alphabet::Characters, ["Replace", "ByteFallback", "Fuse", rest @ ..])
            if is_replace(parts[0], SPACE_MARK_TEXT, " ") =>
        {
            let one_space = |part: &Value| {
                text(part, "content") == Some(" ")
                    && part.get("start").and_then(Value::as_u64) == Some(1)
                    && part.get("stop").and_then(Value::as_u64) == Some(0)
            };
            match rest {
                [] if !prefixed => Ok(()),
                ["Strip"] if prefixed && one_space(parts[3]) => Ok(()),
                _ => refuse("that keeps or strips other spaces than were added"),
            }
        }
        (_, []) => refuse("without a type"),
        (_, [first, ..]) => refuse(first),
    }
}

/// The tokens put around a text.
#[derive(Default)]
pub(super) struct Frame {
    pub(super) before: Option<String>,
    pub(super) after: Option<String>,
}

impl Frame {
    pub(super) fn read(part: Option<&Value>) -> Result<Self, TokenizerError> {
        let refuse = |name: &str| Err(TokenizerError::unsupported("post_processor", name));
        let mut frame = Self::default();
        for part in flatten(part, "processors") {
            match kind(part) {
                // Only changes offsets.
                "ByteLevel" => {}
                "TemplateProcessing" => {
                    let items = part.get("single").and_then(Value::as_array);
                    let mut seen_text = false;
                    for item in items.map(Vec::as_slice).unwrap_or_default() {
                        if item.get("Sequence").is_some() && !seen_text {
                            seen_text = true;
                            continue;
                        }
                        let token = item.get("SpecialToken").and_then(|token| text(token, "id"));
                        let slot = if seen_text { &mut frame.after } else { &mut frame.before };
                        match token {
                            Some(token) if slot.is_none() => *slot = Some(token.to_owned()),
                            _ => return refuse("TemplateProcessing with several tokens"),
                        }
                    }
                }
                other => return refuse(other),
            }
        }
        Ok(frame)
    }
}
