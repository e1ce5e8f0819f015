//! The functions, filters and methods of chat templates: the guards of [`super::guard`], what
//! Transformers adds to Jinja2, and those of the engine whose results can be much larger than what
//! they are given.

use std::borrow::Cow;
use std::sync::Arc;

use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, Tuple, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;

use super::budget::{Budget, DEPTH_MAX, ELEMENT_BYTES, LimitReached};
use super::date::TemplateDate;
use super::guard;
use super::values::{JsonStyle, Writer};

/// Characters that `strip` and `trim` may be told to remove.
const STRIP_CHARACTERS_MAX: usize = 64;
/// Digits of a width or precision in a format.
const FORMAT_DIGITS_MAX: usize = 3;

/// Words of `raise_exception`, inside the engine's error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Raised {
    pub(super) message: String,
}

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_formatter(print);
    environment.set_unknown_method_callback(method);
    environment.add_function(guard::ADD, add);
    environment.add_function(guard::CONCAT, concat);
    environment.add_function(guard::MULTIPLY, multiply);
    environment.add_function(guard::REMAINDER, remainder);
    environment.add_function(guard::MADE, made);
    environment.add_function(guard::LOOK, look);
    environment.add_function(guard::WALK, walk);
    environment.add_function(guard::STORE, walk);
    environment.add_function(guard::SLICE, slice);
    environment.add_function(guard::ITERATE, iterate);
    environment.add_function(guard::ATTRIBUTE, attribute);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", to_json);
    environment
        .add_filter("string", |state: &mut State, value: Value| concat(state, Rest(vec![value])));
    environment.add_filter("join", join);
    environment.add_filter("replace", replace);
    environment.add_filter("indent", indent);
    environment.add_filter("format", format_text);
    environment.add_filter("trim", trim);
    environment.add_filter("int", to_int);
    environment.add_filter("float", to_float);
    environment.add_filter("length", length);
    environment.add_filter("count", length);
    environment.add_test("iterable", is_iterable);
    environment.add_test("sequence", is_sequence);
    environment
        .add_test("number", |value: Value| value.is_number() || value.kind() == ValueKind::Bool);
    // These nest lists, or make lists of any length, and chat templates do not use them.
    for name in ["batch", "slice", "groupby", "zip", "chain", "pprint"] {
        environment.remove_filter(name);
    }
    environment.remove_global("debug");
}

/// `strftime_now` for one rendering.
pub(super) fn strftime_now(date: TemplateDate) -> Value {
    Value::from_function(move |format: &str| {
        date.format(format).ok_or_else(|| refuse("unknown directive in a date format"))
    })
}

fn refuse(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, words)
}

fn print(output: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    let text = text_of(state, value)?;
    output.write_str(&text).map_err(|_| LimitReached { what: "length of the text" })?;
    Ok(())
}

/// `str(value)`
fn text_of(state: &mut State, value: &Value) -> Result<String, Error> {
    let mut writer = Writer { text: String::new(), budget: Budget::of(state) };
    writer.push_str(value)?;
    Ok(writer.text)
}

fn raise_exception(message: String) -> Result<Value, Error> {
    let error = Error::new(ErrorKind::InvalidOperation, "raise_exception");
    Err(error.with_source(Raised { message }))
}

