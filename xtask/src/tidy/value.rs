//! The value of a constant expression, as far as tables of a specification need it.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A value that can be compared between a table and the code.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Float(f64),
    Integer(i128),
    List(Vec<Value>),
    /// A string, byte string or character, as written.
    Text(String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::List(values) => {
                let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", values.join(", "))
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Constants by name, each with its expression, for those that refer to one another.
pub(super) type Scope = BTreeMap<String, TokenStream>;

/// Constants that refer to constants, at most this deep; a cycle ends here.
const DEPTH_MAX: usize = 16;

/// Evaluates `tokens`; `None` when the expression is beyond this small language: literals, lists,
/// names, casts (ignored), `+ - * / % << >> | &`, parentheses, `T::MAX`, `f32::from_bits`.
pub(super) fn evaluate(tokens: TokenStream, scope: &Scope) -> Option<Value> {
    evaluate_at(tokens, scope, 0)
}

fn evaluate_at(tokens: TokenStream, scope: &Scope, depth: usize) -> Option<Value> {
    if depth > DEPTH_MAX {
        return None;
    }
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut parser = Parser { tokens: &tokens, scope, depth };
    let value = parser.expression(0)?;
    parser.tokens.is_empty().then_some(value)
}

struct Parser<'a> {
    tokens: &'a [TokenTree],
    scope: &'a Scope,
    depth: usize,
}

/// Binary operators with how tightly they bind.
const OPERATORS: [(&str, u8); 9] =
    [("<<", 3), (">>", 3), ("|", 1), ("&", 2), ("+", 4), ("-", 4), ("*", 5), ("/", 5), ("%", 5)];

impl Parser<'_> {
    fn expression(&mut self, binding_min: u8) -> Option<Value> {
        let mut left = self.operand()?;
        while let Some((operator, binding)) = self.operator() {
            if binding <= binding_min {
                break;
            }
            self.skip(operator.len());
            let right = self.expression(binding)?;
            left = apply(operator, left, right)?;
        }
        Some(left)
    }

    fn operator(&self) -> Option<(&'static str, u8)> {
        OPERATORS.into_iter().find(|(text, _)| self.starts_with(text))
    }

    fn starts_with(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(index, character)| match self.tokens.get(index) {
            Some(TokenTree::Punct(punct)) => punct.as_char() == character,
            _ => false,
        })
    }

    fn skip(&mut self, count: usize) {
        self.tokens = &self.tokens[count..];
    }

    fn next(&mut self) -> Option<TokenTree> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first.clone())
    }

    fn operand(&mut self) -> Option<Value> {
        if self.starts_with("-") {
            self.skip(1);
            return match self.operand()? {
                Value::Float(value) => Some(Value::Float(-value)),
                Value::Integer(value) => Some(Value::Integer(-value)),
                _ => None,
            };
        }
        if self.starts_with("&") {
            self.skip(1);
        }
        let value = match self.next()? {
            TokenTree::Literal(literal) => literal_value(&literal.to_string())?,
            TokenTree::Ident(word) => self.named(&word.to_string())?,
            TokenTree::Group(group) => match group.delimiter() {
                Delimiter::Parenthesis | Delimiter::None => self.inner(group.stream())?,
                Delimiter::Bracket => self.list(group.stream())?,
                Delimiter::Brace => return None,
            },
            TokenTree::Punct(_) => return None,
        };
        self.skip_casts();
        Some(value)
    }

    fn inner(&self, tokens: TokenStream) -> Option<Value> {
        evaluate_at(tokens, self.scope, self.depth + 1)
    }

    fn list(&self, tokens: TokenStream) -> Option<Value> {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let is_comma =
            |token: &TokenTree| matches!(token, TokenTree::Punct(p) if p.as_char() == ',');
        let elements = tokens.split(is_comma).filter(|element| !element.is_empty());
        let values = elements.map(|element| self.inner(element.iter().cloned().collect()));
        values.collect::<Option<Vec<_>>>().map(Value::List)
    }

    /// `true`, a constant, `Self::NAME`, `u8::MAX`, `f32::from_bits(0x…)`.
    fn named(&mut self, word: &str) -> Option<Value> {
        if !self.starts_with("::") {
            return match word {
                "true" => Some(Value::Bool(true)),
                "false" => Some(Value::Bool(false)),
                name => self.inner(self.scope.get(name)?.clone()),
            };
        }
        self.skip(2);
        let TokenTree::Ident(member) = self.next()? else {
            return None;
        };
        let member = member.to_string();
        if member == "from_bits" {
            let TokenTree::Group(group) = self.next()? else {
                return None;
            };
            return from_bits(word, &self.inner(group.stream())?);
        }
        if let Some(value) = extreme(word, &member) {
            return Some(Value::Integer(value));
        }
        let qualified = format!("{word}::{member}");
        let tokens = self.scope.get(&qualified).or_else(|| self.scope.get(&member))?;
        self.inner(tokens.clone())
    }

    fn skip_casts(&mut self) {
        while let [TokenTree::Ident(word), TokenTree::Ident(_), rest @ ..] = self.tokens {
            if word != "as" {
                break;
            }
            self.tokens = rest;
        }
    }
}

fn from_bits(kind: &str, bits: &Value) -> Option<Value> {
    let Value::Integer(bits) = *bits else {
        return None;
    };
    match kind {
        "f32" => Some(Value::Float(f64::from(f32::from_bits(u32::try_from(bits).ok()?)))),
        "f64" => Some(Value::Float(f64::from_bits(u64::try_from(bits).ok()?))),
        _ => None,
    }
}

