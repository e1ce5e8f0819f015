//! Running other programs and naming what went wrong.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum TaskError {
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("cannot start `{program}`: {source}; {hint}")]
    Missing { program: String, hint: &'static str, source: std::io::Error },
    #[error("`{command}` failed: {status}{output}")]
    Failed { command: String, status: std::process::ExitStatus, output: String },
    #[error("{0}")]
    Refused(String),
}

/// Attaches the path to an I/O error.
pub(crate) trait AtPath<T> {
    fn at(self, path: &Path) -> Result<T, TaskError>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, path: &Path) -> Result<T, TaskError> {
        self.map_err(|source| TaskError::File { path: path.to_owned(), source })
    }
}

/// The repository root: the parent of this package.
pub(crate) fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_owned()
}

/// Runs a command to its end; its output is kept and shown only when it fails.
pub(crate) fn quiet(command: &mut Command, hint: &'static str) -> Result<Output, TaskError> {
    let output = command.output().map_err(|source| TaskError::Missing {
        program: text(command.get_program()),
        hint,
        source,
    })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(TaskError::Failed {
        command: describe(command),
        status: output.status,
        output: format!(
            "\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
    })
}

/// Runs a command to its end with its output on the terminal.
pub(crate) fn loud(command: &mut Command, hint: &'static str) -> Result<(), TaskError> {
    let status = command.status().map_err(|source| TaskError::Missing {
        program: text(command.get_program()),
        hint,
        source,
    })?;
    if status.success() {
        return Ok(());
    }
    Err(TaskError::Failed { command: describe(command), status, output: String::new() })
}

/// A command as one would type it.
fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(text).collect::<Vec<_>>().join(" ")
}

fn text(word: &OsStr) -> String {
    word.to_string_lossy().into_owned()
}
