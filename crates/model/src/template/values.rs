//! Values as Python writes them: templates are written for Jinja2, where `{{ x }}` is `str(x)` and
//! `tojson` is `json.dumps`.

use minijinja::value::ValueKind;
use minijinja::{Error, ErrorKind, Value};

use super::budget::{Budget, DEPTH_MAX, LimitReached};

/// Writes text and counts it.
pub(super) struct Writer<'a> {
    pub(super) text: String,
    pub(super) budget: &'a mut Budget,
}

impl Writer<'_> {
    pub(super) fn push(&mut self, part: &str) -> Result<(), Error> {
        self.budget.make(part.len())?;
        self.text.push_str(part);
        Ok(())
    }

    /// `str(value)`
    pub(super) fn push_str(&mut self, value: &Value) -> Result<(), Error> {
        match value.as_str() {
            Some(text) => self.push(text),
            None if value.is_undefined() => Ok(()),
            None => self.push_repr(value, 0),
        }
    }

    /// `repr(value)`
    fn push_repr(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        check_depth(depth)?;
        if let Some(text) = value.as_str() {
            return self.push_quoted(text);
        }
        match value.kind() {
            ValueKind::Undefined => self.push("Undefined"),
            ValueKind::None => self.push("None"),
            ValueKind::Bool => self.push(if value.is_true() { "True" } else { "False" }),
            ValueKind::Number => self.push(&number(value)),
            ValueKind::Seq | ValueKind::Iterable => {
                let tuple = value.is_tuple();
                self.push(if tuple { "(" } else { "[" })?;
                let mut count = 0;
                for item in value.try_iter()?.checked() {
                    if count > 0 {
                        self.push(", ")?;
                    }
                    self.push_repr(&item?, depth + 1)?;
                    count += 1;
                }
                self.push(match (tuple, count) {
                    (true, 1) => ",)",
                    (true, _) => ")",
                    (false, _) => "]",
                })
            }
            ValueKind::Map => {
                self.push("{")?;
                for (index, key) in value.try_iter()?.checked().enumerate() {
                    if index > 0 {
                        self.push(", ")?;
                    }
                    let key = key?;
                    self.push_repr(&key, depth + 1)?;
                    self.push(": ")?;
                    self.push_repr(&value.get_item(&key)?, depth + 1)?;
                }
                self.push("}")
            }
            _ => Err(not_text(value)),
        }
    }

    fn push_quoted(&mut self, text: &str) -> Result<(), Error> {
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        let escape = |character: char| {
            let code = character as u32;
            Some(match character {
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                '\t' => "\\t".to_owned(),
                _ if character == quote => format!("\\{quote}"),
                ' '..='~' => return None,
                _ if !is_unprintable(character) => return None,
                _ if code < 0x100 => format!("\\x{code:02x}"),
                _ if code < 0x1_0000 => format!("\\u{code:04x}"),
                _ => format!("\\U{code:08x}"),
            })
        };
        self.push(&quoted(text, quote, escape))
    }

    /// `json.dumps(value)`
    pub(super) fn push_json(
        &mut self,
        value: &Value,
        style: &JsonStyle,
        depth: usize,
    ) -> Result<(), Error> {
        check_depth(depth)?;
        if let Some(text) = value.as_str() {
            return self.push_json_text(text, style.ensure_ascii);
        }
        match value.kind() {
            ValueKind::None => self.push("null"),
            ValueKind::Bool => self.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.push(&number(value)),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                self.push_json_items('[', ']', style, depth, items.iter(), |writer, item| {
                    writer.push_json(item, style, depth + 1)
                })
            }
            ValueKind::Map => {
                let mut keys = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
                if style.sort_keys {
                    keys.sort();
                }
                self.push_json_items('{', '}', style, depth, keys.iter(), |writer, key| {
                    match key.as_str() {
                        Some(text) => writer.push_json_text(text, style.ensure_ascii)?,
                        None => {
                            writer.push("\"")?;
                            writer.push_json(key, style, depth + 1)?;
                            writer.push("\"")?;
                        }
                    }
                    writer.push(&style.colon)?;
                    writer.push_json(&value.get_item(key)?, style, depth + 1)
                })
            }
            _ => Err(not_text(value)),
        }
    }

    fn push_json_items<'v>(
        &mut self,
        open: char,
        close: char,
        style: &JsonStyle,
        depth: usize,
        items: impl ExactSizeIterator<Item = &'v Value>,
        mut each: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let empty = items.len() == 0;
        self.push(open.encode_utf8(&mut [0; 4]))?;
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.push(&style.comma)?;
            }
            self.push_line(style, depth + 1)?;
            each(self, item)?;
        }
        if !empty {
            self.push_line(style, depth)?;
        }
        self.push(close.encode_utf8(&mut [0; 4]))
    }

    fn push_line(&mut self, style: &JsonStyle, depth: usize) -> Result<(), Error> {
        let Some(indent) = &style.indent else {
            return Ok(());
        };
        self.push("\n")?;
        (0..depth).try_for_each(|_| self.push(indent))
    }

    fn push_json_text(&mut self, text: &str, ensure_ascii: bool) -> Result<(), Error> {
        let escape = |character: char| {
            Some(match character {
                '"' => "\\\"".to_owned(),
                '\\' => "\\\\".to_owned(),
                '\n' => "\\n".to_owned(),
                '\r' => "\\r".to_owned(),
                '\t' => "\\t".to_owned(),
                '\u{8}' => "\\b".to_owned(),
                '\u{c}' => "\\f".to_owned(),
                '\0'..='\u{1f}' => format!("\\u{:04x}", character as u32),
                '\u{7f}'.. if ensure_ascii => {
                    let mut units = [0; 2];
                    let units = character.encode_utf16(&mut units).iter();
                    units.map(|unit| format!("\\u{unit:04x}")).collect()
                }
                _ => return None,
            })
        };
        self.push(&quoted(text, '"', escape))
    }
}

