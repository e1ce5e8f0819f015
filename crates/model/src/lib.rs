//! Models as data: architectures, packages, the files they come from, tokenizers, chat templates,
//! the sampler.
#![forbid(unsafe_code)]

mod architecture;
pub mod bundle;
pub mod export;
pub mod import;
pub mod package;
pub mod sampler;
pub mod source;
pub mod template;
pub mod tokenizer;

pub use architecture::{
    Architecture, ArchitectureError, Family, LinearPart, NormPart, Rope, RopeLayout, RopeScaling,
    TensorRole,
};
