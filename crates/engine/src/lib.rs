//! One machine computing its stages: weights in memory, KV cache, prefix cache, batching, sampling.
//!
//! A [`Stage`] holds a range of layers and turns residual rows into residual rows; a [`Head`] turns
//! tokens into the first rows and the last rows into logits. Between the two nothing but bf16 rows
//! passes, so it does not matter how many stages there are or where they run.
#![forbid(unsafe_code)]

mod error;
mod head;
mod kv;
mod stage;
mod weights;

pub use error::LoadError;
pub use head::Head;
pub use kv::{KvCache, KvError, PageKey, SequenceId};
pub use stage::{Segment, SegmentKind, Stage, StepFaults};