/// `a + b + …`. A text marked as safe escapes those it is added to, as in Jinja2.
fn add(state: &mut State, values: Rest<Value>) -> Result<Value, Error> {
    let mut values = values.0.into_iter();
    let mut sum = values.next().unwrap_or_default();
    // Texts are put together once, not once per sign.
    let mut text: Option<(String, bool)> = None;
    for value in values {
        if sum.as_str().is_none() {
            sum = add_two(state, &sum, &value)?;
            continue;
        }
        let Some(right) = value.as_str() else {
            let kind = value.kind();
            let words = format!("can only concatenate a string to a string, not {kind}");
            return Err(Error::new(ErrorKind::InvalidOperation, words));
        };
        let first = || (sum.as_str().unwrap_or_default().to_owned(), sum.is_safe());
        let (text, safe) = text.get_or_insert_with(first);
        if value.is_safe() && !*safe {
            *text = escape(text);
            *safe = true;
        }
        let right = if *safe && !value.is_safe() {
            Cow::Owned(escape(right))
        } else {
            Cow::Borrowed(right)
        };
        Budget::of(state).make(right.len())?;
        text.push_str(&right);
    }
    Ok(match text {
        Some((text, true)) => Value::from_safe_string(text),
        Some((text, false)) => Value::from(text),
        None => sum,
    })
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\'' => escaped.push_str("&#39;"),
            '"' => escaped.push_str("&#34;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

fn add_two(state: &mut State, left: &Value, right: &Value) -> Result<Value, Error> {
    let list = |value: &Value| matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable);
    if list(left) && list(right) && left.is_tuple() == right.is_tuple() {
        let mut items = Vec::new();
        for item in left.try_iter()?.checked().chain(right.try_iter()?.checked()) {
            Budget::of(state).make(ELEMENT_BYTES)?;
            items.push(item?);
        }
        return Ok(Value::from(items));
    }
    arithmetic(left, right, "+", i128::checked_add, |left, right| left + right)
}

/// Numbers as Python computes with them; booleans count as 0 and 1.
fn arithmetic(
    left: &Value,
    right: &Value,
    sign: &str,
    integers: impl Fn(i128, i128) -> Option<i128>,
    floats: impl Fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    let number = |value: &Value| value.is_number() || value.kind() == ValueKind::Bool;
    if !number(left) || !number(right) {
        let (left, right) = (left.kind(), right.kind());
        let words = format!("{left} {sign} {right} has no meaning");
        return Err(Error::new(ErrorKind::InvalidOperation, words));
    }
    if let (Ok(left), Ok(right)) = (i128::try_from(left.clone()), i128::try_from(right.clone()))
        && let Some(result) = integers(left, right)
    {
        return Ok(i64::try_from(result).map_or_else(|_| Value::from(result), Value::from));
    }
    match (f64::try_from(left.clone()), f64::try_from(right.clone())) {
        (Ok(left), Ok(right)) => Ok(Value::from(floats(left, right))),
        _ => Err(refuse("number out of range")),
    }
}

/// `a ~ b ~ …`
fn concat(state: &mut State, values: Rest<Value>) -> Result<Value, Error> {
    let mut writer = Writer { text: String::new(), budget: Budget::of(state) };
    values.iter().try_for_each(|value| writer.push_str(value))?;
    Ok(Value::from(writer.text))
}

/// `a * b`
fn multiply(state: &mut State, left: Value, right: Value) -> Result<Value, Error> {
    let repeated = |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Iterable)
    };
    let (unit, count) = match (repeated(&left), repeated(&right)) {
        (true, _) => (left, right),
        (false, true) => (right, left),
        (false, false) => {
            return arithmetic(&left, &right, "*", i128::checked_mul, |left, right| left * right);
        }
    };
    if !count.is_integer() {
        return Err(refuse("repeated by something that is not a whole number"));
    }
    // A negative number repeats nothing.
    let count = count.as_usize().unwrap_or(0);
    let bytes = size(&unit).saturating_mul(count);
    Budget::of(state).make(bytes)?;
    if let Some(text) = unit.as_str() {
        return Ok(Value::from(text.repeat(count)));
    }
    let items = unit.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
    let repeated = items.iter().cycle().take(items.len() * count).cloned();
    Ok(Value::from(repeated.collect::<Vec<_>>()))
}

/// `a % b`; not the formatting of texts, whose results have any size.
fn remainder(left: Value, right: Value) -> Result<Value, Error> {
    if left.as_str().is_some() {
        return Err(refuse("formatting with % is not supported, use the filter `format`"));
    }
    if f64::try_from(right.clone()).is_ok_and(|right| right == 0.0) {
        return Err(refuse("remainder of a division by zero"));
    }
    let floor = |left: i128, right: i128| {
        let rest = left.checked_rem(right)?;
        let other_side = rest != 0 && (rest < 0) != (right < 0);
        Some(if other_side { rest + right } else { rest })
    };
    arithmetic(&left, &right, "%", floor, |left, right| left - right * (left / right).floor())
}

