//! The files of the repository, as the rules see them, and the rule about their names.

use std::path::Path;
use std::process::Command;

use proc_macro2::TokenStream;

use super::Finding;
use crate::shell::{self, AtPath, TaskError};

/// Names that say nothing about what is inside.
const BANNED_NAMES: [&str; 6] = ["common", "helper", "helpers", "misc", "util", "utils"];

/// One file.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Relative to the root, with `/`.
    pub(super) path: String,
    pub(super) bytes: Vec<u8>,
    /// The tokens of a Rust file, comments left out; the error's line when it has none.
    pub(super) tokens: Option<Result<TokenStream, usize>>,
}

impl SourceFile {
    fn new(path: String, bytes: Vec<u8>) -> Self {
        let is_rust = Path::new(&path).extension().is_some_and(|extension| extension == "rs");
        let text = std::str::from_utf8(&bytes).ok().filter(|_| is_rust);
        let tokens = text.map(|text| {
            let parsed = text.parse::<TokenStream>();
            parsed.map_err(|error| error.span().start().line)
        });
        Self { path, bytes, tokens }
    }

    /// The text, when the file is UTF-8.
    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// The tokens of a well-formed Rust file.
    pub(super) fn rust(&self) -> Option<TokenStream> {
        self.tokens.as_ref()?.as_ref().ok().cloned()
    }

    /// `md` for `docs/x.md`; empty when there is none.
    pub(super) fn extension(&self) -> &str {
        let extension = Path::new(&self.path).extension();
        extension.and_then(|extension| extension.to_str()).unwrap_or_default()
    }
}

/// All files that are tracked or could be.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) files: Vec<SourceFile>,
}

impl Tree {
    /// Asks git, so that ignored files stay out and new ones are seen before their first commit.
    pub(super) fn read(root: &Path) -> Result<Self, TaskError> {
        let mut git = Command::new("git");
        git.current_dir(root);
        git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
        let output = shell::quiet(&mut git, "install git")?;
        let list = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut files = Vec::new();
        for path in list.split_terminator('\0') {
            let full = root.join(path);
            if full.is_file() {
                files.push(SourceFile::new(path.to_owned(), std::fs::read(&full).at(&full)?));
            }
        }
        Ok(Self { files })
    }

    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| {
            SourceFile::new((*path).to_owned(), text.as_bytes().to_vec())
        };
        Self { files: files.iter().map(file).collect() }
    }

    /// The file at a path.
    pub(super) fn file(&self, path: &str) -> Option<&SourceFile> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// Names of files and folders, and Rust files that are none.
pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        if let Some(Err(line)) = file.tokens {
            findings.push(Finding::error(&file.path, line, "no Rust tokens, repair the syntax"));
        }
        if file.extension() != "rs" {
            continue;
        }
        let path = file.path.trim_end_matches(".rs");
        if let Some(name) = path.split('/').find(|part| BANNED_NAMES.contains(part)) {
            let message = format!("`{name}` says nothing, name the thing it holds");
            findings.push(Finding::error(&file.path, 1, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::samples::findings;

    #[test]
    fn empty_names_are_refused_as_file_and_as_folder() {
        let files = [
            ("crates/base/src/utils.rs", ""),
            ("crates/base/src/helpers/digest.rs", ""),
            ("crates/base/src/utilisation.rs", ""),
        ];
        assert_eq!(
            findings(check, &files),
            [
                "crates/base/src/utils.rs:1: error: \
                 `utils` says nothing, name the thing it holds",
                "crates/base/src/helpers/digest.rs:1: error: \
                 `helpers` says nothing, name the thing it holds",
            ]
        );
    }

    #[test]
    fn a_file_that_is_no_rust_is_reported_where_it_breaks() {
        let files = [("crates/base/src/x.rs", "fn a() {}\nfn b( {}\n")];
        let found = findings(check, &files);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("no Rust tokens"), "{found:?}");
    }
}
