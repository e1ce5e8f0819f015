//! How models write calls of tools.

use crate::TokenId;

/// The form in which a family of models calls tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolFormat {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>`, any number of them: Hermes, Qwen.
    Hermes,
    /// The whole answer is `{"name": …, "parameters": …}`, perhaps after `<|python_tag|>`: Llama 3.
    Llama,
    /// `[TOOL_CALLS] [{"name": …, "arguments": …}, …]`: Mistral.
    Mistral,
}

impl ToolFormat {
    /// What comes before calls. Llama models may leave it out.
    #[must_use]
    pub const fn marker(self) -> &'static str {
        match self {
            Self::Hermes => "<tool_call>",
            Self::Llama => "<|python_tag|>",
            Self::Mistral => "[TOOL_CALLS]",
        }
    }
}

/// How one model calls tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToolCalls {
    /// The form.
    pub format: ToolFormat,
    /// The control token that is the marker, where it is no ordinary text.
    pub marker: Option<TokenId>,
}
