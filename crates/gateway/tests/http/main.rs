//! The endpoint over real sockets, in front of a model that says what a test wants.
#![expect(clippy::unwrap_used, reason = "functions that tests share are tests too")]

mod answers;
mod ends;
mod guards;
mod hostile;
mod idempotency;
mod pages;
mod parameters;
mod support;
mod tools;