/// `text` between quotes, with the characters replaced for which `escape` has something.
fn quoted(text: &str, quote: char, escape: impl Fn(char) -> Option<String>) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    let mut kept = 0;
    for (at, character) in text.char_indices() {
        if let Some(escaped) = escape(character) {
            quoted.push_str(&text[kept..at]);
            quoted.push_str(&escaped);
            kept = at + character.len_utf8();
        }
    }
    quoted.push_str(&text[kept..]);
    quoted.push(quote);
    quoted
}

/// The arguments of `json.dumps`.
pub(super) struct JsonStyle {
    pub(super) indent: Option<String>,
    pub(super) comma: String,
    pub(super) colon: String,
    pub(super) sort_keys: bool,
    pub(super) ensure_ascii: bool,
}

fn check_depth(depth: usize) -> Result<(), LimitReached> {
    let what = "lists in lists";
    if depth > DEPTH_MAX {
        return Err(LimitReached { what });
    }
    Ok(())
}

fn not_text(value: &Value) -> Error {
    let kind = value.kind();
    Error::new(ErrorKind::InvalidOperation, format!("a {kind} has no text"))
}

/// A number as Python writes it.
fn number(value: &Value) -> String {
    match f64::try_from(value.clone()) {
        Ok(float) if !value.is_integer() => python_float(float),
        _ => value.to_string(),
    }
}

/// `repr(float)`: the shortest digits that read back as the same number.
fn python_float(float: f64) -> String {
    if float.is_nan() {
        return "nan".to_owned();
    }
    if float.is_infinite() {
        return if float > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let shortest = format!("{:e}", float.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = mantissa.replace('.', "");
    let sign = if float.is_sign_negative() { "-" } else { "" };
    let point = (exponent + 1).max(0) as usize;
    let text = if !(-4..16).contains(&exponent) {
        let point = if mantissa.contains('.') { mantissa.to_owned() } else { digits };
        let exponent_sign = if exponent < 0 { '-' } else { '+' };
        format!("{point}e{exponent_sign}{:02}", exponent.abs())
    } else if exponent < 0 {
        format!("0.{}{digits}", "0".repeat((-exponent - 1) as usize))
    } else if digits.len() <= point {
        format!("{digits}{}.0", "0".repeat(point - digits.len()))
    } else {
        format!("{}.{}", &digits[..point], &digits[point..])
    };
    format!("{sign}{text}")
}

/// Whether `repr` of a text writes a character as an escape: control, format and private
/// characters, separators other than the space.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || (character.is_whitespace() && character != ' ')
        || matches!(
            character,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{8e2}'
                | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{e000}'..='\u{f8ff}' | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (float, text) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.1, "0.1"),
            (-12.5, "-12.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (123_456_789_012_345_680.0, "1.2345678901234568e+17"),
            (1e22, "1e+22"),
            (1e100, "1e+100"),
            (0.0001, "0.0001"),
            (0.00012, "0.00012"),
            (0.00001, "1e-05"),
            (1e-7, "1e-07"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
        ] {
            assert_eq!(python_float(float), text);
        }
    }
}
