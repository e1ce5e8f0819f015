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
    /// `[TOOL_CALLS]name[ARGS]{…}`, any number of them: newer models of Mistral.
    MistralArgs,
}

impl ToolFormat {
    /// What comes before calls. Llama models may leave it out.
    #[must_use]
    pub const fn marker(self) -> &'static str {
        match self {
            Self::Hermes => "<tool_call>",
            Self::Llama => "<|python_tag|>",
            Self::Mistral | Self::MistralArgs => "[TOOL_CALLS]",
        }
    }

    /// What stands between name and arguments, where that may be a control token.
    #[must_use]
    pub const fn separator(self) -> Option<&'static str> {
        match self {
            Self::MistralArgs => Some("[ARGS]"),
            Self::Hermes | Self::Llama | Self::Mistral => None,
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
    /// The same for the separator.
    pub separator: Option<TokenId>,
}
