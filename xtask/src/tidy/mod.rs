//! `cargo xtask tidy`: the rules of this repository that no compiler or lint checks.
//!
//! Each file holds one family of rules and shows in its tests that every rule fails on a bad
//! sample. A rule only reads; the output is `file:line: error: what is wrong, what to do`.
//! Function length, line width of code and undocumented `unsafe` inside macros are left to rustfmt
//! and clippy where they see more.

mod constants;
mod crates;
mod deny;
mod rust;
mod size;
mod text;
mod tree;
mod value;
mod vectors;

use crate::shell::{self, TaskError};
use tree::Tree;

/// Whether a finding fails the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Severity {
    Error,
    Warning,
}

/// One broken rule at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Finding {
    path: String,
    /// Counted from 1.
    line: usize,
    severity: Severity,
    /// What is wrong, and what to do.
    message: String,
}

impl Finding {
    fn error(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, severity: Severity::Error, message: message.into() }
    }

    fn warning(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(path, line, message) }
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}:{}: {severity}: {}", self.path, self.line, self.message)
    }
}

/// Rules that need nothing but the files.
const RULES: [fn(&Tree, &mut Vec<Finding>); 6] =
    [constants::check, rust::check, size::check, text::check, tree::check, vectors::check];

pub(crate) fn run() -> Result<(), TaskError> {
    let root = shell::root();
    let tree = Tree::read(&root)?;
    let mut findings = Vec::new();
    for rule in RULES {
        rule(&tree, &mut findings);
    }
    let metadata = crates::Metadata::read(&root)?;
    crates::check(&metadata, &tree, &mut findings);
    deny::check(&metadata, &tree, &mut findings);

    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    match errors {
        0 => Ok(()),
        1 => Err(TaskError::Refused("tidy found 1 error".to_owned())),
        _ => Err(TaskError::Refused(format!("tidy found {errors} errors"))),
    }
}

#[cfg(test)]
mod samples {
    //! What the tests of the rules share.

    use super::{Finding, Tree};

    /// The findings of a rule on files given as `(path, text)`, as printed.
    pub(super) fn findings(
        rule: fn(&Tree, &mut Vec<Finding>),
        files: &[(&str, &str)],
    ) -> Vec<String> {
        let mut found = Vec::new();
        rule(&Tree::of(files), &mut found);
        found.iter().map(ToString::to_string).collect()
    }
}
