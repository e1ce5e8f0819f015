//! The words every crate shares: ids, digests, seeded randomness, and the one trait [`Generate`]
//! through which a request goes in and token events come out.
//!
//! Admission rule: a word used by three crates, without I/O and without policy. Nothing else.
#![forbid(unsafe_code)]

mod blame;
mod bytes;
mod digest;
mod generate;
mod grammar;
mod limits;
mod params;
mod prompt;
mod token;
mod tools;

pub use blame::Blame;
pub use bytes::SharedBytes;
pub use digest::{Digest, PackageId, ParseDigestError};
pub use generate::{
    EventSink, FinishReason, Flow, Generate, GenerateError, Generation, ModelCard, Request, Route,
    StopCause, Timings, TokenEvent, TokenLogprob, Usage,
};
pub use grammar::Grammar;
pub use limits::RequestLimits;
pub use params::{Lane, LogprobsRequest, Sampling, StopRules};
pub use prompt::Prompt;
pub use token::TokenId;
pub use tools::{ToolCalls, ToolFormat};
