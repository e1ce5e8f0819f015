//! Guards of values: what is made, read, compared, stored and iterated over is counted or refused.

use std::sync::Arc;

use minijinja::value::{Object, ObjectRepr, ValueKind};
use minijinja::{Error, State, Value};

use super::refuse;
use crate::template::budget::{Budget, DEPTH_MAX, ELEMENT_BYTES, LimitReached};

/// Bytes of a text, or of the elements of a list or map.
pub(super) fn size(value: &Value) -> usize {
    match value.as_str() {
        Some(text) => text.len(),
        None => value.len().unwrap_or(0).saturating_mul(ELEMENT_BYTES),
    }
}

/// A result; of a list that the engine would make on the way, the list itself: such lists can stand
/// on one another without end, and going over them goes down the stack.
pub(super) fn made(state: &mut State, value: Value) -> Result<Value, Error> {
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

pub(super) fn look(state: &mut State, value: Value) -> Result<Value, Error> {
    Budget::of(state).look(size(&value))?;
    Ok(value)
}

/// Counts a value with all that is in it. Refuses what is nested too deep, and what could be put
/// into itself.
pub(super) fn walk(state: &mut State, value: Value) -> Result<Value, Error> {
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
pub(super) fn iterate(value: Value) -> Result<Value, Error> {
    if value.is_none() {
        return Err(refuse("none cannot be iterated over"));
    }
    Ok(value)
}

pub(super) fn is_iterable(value: Value) -> bool {
    !value.is_none() && (value.as_str().is_some() || value.try_iter().is_ok())
}

/// What has a length and elements; for Jinja2 that is a text and a dictionary too.
pub(super) fn is_sequence(value: Value) -> bool {
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

pub(super) fn attribute(value: Value, name: &str) -> Result<Value, Error> {
    if value.kind() == ValueKind::Map && !is_opaque(&value) {
        return Ok(Value::from_object(Method));
    }
    value.get_attr(name)
}
