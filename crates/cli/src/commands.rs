//! One module for each command.

pub(crate) mod bench;
pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod doctor;
pub(crate) mod eval;
pub(crate) mod key;
pub(crate) mod model;
pub(crate) mod peers;
pub(crate) mod relay;
pub(crate) mod run;
pub(crate) mod serve;
pub(crate) mod service;
pub(crate) mod swarm;
pub(crate) mod tokenize;
pub(crate) mod train;
pub(crate) mod up;
