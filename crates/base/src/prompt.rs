//! What a request asks the model to continue.

use crate::TokenId;

/// Input of a request. The head turns it into token ids.
#[derive(Clone, Debug, PartialEq)]
pub enum Prompt {
    /// Plain text; special tokens in it are ordinary text, the beginning-of-text token is added
    /// when the package says so.
    Text(String),
    /// Token ids, used as they are.
    Tokens(Vec<TokenId>),
    /// A conversation, rendered with the package's chat template.
    Chat {
        /// Messages in the shape chat templates expect (`role`, `content`, `tool_calls`, …).
        messages: Vec<serde_json::Value>,
        /// Tool definitions, passed to the template as `tools`.
        tools: Vec<serde_json::Value>,
        /// Further variables for the template.
        variables: serde_json::Map<String, serde_json::Value>,
        /// Whether the template opens the assistant's turn.
        add_generation_prompt: bool,
    },
}