/// `a[start:stop:step]`; the engine's own panics on an empty list with a negative step.
fn slice(
    state: &mut State,
    value: Value,
    start: Option<i64>,
    stop: Option<i64>,
    step: Option<i64>,
) -> Result<Value, Error> {
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(refuse("a slice with step 0"));
    }
    Budget::of(state).look(size(&value))?;
    if let Some(text) = value.as_str() {
        let characters: Vec<char> = text.chars().collect();
        let picked = positions(characters.len(), start, stop, step);
        let sliced: String = picked.map(|at| characters[at]).collect();
        Budget::of(state).make(sliced.len())?;
        return Ok(Value::from(sliced));
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        let words = format!("a {} cannot be sliced", value.kind());
        return Err(Error::new(ErrorKind::InvalidOperation, words));
    }
    let items = value.try_iter()?.checked().collect::<Result<Vec<_>, _>>()?;
    let picked = positions(items.len(), start, stop, step);
    let sliced: Vec<Value> = picked.map(|at| items[at].clone()).collect();
    Budget::of(state).make(sliced.len() * ELEMENT_BYTES)?;
    Ok(if value.is_tuple() { Value::from(Tuple::from(sliced)) } else { Value::from(sliced) })
}

/// The positions that a slice of `count` elements picks, by Python's rules.
fn positions(
    count: usize,
    start: Option<i64>,
    stop: Option<i64>,
    step: i64,
) -> impl Iterator<Item = usize> {
    let count = count as i64;
    // A negative step goes down to -1, which is before the first.
    let (low, high) = if step > 0 { (0, count) } else { (-1, count - 1) };
    let place = |bound: Option<i64>, default: i64| match bound {
        None => default,
        Some(bound) if bound < 0 => bound.saturating_add(count).clamp(low, high),
        Some(bound) => bound.clamp(low, high),
    };
    let (start, stop) = if step > 0 {
        (place(start, low), place(stop, high))
    } else {
        (place(start, high), place(stop, low))
    };
    let inside = move |at: &i64| if step > 0 { *at < stop } else { *at > stop };
    std::iter::successors(Some(start), move |at| at.checked_add(step))
        .take_while(inside)
        .map(|at| at as usize)
}

/// Bytes of a text, or of the elements of a list or map.
fn size(value: &Value) -> usize {
    match value.as_str() {
        Some(text) => text.len(),
        None => value.len().unwrap_or(0).saturating_mul(ELEMENT_BYTES),
    }
}

/// A result; of a list that the engine would make on the way, the list itself: such lists can stand
/// on one another without end, and going over them goes down the stack.
fn made(state: &mut State, value: Value) -> Result<Value, Error> {
    let budget = Budget::of(state);
    if value.kind() != ValueKind::Iterable {
        budget.make(size(&value))?;
        return Ok(value);
    }
    let mut items = Vec::new();
    for item in value.try_iter()?.checked() {
        budget.make(ELEMENT_BYTES)?;
        items.push(item?);
    }
    Ok(Value::from(items))
}

fn look(state: &mut State, value: Value) -> Result<Value, Error> {
    Budget::of(state).look(size(&value))?;
    Ok(value)
}

/// Counts a value with all that is in it. Refuses what is nested too deep, and what could be put
/// into itself.
fn walk(state: &mut State, value: Value) -> Result<Value, Error> {
    count(Budget::of(state), &value, 0)?;
    Ok(value)
}

fn count(budget: &mut Budget, value: &Value, depth: usize) -> Result<(), Error> {
    let what = "lists in lists";
    if depth > DEPTH_MAX {
        return Err(LimitReached { what }.into());
    }
    budget.look(size(value) + ELEMENT_BYTES)?;
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()?.checked() {
                count(budget, &item?, depth + 1)?;
            }
        }
        ValueKind::Map if is_opaque(value) => {
            return Err(refuse("a namespace cannot be compared or stored"));
        }
        ValueKind::Map => {
            for key in value.try_iter()?.checked() {
                count(budget, &value.get_item(&key?)?, depth + 1)?;
            }
        }
        ValueKind::Plain if depth > 0 => return Err(refuse("a function cannot be stored")),
        _ => {}
    }
    Ok(())
}

