//! `cargo xtask replay`: the same run, computed by programs that were optimised differently.
//!
//! Builds the replay test of `shoal-train` at every optimisation level of the compiler. It takes
//! 200 steps of a model of 100 000 parameters, on every instruction set of this machine with teams
//! of 1 to 4, and compares the states with one that is written down, so that equal to it is equal
//! to each other.

use std::process::Command;
use std::time::Instant;

use crate::check::{Outcome, Report};
use crate::shell::{self, TaskError};

const OPT_LEVELS: [&str; 4] = ["0", "1", "2", "3"];
/// Crates whose profile is set by name and would not follow the one for all.
const NAMED: [&str; 2] = ["shoal-arith", "shoal-kernels"];

pub(crate) fn run() -> Result<(), TaskError> {
    let mut report = Report::default();
    report.step("replay", all);
    report.print();
    report.result()
}

/// Every level.
pub(crate) fn all() -> Result<Outcome, TaskError> {
    for level in OPT_LEVELS {
        let start = Instant::now();
        shell::loud(&mut test_at(level), "install Rust")?;
        println!("opt-level {level}: equal, {:.0} s with its build", start.elapsed().as_secs_f64());
    }
    Ok(Outcome::Done)
}

fn test_at(level: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(shell::root()).args(["test", "--locked", "--workspace", "--test", "replay"]);
    cargo.args(["--config", &format!("profile.dev.opt-level={level}")]);
    for name in NAMED {
        cargo.args(["--config", &format!("profile.dev.package.{name}.opt-level={level}")]);
    }
    cargo.args(["--", "states_are"]);
    cargo
}
