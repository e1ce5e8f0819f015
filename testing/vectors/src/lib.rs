//! Golden vectors: cases of spec 01 with the results that the reference gives, and a package of
//! spec 02 with its logits, and the bytes of the messages of spec 03.
//!
//! Owns: which cases there are, their form in `vectors/` (see the README there), reading and making
//! them. Does not own: checking them. Tests of `arith`, `model` and `kernels` do, and
//! `bench/fixtures/arith_check.py`, which knows nothing of this code.
//!
//! Invariant: [`all`] and [`package::files`] give the same bytes on every machine.
#![forbid(unsafe_code)]

pub mod attention;
pub mod element;
mod files;
pub mod hex;
pub mod linear;
pub mod noise;
pub mod norm;
mod numbers;
pub mod package;
pub mod quantize;
pub mod rope;
pub mod sampling;
pub mod scalar;
pub mod wire;

pub use files::{all, folder, read};
