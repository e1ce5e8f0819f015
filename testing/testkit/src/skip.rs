//! Tests that need what a machine may lack: real data, hardware, privileges.
//!
//! Such a test says so and returns. `cargo xtask check` counts and prints the reasons, whatever
//! the test runner does with the output of tests that pass.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Names the folder with real inputs.
const DATA_VARIABLE: &str = "SHOAL_TEST_DATA";
/// Names the file that collects the reasons, one line each.
const LOG_VARIABLE: &str = "SHOAL_SKIP_LOG";

/// The folder with real inputs, or `None` after saying that the test is skipped.
///
/// # Panics
/// When the variable names something that is no folder: a wrong path must not look like a skip.
#[must_use]
pub fn shared_data() -> Option<PathBuf> {
    let Some(folder) = std::env::var_os(DATA_VARIABLE) else {
        skip("no shared data");
        return None;
    };
    let folder = PathBuf::from(folder);
    assert!(folder.is_dir(), "{DATA_VARIABLE} is {}, which is no folder", folder.display());
    Some(folder)
}

/// Says that the calling test is skipped, and why: `no CUDA device`. The test then returns.
///
/// # Panics
/// When the file that collects the reasons cannot be written.
#[expect(clippy::print_stderr, reason = "the reason is for whoever runs the tests")]
pub fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    if let Some(log) = std::env::var_os(LOG_VARIABLE) {
        append(Path::new(&log), reason).expect("the file for reasons is writable");
    }
}

/// One write of one line: lines of tests that run at once do not mix.
fn append(log: &Path, reason: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(log)?;
    file.write_all(format!("{}\n", reason.replace('\n', " ")).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::append;

    #[test]
    fn reasons_are_appended_one_per_line() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        append(&log, "no CUDA device").unwrap();
        append(&log, "two\nlines").unwrap();
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "no CUDA device\ntwo lines\n");
    }
}
