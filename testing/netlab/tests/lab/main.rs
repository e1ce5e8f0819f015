//! What labs promise, seen by programs that run in them.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "functions that tests share are tests too")]

mod cleanup;
mod links;
mod support;
mod translators;
