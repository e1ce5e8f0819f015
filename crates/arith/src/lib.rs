//! The definition of shoal's arithmetic: number formats, limits, element functions, and a readable
//! reference of every operation. Spec: `docs/spec/01-arithmetic.md`.
//!
//! Every reduction here is a maximum or an exact integer sum, and every element-wise result has one
//! defined value. So the bytes of each activation are a function of (package, tokens, seed),
//! whatever the batch, the tiling, the thread count or the instruction set.
//!
//! This crate is slow on purpose. `shoal-kernels` equals it bit for bit.
#![forbid(unsafe_code)]

mod activation;
mod fault;
pub mod limits;
pub mod reference;
pub mod scalar;
pub mod tables;
pub mod tile;
mod weight;

pub use activation::{A8Row, A12Row, Activation, ActivationFormat, quantize_a8, quantize_a12};
pub use fault::Fault;
pub use weight::{WeightFormat, WeightRow, row_scale_is_valid};
