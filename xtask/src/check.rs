//! `cargo xtask check`: everything a change must pass, in the order in which it fails fastest.
//!
//! A step that fails does not hide those after it. The tests come last and their summary is the
//! last line.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::shell::{self, TaskError};
use crate::{browser, clients, fuzz_smoke, static_binary, test_run, tidy};

/// Requests that schemathesis makes up for each operation: few, because every change waits.
const SCHEMA_EXAMPLES: u32 = 8;

/// Arguments of `cargo xtask check`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run `cargo deny` too, which must be installed
    #[arg(long)]
    full: bool,
    /// Try real clients and the console in a browser too; some of it comes from registries, and
    /// where they cannot be reached it is skipped
    #[arg(long)]
    clients: bool,
}

/// How a step ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done,
    /// Not applicable here, and why.
    Skipped(String),
}

type Step = (&'static str, fn() -> Result<Outcome, TaskError>);

const STEPS: [Step; 6] = [
    ("format", format),
    ("tidy", || tidy::run().map(|()| Outcome::Done)),
    ("lints", lints),
    ("documentation", documentation),
    ("fuzz smoke", || fuzz_smoke::run(&fuzz_smoke::Args::default())),
    ("static binary", static_binary::run),
];

pub(crate) fn run(args: &Args) -> Result<(), TaskError> {
    let mut report = Report::default();
    for (name, step) in STEPS {
        report.step(name, step);
    }
    if args.full {
        report.step("cargo deny", deny);
    }
    if args.clients {
        clients::steps(&mut report, Some(SCHEMA_EXAMPLES));
        report.step("browser", browser::step);
    }
    let mut summary = None;
    report.step("tests", || {
        let result = test_run::run()?;
        let passed = result.passed;
        summary = Some(result);
        if passed {
            return Ok(Outcome::Done);
        }
        Err(TaskError::Refused("tests failed".to_owned()))
    });
    report.print();
    if let Some(result) = summary {
        result.print();
    }
    report.result()
}

/// What happened, step by step.
#[derive(Default)]
pub(crate) struct Report {
    steps: Vec<(&'static str, Duration, Result<Outcome, TaskError>)>,
}

impl Report {
    pub(crate) fn step(
        &mut self,
        name: &'static str,
        run: impl FnOnce() -> Result<Outcome, TaskError>,
    ) {
        println!("== {name}");
        let started = Instant::now();
        let result = run();
        if let Err(error) = &result {
            println!("error: {error}");
        }
        self.steps.push((name, started.elapsed(), result));
    }

    pub(crate) fn print(&self) {
        println!("== summary");
        for (name, duration, result) in &self.steps {
            let outcome = match result {
                Ok(Outcome::Done) => "ok".to_owned(),
                Ok(Outcome::Skipped(reason)) => format!("skipped: {reason}"),
                Err(_) => "FAILED".to_owned(),
            };
            println!("{name:<14} {:>7.1} s  {outcome}", duration.as_secs_f64());
        }
        let sum: Duration = self.steps.iter().map(|(_, duration, _)| *duration).sum();
        println!("{:<14} {:>7.1} s", "sum", sum.as_secs_f64());
        let skipped =
            |step: &&(_, _, Result<Outcome, _>)| matches!(step.2, Ok(Outcome::Skipped(_)));
        match self.steps.iter().filter(skipped).count() {
            0 => {}
            count => println!("{count} of {} steps were skipped", self.steps.len()),
        }
    }

    pub(crate) fn result(&self) -> Result<(), TaskError> {
        let failed = self.steps.iter().filter(|(.., result)| result.is_err());
        let names: Vec<_> = failed.map(|(name, ..)| *name).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(TaskError::Refused(format!("failed: {}", names.join(", "))))
    }
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(shell::root()).args(arguments);
    cargo
}

fn format() -> Result<Outcome, TaskError> {
    shell::loud(&mut cargo(&["fmt", "--all", "--check"]), "install rustfmt")?;
    let fuzz = ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"];
    shell::loud(&mut cargo(&fuzz), "install rustfmt")?;
    Ok(Outcome::Done)
}

/// Warnings fail on the compiler the project names. A later one may know lints that nobody here
/// has seen, so there they are only shown.
fn lints() -> Result<Outcome, TaskError> {
    let mut clippy = cargo(&["clippy", "--workspace", "--all-targets", "--locked"]);
    if compiler_is_named()? {
        clippy.args(["--", "--deny", "warnings"]);
    } else {
        println!("another compiler than `rust-version` names: warnings do not fail");
    }
    shell::loud(&mut clippy, "install clippy")?;
    Ok(Outcome::Done)
}

fn compiler_is_named() -> Result<bool, TaskError> {
    let output = shell::quiet(Command::new("rustc").arg("--version"), "install Rust")?;
    let version = String::from_utf8_lossy(&output.stdout);
    let named = concat!("rustc ", env!("CARGO_PKG_RUST_VERSION"), ".");
    Ok(version.starts_with(named))
}

fn documentation() -> Result<Outcome, TaskError> {
    let mut doc =
        cargo(&["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
    // Private items are documented here too, so links to them lead somewhere.
    doc.env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private_intra_doc_links");
    shell::loud(&mut doc, "install Rust")?;
    Ok(Outcome::Done)
}

fn deny() -> Result<Outcome, TaskError> {
    let mut deny = cargo(&["deny", "check", "bans", "licenses", "sources"]);
    shell::loud(&mut deny, "cargo install --locked cargo-deny")?;
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::{Outcome, Report};
    use crate::shell::TaskError;

    #[test]
    fn a_failed_step_fails_the_run_and_the_next_one_still_runs() {
        let mut report = Report::default();
        report.step("a", || Err(TaskError::Refused("no".to_owned())));
        report.step("b", || Ok(Outcome::Skipped("nothing here".to_owned())));
        report.step("c", || Ok(Outcome::Done));
        assert_eq!(report.steps.len(), 3);
        let message = report.result().map_err(|error| error.to_string());
        assert_eq!(message, Err("failed: a".to_owned()));
    }
}
