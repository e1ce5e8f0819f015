//! Templates of our own, for models that bring none.

/// A template that comes with the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BuiltinTemplate {
    /// `<|im_start|>role … <|im_end|>`, the form of Qwen, SmolLM and many fine-tunes.
    ChatMl,
    /// Headers and `<|eot_id|>`, the form of Llama 3.
    Llama3,
    /// `Role: text` lines, for models that were not trained on conversations.
    Plain,
}

impl BuiltinTemplate {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ChatMl, Self::Llama3, Self::Plain];

    /// The name it is chosen by.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChatMl => "chatml",
            Self::Llama3 => "llama3",
            Self::Plain => "plain",
        }
    }

    /// The template.
    #[must_use]
    pub const fn source(self) -> &'static str {
        match self {
            Self::ChatMl => include_str!("builtin/chatml.jinja"),
            Self::Llama3 => include_str!("builtin/llama3.jinja"),
            Self::Plain => include_str!("builtin/plain.jinja"),
        }
    }

    /// The names of the tokens that end a turn in it.
    #[must_use]
    pub const fn end_of_turn(self) -> &'static [&'static str] {
        match self {
            Self::ChatMl => &["<|im_end|>"],
            Self::Llama3 => &["<|eot_id|>"],
            Self::Plain => &[],
        }
    }
}
