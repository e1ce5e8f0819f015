//! What tests of several crates share. Never part of what ships.
#![forbid(unsafe_code)]

mod skip;

pub use skip::{shared_data, skip};
