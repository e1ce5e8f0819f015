//! The functions, filters and methods of chat templates: the guards of [`super::guard`], what
//! Transformers adds to Jinja2, and those of the engine whose results can be much larger than what
//! they are given.

mod filters;
mod guards;
mod operators;

use minijinja::value::{Rest, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use minijinja_contrib::pycompat;

use self::filters::{check_format, check_strip, join_items, replace};
use self::operators::concat;
use super::budget::{Budget, LimitReached};
use super::date::TemplateDate;
use super::guard;
use super::values::Writer;

/// Words of `raise_exception`, inside the engine's error.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Raised {
    pub(super) message: String,
}

pub(super) fn install(environment: &mut Environment<'_>) {
    environment.set_formatter(print);
    environment.set_unknown_method_callback(method);
    environment.add_function(guard::ADD, operators::add);
    environment.add_function(guard::CONCAT, concat);
    environment.add_function(guard::MULTIPLY, operators::multiply);
    environment.add_function(guard::REMAINDER, operators::remainder);
    environment.add_function(guard::MADE, guards::made);
    environment.add_function(guard::LOOK, guards::look);
    environment.add_function(guard::WALK, guards::walk);
    environment.add_function(guard::STORE, guards::walk);
    environment.add_function(guard::SLICE, operators::slice);
    environment.add_function(guard::ITERATE, guards::iterate);
    environment.add_function(guard::ATTRIBUTE, guards::attribute);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", filters::to_json);
    environment
        .add_filter("string", |state: &mut State, value: Value| concat(state, Rest(vec![value])));
    environment.add_filter("join", filters::join);
    environment.add_filter("replace", replace);
    environment.add_filter("indent", filters::indent);
    environment.add_filter("format", filters::format_text);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("int", filters::to_int);
    environment.add_filter("float", filters::to_float);
    environment.add_filter("length", filters::length);
    environment.add_filter("count", filters::length);
    environment.add_test("iterable", guards::is_iterable);
    environment.add_test("sequence", guards::is_sequence);
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
