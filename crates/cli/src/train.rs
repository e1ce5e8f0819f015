//! A run of training on disk: its settings, its data, its folder. What a run computes is the
//! business of `shoal-train`.

pub(crate) mod config;
pub(crate) mod curve;
pub(crate) mod data;
pub(crate) mod folder;
pub(crate) mod open;

pub(crate) use folder::{RunFolder, StepRecord};
pub(crate) use open::{Opened, open};
