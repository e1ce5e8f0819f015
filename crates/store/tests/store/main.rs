//! A store as its users see it: packages, names, what is left behind, downloads.
#![expect(clippy::unwrap_used, reason = "functions that tests share are tests too")]

mod downloads;
mod names;
mod packages;
mod partial;
mod support;
