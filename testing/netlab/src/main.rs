//! `netlab`: runs a command on every node of a network that is made up.
#![forbid(unsafe_code)]

use std::process::ExitCode;

#[cfg(target_os = "linux")]
mod run;

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    run::main()
}

#[cfg(not(target_os = "linux"))]
#[expect(clippy::print_stderr, reason = "the terminal is the interface of this program")]
fn main() -> ExitCode {
    eprintln!("netlab needs the network namespaces of Linux");
    ExitCode::FAILURE
}
