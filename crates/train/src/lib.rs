//! Training in which every step can be replayed bit for bit. Spec 05.
//!
//! State in, state out: no files, no clock, no threads of its own, no randomness but a function of
//! (run, step, sample). The arithmetic is that of `shoal_arith::reference::float`, so the same run
//! has the same bytes on every machine, instruction set and thread count.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod data;
mod export;
mod model;
mod parameters;
mod preference;
mod random;
mod run;
mod sample;
mod schedule;
mod settings;
mod synthesis;
pub mod tokenizer;
mod trainer;

pub use export::{ExportedModel, export_model};
pub use model::{Activation, Adapter, ReadError, TrainModel, Workspace};
pub use parameters::{Layout, Parameters, Place, Tensor};
pub use preference::{Preference, Reference};
pub use random::{Purpose, Random};
pub use run::{Examples, Run, RunError, RunModels};
pub use sample::Sample;
pub use schedule::{Decay, Schedule};
pub use settings::{
    AdapterSettings, ModelSettings, Objective, RunDefinition, SettingsError, StepSettings,
    seed_digest,
};
pub use synthesis::{Synthesis, synthesize};
pub use trainer::{
    NotFinite, OptimizerSettings, StepError, StepReport, TeacherModel, Trainer, evaluate,
};
