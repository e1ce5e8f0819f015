//! Repository tasks: `cargo xtask <task>`. One file per task; each owns its arguments.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the terminal is the interface of a repository task"
)]

mod browser;
mod check;
mod clients;
mod elf;
mod emulate;
mod endpoint_soak;
mod fuzz_smoke;
mod machine;
mod registry;
mod replay;
mod shell;
mod soak;
mod static_binary;
mod test_run;
mod tidy;
mod up;
mod vectors;

use std::process::ExitCode;

use clap::Parser;

/// Tasks of the shoal repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
enum Task {
    /// Try the console in headless Chromium
    Browser,
    /// Run everything a change must pass
    Check(check::Args),
    /// Try real clients against `shoal up`
    Clients(clients::Args),
    /// Run a static program on an emulated CPU, for instruction sets this machine lacks
    Emulate(emulate::Args),
    /// Run every fuzz target briefly on the stable compiler
    FuzzSmoke(fuzz_smoke::Args),
    /// Describe this machine, for benchmark records
    Machine,
    /// Compute a training run again at every optimisation level
    Replay,
    /// Run the checks that take too long for every change
    Soak(soak::Args),
    /// Build the released program and show that it needs nothing but a kernel
    StaticBinary,
    /// Check the rules of this repository that no compiler or lint checks
    Tidy,
    /// Write the golden vectors from the reference
    Vectors,
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Browser => browser::run(),
        Task::Check(args) => check::run(&args),
        Task::Clients(args) => clients::run(&args),
        Task::Emulate(args) => emulate::run(&args),
        Task::FuzzSmoke(args) => fuzz_smoke::run(&args).map(drop),
        Task::Machine => machine::run(),
        Task::Replay => replay::run(),
        Task::Soak(args) => soak::run(&args),
        Task::StaticBinary => static_binary::run().map(print_skip),
        Task::Tidy => tidy::run(),
        Task::Vectors => vectors::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_skip(outcome: check::Outcome) {
    if let check::Outcome::Skipped(reason) = outcome {
        println!("skipped: {reason}");
    }
}
