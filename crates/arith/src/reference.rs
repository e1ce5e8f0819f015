//! The operations in plain loops: no `unsafe`, no threads, no tricks. This is the definition.

pub mod attention;
pub mod element;
pub mod float;
pub mod matmul;
pub mod noise;
pub mod norm;
pub mod probability;
pub mod rope;
