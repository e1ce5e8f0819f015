//! Filters whose results can be much larger than what they are given, and those that differ from
//! Jinja2's.

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Rest, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::{refuse, text_of};
use crate::template::budget::Budget;
use crate::template::values::{JsonStyle, Writer};

/// Characters that `strip` and `trim` may be told to remove.
const STRIP_CHARACTERS_MAX: usize = 64;
/// Digits of a width or precision in a format.
const FORMAT_DIGITS_MAX: usize = 3;

pub(super) fn to_json(state: &mut State, value: Value, options: Kwargs) -> Result<Value, Error> {
    let indent = match options.get::<Option<Value>>("indent")? {
        None => None,
        Some(value) if value.is_none() => None,
        Some(value) => Some(match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(value.as_usize().unwrap_or(0).min(STRIP_CHARACTERS_MAX)),
        }),
    };
    let separators = options.get::<Option<Value>>("separators")?.filter(|value| !value.is_none());
    let (comma, colon) = match separators {
        Some(pair) => (pair.get_item_by_index(0)?, pair.get_item_by_index(1)?),
        None if indent.is_some() => (Value::from(","), Value::from(": ")),
        None => (Value::from(", "), Value::from(": ")),
    };
    let style = JsonStyle {
        indent,
        comma: comma.as_str().unwrap_or_default().to_owned(),
        colon: colon.as_str().unwrap_or_default().to_owned(),
        sort_keys: options.get::<Option<bool>>("sort_keys")?.unwrap_or(false),
        ensure_ascii: options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    options.assert_all_used()?;
    let mut writer = Writer { text: String::new(), budget: Budget::of(state) };
    writer.push_json(&value, &style, 0)?;
    Ok(Value::from(writer.text))
}

pub(super) fn join(
    state: &mut State,
    value: Value,
    separator: Option<String>,
    options: Kwargs,
) -> Result<Value, Error> {
    let separator = match options.get::<Option<String>>("d")? {
        Some(separator) => separator,
        None => separator.unwrap_or_default(),
    };
    let attribute = options.get::<Option<String>>("attribute")?;
    options.assert_all_used()?;
    join_items(state, &value, &separator, attribute.as_deref())
}

pub(super) fn join_items(
    state: &mut State,
    value: &Value,
    separator: &str,
    attribute: Option<&str>,
) -> Result<Value, Error> {
    let mut writer = Writer { text: String::new(), budget: Budget::of(state) };
    for (index, item) in value.try_iter()?.checked().enumerate() {
        if index > 0 {
            writer.push(separator)?;
        }
        let item = item?;
        match attribute {
            Some(attribute) => writer.push_str(&item.get_attr(attribute)?)?,
            None => writer.push_str(&item)?,
        }
    }
    Ok(Value::from(writer.text))
}

pub(super) fn replace(
    state: &mut State,
    text: Value,
    from: Value,
    to: Value,
    count: Option<usize>,
) -> Result<Value, Error> {
    let [text, from, to] = [text, from, to].map(|value| text_of(state, &value));
    let (text, from, to) = (text?, from?, to?);
    let count = count.unwrap_or(usize::MAX);
    let budget = Budget::of(state);
    budget.look(text.len())?;
    let found =
        if from.is_empty() { text.chars().count() + 1 } else { text.matches(&from).count() };
    budget.make(text.len() + found.min(count).saturating_mul(to.len()))?;
    Ok(Value::from(text.replacen(&from, &to, count)))
}

pub(super) fn indent(
    state: &mut State,
    text: Value,
    width: Option<Value>,
    first: Option<bool>,
    options: Kwargs,
) -> Result<Value, Error> {
    let width = options.get::<Option<Value>>("width")?.or(width);
    let first = options.get::<Option<bool>>("first")?.or(first).unwrap_or(false);
    let blank = options.get::<Option<bool>>("blank")?.unwrap_or(false);
    options.assert_all_used()?;
    let prefix = match width {
        None => "    ".to_owned(),
        Some(value) => match value.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(value.as_usize().unwrap_or(0).min(1 << 10)),
        },
    };
    let text = text_of(state, &text)?;
    let budget = Budget::of(state);
    budget.make((text.matches('\n').count() + 1).saturating_mul(prefix.len()))?;
    let mut indented = String::new();
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            indented.push('\n');
        }
        if (index > 0 || first) && (blank || index == 0 || !line.is_empty()) {
            indented.push_str(&prefix);
        }
        indented.push_str(line);
    }
    Ok(Value::from(indented))
}

pub(super) fn format_text(text: String, values: Rest<Value>) -> Result<Value, Error> {
    check_format(&text)?;
    format(FormatStyle::Printf, &text, &values).map(Value::from)
}

/// Refuses widths and precisions that would make a short format a long text.
pub(super) fn check_format(text: &str) -> Result<(), Error> {
    let digits = |part: &str| part.len() > FORMAT_DIGITS_MAX;
    let wide = text.split(|character: char| !character.is_ascii_digit()).any(digits);
    if wide || text.contains('*') {
        return Err(refuse("a format with a width of more than three digits"));
    }
    Ok(())
}

pub(super) fn trim(
    state: &mut State,
    text: Value,
    characters: Option<String>,
) -> Result<Value, Error> {
    let text = text_of(state, &text)?;
    let Some(characters) = characters else {
        return Ok(Value::from(text.trim()));
    };
    check_strip(&characters)?;
    let characters: Vec<char> = characters.chars().collect();
    Ok(Value::from(text.trim_matches(characters.as_slice())))
}

/// A whole number, or `default` for what is none.
pub(super) fn to_int(value: Value, default: Option<Value>) -> Value {
    let whole = |float: f64| (float.abs() < 1e18).then(|| Value::from(float.trunc() as i64));
    let number = match value.as_str().map(str::trim) {
        Some(text) => match text.parse::<i64>() {
            Ok(number) => Some(Value::from(number)),
            Err(_) => text.parse().ok().and_then(whole),
        },
        None if value.is_integer() => Some(value),
        None if value.kind() == ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        None => f64::try_from(value).ok().and_then(whole),
    };
    number.or(default).unwrap_or_else(|| Value::from(0))
}

/// A float, or `default` for what is none.
pub(super) fn to_float(value: Value, default: Option<Value>) -> Value {
    let number = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => f64::try_from(value).ok(),
    };
    number.map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0))
}

pub(super) fn length(value: Value) -> Result<Value, Error> {
    if value.is_undefined() {
        return Ok(Value::from(0));
    }
    let count = match value.as_str() {
        Some(text) => Some(text.chars().count()),
        None => value.len(),
    };
    count.map(Value::from).ok_or_else(|| {
        let words = format!("a {} has no length", value.kind());
        Error::new(ErrorKind::InvalidOperation, words)
    })
}

pub(super) fn check_strip(characters: &str) -> Result<(), Error> {
    if characters.len() > STRIP_CHARACTERS_MAX {
        return Err(refuse("too many characters to strip"));
    }
    Ok(())
}
