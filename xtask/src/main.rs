//! Repository tasks: `cargo xtask <task>`. One file per task; each owns its arguments.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the terminal is the interface of a repository task"
)]

mod elf;
mod emulate;
mod shell;

use std::process::ExitCode;

use clap::Parser;

/// Tasks of the shoal repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Run a static program on an emulated CPU, for instruction sets this machine lacks.
    Emulate(emulate::Args),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Emulate(args) => emulate::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