/// Whether a map is a namespace, which can be changed.
fn is_opaque(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("Namespace"))
}

/// What a `for` goes over. The engine takes `none` for an empty list; Jinja2 does not.
fn iterate(value: Value) -> Result<Value, Error> {
    if value.is_none() {
        return Err(refuse("none cannot be iterated over"));
    }
    Ok(value)
}

fn is_iterable(value: Value) -> bool {
    !value.is_none() && (value.as_str().is_some() || value.try_iter().is_ok())
}

/// What has a length and elements; for Jinja2 that is a text and a dictionary too.
fn is_sequence(value: Value) -> bool {
    use ValueKind::{Map, Seq, String, Undefined};
    matches!(value.kind(), Map | Seq | String | Undefined)
}

/// A method of a dictionary that is not called.
#[derive(Debug)]
struct Method;

impl Object for Method {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

fn attribute(value: Value, name: &str) -> Result<Value, Error> {
    if value.kind() == ValueKind::Map && !is_opaque(&value) {
        return Ok(Value::from_object(Method));
    }
    value.get_attr(name)
}

fn to_json(state: &mut State, value: Value, options: Kwargs) -> Result<Value, Error> {
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

fn join(
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

fn join_items(
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

fn replace(
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

fn indent(
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

fn format_text(text: String, values: Rest<Value>) -> Result<Value, Error> {
    check_format(&text)?;
    format(FormatStyle::Printf, &text, &values).map(Value::from)
}

/// Refuses widths and precisions that would make a short format a long text.
fn check_format(text: &str) -> Result<(), Error> {
    let digits = |part: &str| part.len() > FORMAT_DIGITS_MAX;
    let wide = text.split(|character: char| !character.is_ascii_digit()).any(digits);
    if wide || text.contains('*') {
        return Err(refuse("a format with a width of more than three digits"));
    }
    Ok(())
}

fn trim(state: &mut State, text: Value, characters: Option<String>) -> Result<Value, Error> {
    let text = text_of(state, &text)?;
    let Some(characters) = characters else {
        return Ok(Value::from(text.trim()));
    };
    check_strip(&characters)?;
    let characters: Vec<char> = characters.chars().collect();
    Ok(Value::from(text.trim_matches(characters.as_slice())))
}

/// A whole number, or `default` for what is none.
fn to_int(value: Value, default: Option<Value>) -> Value {
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
fn to_float(value: Value, default: Option<Value>) -> Value {
    let number = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => f64::try_from(value).ok(),
    };
    number.map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0))
}

fn length(value: Value) -> Result<Value, Error> {
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

fn check_strip(characters: &str) -> Result<(), Error> {
    if characters.len() > STRIP_CHARACTERS_MAX {
        return Err(refuse("too many characters to strip"));
    }
    Ok(())
}

/// Methods of Python's texts, lists and dictionaries.
fn method(
    state: &mut State,
    value: &Value,
    name: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    let text_argument = |index: usize| arguments.get(index).and_then(Value::as_str);
    let Some(text) = value.as_str() else {
        return match (name, value.kind()) {
            ("count", _) => Err(Error::from(ErrorKind::UnknownMethod)),
            _ => pycompat::unknown_method_callback(state, value, name, arguments),
        };
    };
    match (name, arguments) {
        ("join", [items]) => return join_items(state, items, text, None),
        ("replace", [from, to, rest @ ..]) => {
            let count = rest.first().and_then(Value::as_usize);
            return replace(state, value.clone(), from.clone(), to.clone(), count);
        }
        ("format", _) => check_format(text)?,
        ("strip" | "lstrip" | "rstrip", [_, ..]) => {
            check_strip(text_argument(0).unwrap_or_default())?;
        }
        ("removeprefix", [_]) => {
            let prefix = text_argument(0).unwrap_or_default();
            return Ok(Value::from(text.strip_prefix(prefix).unwrap_or(text)));
        }
        ("removesuffix", [_]) => {
            let suffix = text_argument(0).unwrap_or_default();
            return Ok(Value::from(text.strip_suffix(suffix).unwrap_or(text)));
        }
        _ => {}
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}
