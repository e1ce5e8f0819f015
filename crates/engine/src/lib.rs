//! One machine computing its stages: weights in memory, KV cache, prefix cache, batching, sampling.
//!
//! A [`Stage`] holds a range of layers and turns residual rows into residual rows; a [`Head`] turns
//! tokens into the first rows and the last rows into logits. Between the two nothing but bf16 rows
//! passes, so it does not matter how many stages there are or where they run. [`LocalEngine`] puts
//! head and all layers together and serves requests.
#![forbid(unsafe_code)]

mod answer;
mod calibrate;
mod check;
mod draft;
mod error;
mod grammar;
mod head;
mod intake;
mod kv;
mod local;
mod perplexity;
mod prefix;
mod prompt;
mod scheduler;
mod stage;
mod stats;
mod stop;
mod weights;

pub use answer::{Answer, Next};
pub use calibrate::{Calibration, ERROR_MAX};
pub use error::LoadError;
pub use head::Head;
pub use intake::{Accepted, Intake};
pub use kv::{KvCache, KvError, PageKey, SequenceId};
pub use local::{EngineOptions, LocalEngine};
pub use perplexity::{Perplexity, PerplexityError, Window, perplexity};
pub use stage::{Segment, SegmentKind, Stage, StepFaults};
pub use stats::EngineStats;
