//! `cargo xtask soak`: the checks that take too long for every change.
//!
//! All combinations of the same-bytes test, the vectors by every implementation, a training run at
//! every optimisation level, many more inputs for every fuzz target, the endpoint under clients
//! that behave badly, 200 stages killed or frozen in the middle of answers, and the kernels on
//! emulated CPUs with AVX-512. What a machine lacks is skipped and said.

use std::process::{Command, Stdio};

use crate::check::{Outcome, Report};
use crate::shell::{self, TaskError};
use crate::{emulate, endpoint_soak, fuzz_smoke, replay};

/// Arguments of `cargo xtask soak`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Inputs per fuzz target; the default takes about a quarter of an hour
    #[arg(long, default_value_t = 400_000)]
    fuzz_inputs: u32,
    /// Leave out the emulated CPUs, which take hours
    #[arg(long)]
    no_emulation: bool,
    #[command(flatten)]
    endpoint: endpoint_soak::EndpointArgs,
}

/// The second implementations, which know only the specification.
const SCRIPTS: [&str; 2] = ["bench/fixtures/arith_check.py", "bench/fixtures/package_check.py"];

pub(crate) fn run(args: &Args) -> Result<(), TaskError> {
    let mut report = Report::default();
    report.step("endpoint", || endpoint_soak::run(&args.endpoint));
    if args.endpoint.endpoint_only {
        report.print();
        return report.result();
    }
    report.step("same bytes", same_bytes);
    report.step("vectors", vectors);
    report.step("second opinion", second_opinion);
    report.step("replay", replay::all);
    report.step("kills", kills);
    report.step("fuzz", || fuzz_smoke::run(&fuzz_smoke::Args::with_inputs(args.fuzz_inputs)));
    if !args.no_emulation {
        report.step("emulation", emulate::conformance);
    }
    report.print();
    report.result()
}

fn same_bytes() -> Result<Outcome, TaskError> {
    let mut cargo = cargo_test();
    cargo.args(["--package", "shoal-engine", "--test", "same_bytes"]).env("SHOAL_SOAK", "1");
    shell::loud(&mut cargo, "install Rust")?;
    Ok(Outcome::Done)
}

fn kills() -> Result<Outcome, TaskError> {
    let mut cargo = cargo_test();
    cargo.args(["--package", "shoal-cli", "--test", "shoal", "netlab", "--", "--nocapture"]);
    shell::loud(cargo.env("SHOAL_SOAK", "1"), "install Rust")?;
    Ok(Outcome::Done)
}

fn vectors() -> Result<Outcome, TaskError> {
    let mut cargo = cargo_test();
    cargo.args(["--workspace", "--test", "vectors", "--test", "package_vectors"]);
    shell::loud(&mut cargo, "install Rust")?;
    Ok(Outcome::Done)
}

fn cargo_test() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(shell::root()).args(["test", "--locked", "--release"]);
    cargo
}

fn second_opinion() -> Result<Outcome, TaskError> {
    let mut probe = Command::new("python3");
    probe.args(["-c", "import numpy"]).stdout(Stdio::null()).stderr(Stdio::null());
    if !probe.status().is_ok_and(|status| status.success()) {
        return Ok(Outcome::Skipped("no python3 with numpy".to_owned()));
    }
    for script in SCRIPTS {
        let mut python = Command::new("python3");
        shell::loud(python.current_dir(shell::root()).arg(script), "install Python")?;
    }
    Ok(Outcome::Done)
}
