//! Fuzz targets and two ways to run them: briefly on the stable compiler ([`smoke`]), and for as
//! long as one likes under libFuzzer (`src/bin/libfuzzer.rs`). See `README.md`.
#![forbid(unsafe_code)]

mod allocations;
pub mod canaries;
mod mutate;
mod regressions;
mod seeds;
pub mod smoke;
mod target;
pub mod targets;
mod tokenizers;

pub use target::{MEMORY_BYTES, Target};
