//! Static programs to run in the guest: the probe, and the tests of a package.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::shell::{self, TaskError};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const STATIC: &str = "target-feature=+crt-static";

/// Compiles the probe into `folder`.
pub(super) fn probe(folder: &Path) -> Result<PathBuf, TaskError> {
    let source = shell::root().join("xtask/src/emulate/probe.rs");
    let program = folder.join("probe");
    let mut rustc = Command::new("rustc");
    rustc.args(["--edition=2024", "-O", "-C", STATIC, "-o"]).arg(&program).arg(&source);
    shell::quiet(&mut rustc, "install Rust")?;
    Ok(program)
}

/// Compiles the tests of a package; the programs in cargo's order.
pub(super) fn tests(package: &str, folder: &Path) -> Result<Vec<PathBuf>, TaskError> {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(shell::root()).env("RUSTFLAGS", format!("-C {STATIC}"));
    cargo.args(["test", "--no-run", "--locked", "--message-format=json", "--target", TARGET]);
    cargo.args(["--package", package]).arg("--target-dir").arg(folder.join("target"));
    cargo.stderr(Stdio::inherit());
    let output = shell::quiet(&mut cargo, "install Rust")?;
    let programs = executables(&String::from_utf8_lossy(&output.stdout));
    if programs.is_empty() {
        return Err(TaskError::Refused(format!("{package} has no tests")));
    }
    Ok(programs)
}

/// A message of cargo, as far as it matters here.
#[derive(Deserialize)]
struct Message {
    executable: Option<PathBuf>,
}

fn executables(messages: &str) -> Vec<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Message>(line).ok());
    messages.filter_map(|message| message.executable).collect()
}

#[cfg(test)]
mod tests {
    use super::executables;
    use std::path::Path;

    #[test]
    fn programs_are_found_among_the_messages() {
        let messages = "{\"reason\":\"compiler-artifact\",\"executable\":null}\n\
                        {\"reason\":\"compiler-artifact\",\"executable\":\"/t/deps/a-1\"}\n\
                        {\"reason\":\"build-finished\",\"success\":true}\n";
        assert_eq!(executables(messages), [Path::new("/t/deps/a-1")]);
    }
}
