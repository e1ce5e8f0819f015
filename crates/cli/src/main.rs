//! The program `shoal`: words as typed, a plan, an exit code.
//!
//! Layer 4. Owns: arguments, the configuration file, what is printed and with which exit code.
//! Does not own anything that another program could want: that is in the crates below. Commands
//! and exit codes: `docs/reference/cli.md`.
#![forbid(unsafe_code)]

mod commands;
mod config;
mod control;
mod embedded;
mod failure;
mod generation;
mod import;
mod input;
mod interrupt;
mod invited;
mod kept;
mod layers;
mod map;
mod measure;
mod memory;
mod models;
mod nat;
mod nodes;
mod output;
mod over_swarm;
mod owner;
mod program;
mod progress;
mod public;
mod relays;
mod sampling;
mod serving;
mod session;
mod split;
mod swarming;
mod train;
mod ways;
mod whole_file;

fn main() -> std::process::ExitCode {
    shoal_kernels::share_one_heap();
    program::run()
}
