//! The one trait between those who ask for text and those who make it.
//!
//! The engine implements it by computing, a swarm head by routing, tests by replaying. Gateway and
//! CLI never see which. Everything an implementation returns is a pure function of (package,
//! prompt, parameters, seed); timings are the only exception.

use std::sync::Arc;

use crate::{
    Blame, Grammar, Lane, LogprobsRequest, PackageId, Prompt, Sampling, StopRules, TokenId,
    ToolCalls,
};

/// One request for text.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// What to continue.
    pub prompt: Prompt,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// When the answer ends.
    pub stop: StopRules,
    /// Whether log-probabilities are reported.
    pub logprobs: Option<LogprobsRequest>,
    /// Scheduling class.
    pub lane: Lane,
    /// Requests share cached prefixes only when their salts are equal.
    pub cache_salt: Vec<u8>,
    /// Control tokens of the answer are written as their names instead of as nothing. Those that
    /// end the answer never are.
    pub show_control: bool,
}

impl Request {
    /// A request for `prompt` with default parameters.
    #[must_use]
    pub fn new(prompt: Prompt) -> Self {
        Self {
            prompt,
            sampling: Sampling::default(),
            stop: StopRules::default(),
            logprobs: None,
            lane: Lane::Interactive,
            cache_salt: Vec::new(),
            show_control: false,
        }
    }
}

/// Natural-log probability of a token, after penalties and bias, before temperature and filters.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub id: TokenId,
    /// Its bytes; not necessarily whole characters.
    pub bytes: Vec<u8>,
    /// Its log-probability, at most 0.
    pub logprob: f32,
}

/// What happens to a request, in order: one `Started`, then `Token`s, then one `Finished` or
/// `Failed`.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenEvent {
    /// The prompt was accepted and computed.
    Started {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Those of them whose KV cache was already there.
        cached_tokens: u32,
    },
    /// One generated token.
    Token {
        /// Its id.
        id: TokenId,
        /// Text that became certain with it: whole characters, never part of a stop string. Often
        /// empty.
        text: String,
        /// Its log-probability, when asked for.
        logprob: Option<TokenLogprob>,
        /// The most probable alternatives, when asked for, largest first.
        top: Vec<TokenLogprob>,
    },
    /// The answer is complete.
    Finished {
        /// Why it ended.
        reason: FinishReason,
        /// Text held back until now (it might have become part of a stop string).
        text: String,
        /// Tokens used.
        usage: Usage,
        /// How long it took.
        timings: Timings,
    },
    /// The answer was cut by an error; what was sent so far stays valid.
    Failed(GenerateError),
}

/// Why an answer ended. A cut answer never says [`FinishReason::Stop`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The answer is complete.
    Stop(StopCause),
    /// The token limit or the context was reached.
    Length,
    /// The caller cancelled.
    Cancelled,
}

impl FinishReason {
    /// The word used in JSON output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stop(_) => "stop",
            Self::Length => "length",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What made an answer complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopCause {
    /// The model ended its turn.
    EndOfTurn,
    /// A stop string appeared.
    String {
        /// Its place among [`StopRules::strings`].
        index: u8,
    },
    /// A token of [`StopRules::ids`] was chosen.
    Token(TokenId),
    /// The grammar allows nothing more.
    Grammar,
}

/// Tokens a request used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Those found in the prefix cache.
    pub cached_tokens: u32,
    /// Tokens generated.
    pub completion_tokens: u32,
}

/// Durations of a request, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// Waiting for admission.
    pub queue_us: u64,
    /// From admission to the first token.
    pub prefill_us: u64,
    /// From the first token to the last.
    pub decode_us: u64,
}

/// What a sink wants after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More events.
    Continue,
    /// No more: the request is cancelled and its slot freed within one step.
    Stop,
}

/// Receives the events of one request. Called from a thread that computes: it must not block.
pub trait EventSink: Send {
    /// Takes one event and says whether to go on.
    fn event(&mut self, event: TokenEvent) -> Flow;
}

impl<F: FnMut(TokenEvent) -> Flow + Send> EventSink for F {
    fn event(&mut self, event: TokenEvent) -> Flow {
        self(event)
    }
}

/// A request in progress. Dropping it does not cancel.
pub trait Generation: Send + Sync {
    /// Ends the request within one step; a `Finished` event with `Cancelled` follows.
    fn cancel(&self);
}

