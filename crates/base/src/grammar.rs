//! Constraints on the text of an answer.

/// A constraint that every answer of a request satisfies, token by token.
#[derive(Clone, Debug, PartialEq)]
pub enum Grammar {
    /// Any JSON object.
    JsonObject,
    /// JSON that validates against this schema.
    JsonSchema(serde_json::Value),
    /// Text that matches this regular expression as a whole.
    Regex(String),
    /// Text derived from this context-free grammar in Lark syntax.
    Lark(String),
}
