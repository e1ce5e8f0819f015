//! Operators as functions that count what they make: [`guard::ADD`] and its like.
//!
//! [`guard::ADD`]: super::guard::ADD

use std::borrow::Cow;

use minijinja::value::{Rest, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, State, Value};

use super::guards::size;
use super::refuse;
use crate::template::budget::{Budget, ELEMENT_BYTES};
use crate::template::values::Writer;

/// `a + b + …`. A text marked as safe escapes those it is added to, as in Jinja2.
pub(super) fn add(state: &mut State, values: Rest<Value>) -> Result<Value, Error> {
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
pub(super) fn concat(state: &mut State, values: Rest<Value>) -> Result<Value, Error> {
    let mut writer = Writer { text: String::new(), budget: Budget::of(state) };
    values.iter().try_for_each(|value| writer.push_str(value))?;
    Ok(Value::from(writer.text))
}

/// `a * b`
pub(super) fn multiply(state: &mut State, left: Value, right: Value) -> Result<Value, Error> {
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
pub(super) fn remainder(left: Value, right: Value) -> Result<Value, Error> {
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
pub(super) fn slice(
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
