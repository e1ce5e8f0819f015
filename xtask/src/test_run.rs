//! Runs the tests of the workspace and sums them up: passed, failed, and those that skipped
//! themselves for want of data or hardware.
//!
//! Uses nextest where it is installed, else `cargo test`. A test that skips itself appends its
//! reason to the file named by [`SKIP_LOG`] (see `testing/testkit`), so that skips are counted
//! whatever the runner does with the output of tests that pass.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::shell::{self, AtPath, TaskError};

const SKIP_LOG: &str = "SHOAL_SKIP_LOG";

/// What the runner said.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) passed: bool,
    line: String,
    /// Reason, and how many tests gave it.
    skipped: BTreeMap<String, usize>,
}

impl Summary {
    pub(crate) fn print(&self) {
        for (reason, count) in &self.skipped {
            println!("skipped: {reason} ({count} tests)");
        }
        println!("{}", self.line);
    }
}

pub(crate) fn run() -> Result<Summary, TaskError> {
    let log = shell::root().join("target/skipped-tests.txt");
    std::fs::write(&log, "").at(&log)?;
    let (passed, line) = if has_nextest() { nextest(&log)? } else { cargo_test(&log)? };
    Ok(Summary { passed, line, skipped: reasons(&std::fs::read_to_string(&log).at(&log)?) })
}

fn reasons(log: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for reason in log.lines() {
        *counts.entry(reason.to_owned()).or_default() += 1;
    }
    counts
}

fn has_nextest() -> bool {
    let version = Command::new("cargo").args(["nextest", "--version"]).output();
    version.is_ok_and(|output| output.status.success())
}

fn nextest(log: &Path) -> Result<(bool, String), TaskError> {
    let run = ["nextest", "run", "--workspace", "--locked", "--profile", "ci"];
    let (passed, lines) = watch(&run, log, Stream::Error)?;
    let summary = lines.iter().rev().find(|line| line.trim_start().starts_with("Summary ["));
    let line = summary.map_or("no test ran", |line| line.trim()).to_owned();
    // nextest leaves out the examples in the documentation.
    let (examples, _) = watch(&["test", "--workspace", "--locked", "--doc"], log, Stream::Output)?;
    Ok((passed && examples, line))
}

fn cargo_test(log: &Path) -> Result<(bool, String), TaskError> {
    let run = ["test", "--workspace", "--locked", "--no-fail-fast"];
    let (passed, lines) = watch(&run, log, Stream::Output)?;
    Ok((passed, Counts::of(&lines).to_string()))
}

/// Where a runner writes its results.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stream {
    Output,
    Error,
}

/// Runs cargo, shows one of its streams as it comes and keeps it.
fn watch(arguments: &[&str], log: &Path, stream: Stream) -> Result<(bool, Vec<String>), TaskError> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(shell::root()).args(arguments).env(SKIP_LOG, absolute(log));
    match stream {
        Stream::Output => cargo.stdout(Stdio::piped()),
        Stream::Error => cargo.stderr(Stdio::piped()),
    };
    let missing =
        |source| TaskError::Missing { program: "cargo".to_owned(), hint: "install Rust", source };
    let mut child = cargo.spawn().map_err(missing)?;
    let pipe: Option<Box<dyn Read>> = match stream {
        Stream::Output => child.stdout.take().map(|pipe| Box::new(pipe) as _),
        Stream::Error => child.stderr.take().map(|pipe| Box::new(pipe) as _),
    };
    let mut lines = Vec::new();
    for line in pipe.into_iter().flat_map(|pipe| BufReader::new(pipe).split(b'\n')) {
        let line = String::from_utf8_lossy(&line.map_err(missing)?).into_owned();
        println!("{line}");
        lines.push(line);
    }
    Ok((child.wait().map_err(missing)?.success(), lines))
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// Sums of the result lines of `cargo test`, one per program.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    fn of(lines: &[String]) -> Self {
        let mut counts = Self::default();
        for line in lines.iter().filter_map(|line| line.strip_prefix("test result: ")) {
            for part in line.split(['.', ';']) {
                let Some((number, word)) = part.trim().split_once(' ') else {
                    continue;
                };
                let number: u64 = number.parse().unwrap_or(0);
                match word {
                    "passed" => counts.passed += number,
                    "failed" => counts.failed += number,
                    "ignored" => counts.ignored += number,
                    _ => {}
                }
            }
        }
        counts
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { passed, failed, ignored } = self;
        let all = passed + failed;
        write!(f, "Summary: {all} tests run: {passed} passed, {failed} failed, {ignored} ignored")
    }
}

#[cfg(test)]
mod tests {
    use super::{Counts, reasons};

    #[test]
    fn results_of_all_programs_are_added() {
        let lines = [
            "test a ... ok",
            "test result: ok. 45 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
             finished in 0.02s",
            "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; \
             finished in 1.50s",
        ];
        let counts = Counts::of(&lines.map(str::to_owned));
        assert_eq!(counts.to_string(), "Summary: 50 tests run: 48 passed, 2 failed, 1 ignored");
    }

    #[test]
    fn skips_are_counted_by_reason() {
        let counts: Vec<_> =
            reasons("no CUDA device\nno shared data\nno CUDA device\n").into_iter().collect();
        assert_eq!(counts, [("no CUDA device".to_owned(), 2), ("no shared data".to_owned(), 1)]);
    }
}