/// What a model can do; shown by `/v1/models` and used to check requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// Name it is served under.
    pub name: String,
    /// Package it is made of.
    pub package: PackageId,
    /// Entries of the vocabulary.
    pub vocab_count: u32,
    /// Tokens of prompt and answer together.
    pub context_tokens: u32,
    /// Width of an embedding.
    pub embedding_width: u32,
    /// Whether the package carries a chat template.
    pub chat: bool,
    /// How it calls tools, if its chat template has a place for them.
    pub tool_calls: Option<ToolCalls>,
}

/// Where answers are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// In this process: nothing leaves the machine.
    Local,
    /// On other nodes, which see what they compute: each with its layers, in order, in digits,
    /// letters and punctuation.
    Nodes(String),
}

/// Makes text. Implemented by the local engine and by a swarm head.
pub trait Generate: Send + Sync {
    /// The model behind it.
    fn card(&self) -> &ModelCard;

    /// Where it computes at present.
    fn route(&self) -> Route {
        Route::Local
    }

    /// Starts a request. Errors that can be known now are returned now; `sink` gets the rest.
    ///
    /// # Errors
    /// Parameters out of range, a prompt that does not fit, or no capacity.
    fn submit(
        &self,
        request: Request,
        sink: Box<dyn EventSink>,
    ) -> Result<Arc<dyn Generation>, GenerateError>;

    /// Mean-pooled final states of each input, one vector of `embedding_width` per input. Blocks.
    ///
    /// # Errors
    /// As for [`Generate::submit`].
    fn embed(&self, inputs: &[Prompt]) -> Result<Vec<Vec<f32>>, GenerateError>;

    /// The ids of a prompt as the model would see them.
    ///
    /// # Errors
    /// A prompt the tokenizer or the template refuses.
    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<TokenId>, GenerateError>;

    /// The text of ids; invalid UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    fn detokenize(&self, ids: &[TokenId]) -> Result<String, GenerateError>;

    /// Compiles a grammar without running it, so that a wrong one is refused before anything else.
    ///
    /// # Errors
    /// The grammar's own error text.
    fn check_grammar(&self, grammar: &Grammar) -> Result<(), GenerateError>;
}

/// Why a request was refused or cut.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// A parameter is outside its range.
    #[error("parameter {name}: {rule}")]
    Parameter {
        /// Its name in [`Request`].
        name: &'static str,
        /// The rule it breaks.
        rule: String,
    },
    /// Prompt and answer do not fit the context.
    ///
    /// The first words are those that clients look for.
    #[error(
        "this model's maximum context length is {limit_tokens} tokens, but {} were requested: \
         {prompt_tokens} of the prompt and {answer_tokens} of the answer",
        prompt_tokens + answer_tokens
    )]
    ContextLength {
        /// Tokens of the prompt.
        prompt_tokens: u64,
        /// Tokens asked for, or one.
        answer_tokens: u64,
        /// What the model or the memory budget allows.
        limit_tokens: u64,
    },
    /// The prompt is longer than any tokenizer input may be.
    #[error("prompt of {got} bytes, limit {limit}")]
    PromptBytes {
        /// Its length.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The package has no chat template.
    #[error("the package has no chat template")]
    NoChatTemplate,
    /// The chat template refused the conversation.
    #[error("chat template: {reason}")]
    Template {
        /// The template's own words.
        reason: String,
    },
    /// The grammar does not compile.
    #[error("grammar: {reason}")]
    Grammar {
        /// The compiler's own words.
        reason: String,
    },
    /// No capacity now.
    #[error("no capacity, retry in {retry_after_ms} ms")]
    Overloaded {
        /// When to try again.
        retry_after_ms: u64,
    },
    /// The computation met a number that is not finite. Spec 01 §8.
    #[error("arithmetic fault in layer {layer_index} at position {position}")]
    Fault {
        /// The layer.
        layer_index: u32,
        /// The position in the sequence.
        position: u32,
    },
    /// A stage or route failed and no other could take over.
    #[error("route failed: {reason}")]
    Route {
        /// What happened.
        reason: String,
    },
    /// The process is stopping.
    #[error("shutting down")]
    ShuttingDown,
}

impl GenerateError {
    /// Who is to blame.
    #[must_use]
    pub const fn blame(&self) -> Blame {
        match self {
            Self::Parameter { .. }
            | Self::ContextLength { .. }
            | Self::PromptBytes { .. }
            | Self::NoChatTemplate
            | Self::Template { .. }
            | Self::Grammar { .. } => Blame::Caller,
            Self::Route { .. } => Blame::Peer,
            Self::Overloaded { .. } | Self::Fault { .. } | Self::ShuttingDown => Blame::Local,
        }
    }
}