/// `MAX` or `MIN` of an integer type of at most 64 bits.
fn extreme(kind: &str, member: &str) -> Option<i128> {
    let (is_signed, width) = match kind.split_at_checked(1)? {
        ("i", width) => (true, width),
        ("u", width) => (false, width),
        _ => return None,
    };
    let width = if width == "size" { 64 } else { width.parse::<u32>().ok()? };
    if !matches!(width, 8 | 16 | 32 | 64) {
        return None;
    }
    match (member, is_signed) {
        ("MAX", true) => Some((1 << (width - 1)) - 1),
        ("MIN", true) => Some(-(1 << (width - 1))),
        ("MAX", false) => Some((1 << width) - 1),
        ("MIN", false) => Some(0),
        _ => None,
    }
}

fn apply(operator: &str, left: Value, right: Value) -> Option<Value> {
    match (left, right) {
        (Value::Integer(a), Value::Integer(b)) => {
            let shift = || u32::try_from(b).ok();
            Some(Value::Integer(match operator {
                "<<" => a.checked_mul(2_i128.checked_pow(shift()?)?)?,
                ">>" => a.checked_shr(shift()?)?,
                "|" => a | b,
                "&" => a & b,
                "+" => a.checked_add(b)?,
                "-" => a.checked_sub(b)?,
                "*" => a.checked_mul(b)?,
                "/" => a.checked_div(b)?,
                _ => a.checked_rem(b)?,
            }))
        }
        (Value::Float(a), Value::Float(b)) => Some(Value::Float(match operator {
            "+" => a + b,
            "-" => a - b,
            "*" => a * b,
            "/" => a / b,
            _ => return None,
        })),
        _ => None,
    }
}

/// A literal as written, with prefix, underscores and suffix.
fn literal_value(text: &str) -> Option<Value> {
    if !text.starts_with(|character: char| character.is_ascii_digit()) {
        return Some(Value::Text(text.to_owned()));
    }
    let digits = text.replace('_', "");
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = digits.strip_prefix(prefix) {
            let digits = without_suffix(digits, radix == 16);
            return i128::from_str_radix(digits, radix).ok().map(Value::Integer);
        }
    }
    let digits = without_suffix(&digits, false);
    let is_float = digits.contains(['.', 'e', 'E']) || text.contains('f');
    if is_float {
        return digits.parse().ok().map(Value::Float);
    }
    digits.parse().ok().map(Value::Integer)
}

fn without_suffix(digits: &str, is_hex: bool) -> &str {
    let suffixes =
        ["u8", "u16", "u32", "u64", "u128", "usize", "i8", "i16", "i32", "i64", "i128", "isize"];
    // `f32` and `f64` are digits in hex.
    let floats: &[&str] = if is_hex { &[] } else { &["f32", "f64"] };
    let mut all = suffixes.iter().chain(floats);
    all.find_map(|suffix| digits.strip_suffix(*suffix)).unwrap_or(digits)
}

#[cfg(test)]
mod tests {
    use super::{Scope, Value, evaluate};

    fn value(text: &str) -> Option<Value> {
        let mut scope = Scope::new();
        for (name, expression) in [("BLOCK", "32"), ("Limits::WIDTH", "7"), ("LOOP", "LOOP + 1")] {
            scope.insert(name.to_owned(), expression.parse().expect("tokens"));
        }
        evaluate(text.parse().expect("tokens"), &scope)
    }

    #[test]
    fn integers() {
        for (text, expected) in [
            ("1 << 20", 1 << 20),
            ("0x7f_u8", 127),
            ("0xf32", 0xf32),
            ("1_000", 1000),
            ("-(3 + 4) * 2", -14),
            ("2 + 3 * 4 - 1", 13),
            ("10 - 3 - 2", 5),
            ("(BLOCK as u64) * 8", 256),
            ("Limits::WIDTH % 4 | 8", 11),
            ("u16::MAX as usize / 2", 32767),
            ("i8::MIN", -128),
            ("0b101 & 4", 4),
        ] {
            assert_eq!(value(text), Some(Value::Integer(expected)), "{text}");
        }
    }

    #[test]
    fn other_values() {
        assert_eq!(value("1e-5f32"), Some(Value::Float(1e-5)));
        assert_eq!(value("-1.0 / 4.0"), Some(Value::Float(-0.25)));
        assert_eq!(value("2f32"), Some(Value::Float(2.0)));
        assert_eq!(value("f32::from_bits(0x3f80_0000)"), Some(Value::Float(1.0)));
        assert_eq!(value("\"shoal/tile/v1\""), Some(Value::Text("\"shoal/tile/v1\"".to_owned())));
        assert_eq!(value("true"), Some(Value::Bool(true)));
        let list = [Value::Integer(1), Value::Integer(4)];
        assert_eq!(value("&[1, 2 + 2,]"), Some(Value::List(list.to_vec())));
    }

    #[test]
    fn what_is_beyond_the_language_has_no_value() {
        for text in ["f(1)", "{ 1 }", "UNKNOWN", "1 +", "LOOP", "1 / 0", "1 << 200", "1 + 1.0", ""]
        {
            assert_eq!(value(text), None, "{text}");
        }
    }
}
