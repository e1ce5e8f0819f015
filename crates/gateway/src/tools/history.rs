//! Calls and results in a conversation's history, as chat templates expect them.

use serde_json::{Value, json};

/// Length of ids that templates of Mistral accept.
const ID_LENGTH: usize = 9;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Ids of calls so far, and the tools they called.
#[derive(Debug, Default)]
pub(crate) struct CallIds(Vec<(String, String)>);

impl CallIds {
    /// Notes a call.
    pub(crate) fn add(&mut self, id: &str, name: &str) {
        self.0.push((id.to_owned(), name.to_owned()));
    }

    /// The tool that a call called.
    pub(crate) fn name(&self, id: &str) -> Option<&str> {
        // Ids are unique; of a client that repeats one the last is meant.
        self.0.iter().rev().find(|(known, _)| known == id).map(|(_, name)| name.as_str())
    }
}

/// A call as templates expect it: with its arguments as an object, if they are one.
pub(crate) fn call_of(id: &str, name: &str, arguments: &str) -> Value {
    let object = serde_json::from_str(arguments).ok().filter(Value::is_object);
    let arguments = object.unwrap_or_else(|| arguments.into());
    json!({ "id": id, "type": "function", "function": { "name": name, "arguments": arguments } })
}

/// Replaces the ids of a message by short ones, the same for the same.
pub(crate) fn ids_for(message: &mut Value) {
    if let Some(id) = message.get_mut("tool_call_id") {
        shorten(id);
    }
    let calls = message.get_mut("tool_calls").and_then(Value::as_array_mut);
    for id in calls.into_iter().flatten().filter_map(|call| call.get_mut("id")) {
        shorten(id);
    }
}

fn shorten(id: &mut Value) {
    let Some(text) = id.as_str() else { return };
    let is_short = text.len() == ID_LENGTH && text.bytes().all(|b| b.is_ascii_alphanumeric());
    if !is_short {
        let hash = blake3::hash(text.as_bytes());
        let letters = hash.as_bytes()[..ID_LENGTH].iter();
        let short: String =
            letters.map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect();
        *id = short.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_ids_match_and_stay() {
        let mut call = json!({ "tool_calls": [call_of("call_1", "f", "{\"a\": 1}")] });
        let mut result = json!({ "role": "tool", "tool_call_id": "call_1" });
        ids_for(&mut call);
        ids_for(&mut result);
        let id = result["tool_call_id"].as_str().unwrap().to_owned();
        assert_eq!(id.len(), 9);
        assert_eq!(call["tool_calls"][0]["id"], id.as_str());
        ids_for(&mut result);
        assert_eq!(result["tool_call_id"], id.as_str());
        assert_eq!(call["tool_calls"][0]["function"]["arguments"], json!({ "a": 1 }));
        assert_eq!(call_of("x", "f", "{")["function"]["arguments"], "{");
    }
}
