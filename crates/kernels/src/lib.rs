//! The operations of the arithmetic, fast on CPUs, equal to `shoal_arith::reference` bit for bit.
//!
//! One folder per operation, one file per instruction set; [`Isa`] picks at run time. Spec 01.
#![expect(unsafe_code, reason = "vector instructions and shared output buffers need it")]

mod ahead;
pub mod attention;
mod context;
mod element;
pub mod float;
pub mod gemm;
mod isa;
mod lanes;
mod linear;
mod matmul;
mod memory;
mod per_isa;
mod quantized;
mod shared;
mod team;

pub use context::Kernels;
pub use isa::{Isa, IsaError};
pub use linear::Linear;
pub use memory::share_one_heap;
pub use quantized::{QuantizeNeeds, Quantized};
pub use team::Team;
