//! How long files and lines may be. Function length is clippy's `too_many_lines`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Finding;
use super::tree::{SourceFile, Tree};

/// Lines of a Rust file without its tests.
const FILE_LINES_MAX: usize = 800;
/// Above this, ask what the second responsibility is.
const FILE_LINES_WARN: usize = 500;
/// Two editors side by side.
const LINE_COLUMNS_MAX: usize = 100;

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        check_lines(file, findings);
        if let Some(tokens) = file.rust() {
            check_length(file, tokens, findings);
        }
    }
}

fn check_length(file: &SourceFile, tokens: TokenStream, findings: &mut Vec<Finding>) {
    let is_test = file.path.contains("/tests/") || file.path.ends_with("/tests.rs");
    let Some(text) = file.text().filter(|_| !is_test) else {
        return;
    };
    let lines = text.lines().count() - test_lines(tokens);
    if lines > FILE_LINES_MAX {
        let message = format!("{lines} lines without tests, limit {FILE_LINES_MAX}; split it");
        findings.push(Finding::error(&file.path, 1, message));
    } else if lines > FILE_LINES_WARN {
        let message = format!("{lines} lines without tests; what is its second responsibility?");
        findings.push(Finding::warning(&file.path, 1, message));
    }
}

/// Lines of `#[cfg(test)] mod … { … }`.
fn test_lines(tokens: TokenStream) -> usize {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut lines = 0;
    for (index, token) in tokens.iter().enumerate() {
        let TokenTree::Group(attribute) = token else {
            continue;
        };
        if attribute.stream().to_string() != "cfg (test)" {
            continue;
        }
        let body = tokens[index + 1..].iter().find_map(|token| match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
            _ => None,
        });
        if let Some(body) = body {
            lines += body.span_close().end().line + 1 - attribute.span_open().start().line;
        }
    }
    lines
}

fn check_lines(file: &SourceFile, findings: &mut Vec<Finding>) {
    let is_text = matches!(file.extension(), "md" | "rs" | "sh") || file.path == ".ci/run";
    let Some(text) = file.text().filter(|_| is_text) else {
        return;
    };
    for (index, line) in text.lines().enumerate() {
        let columns = line.chars().count();
        // Tables and addresses cannot be broken.
        let may_be_long = line.contains("://")
            || file.extension() == "md" && (line.starts_with('|') || line.contains("]("));
        if columns > LINE_COLUMNS_MAX && !may_be_long {
            let message = format!("{columns} columns, limit {LINE_COLUMNS_MAX}; break the line");
            findings.push(Finding::error(&file.path, index + 1, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::samples::findings;

    fn constants(count: usize) -> String {
        "const A: u8 = 1;\n".repeat(count)
    }

    #[test]
    fn long_files_are_warned_about_then_refused() {
        for (lines, found) in [
            (500, vec![]),
            (
                501,
                vec![
                    "a.rs:1: warning: 501 lines without tests; what is its second responsibility?",
                ],
            ),
            (
                800,
                vec![
                    "a.rs:1: warning: 800 lines without tests; what is its second responsibility?",
                ],
            ),
            (801, vec!["a.rs:1: error: 801 lines without tests, limit 800; split it"]),
        ] {
            assert_eq!(findings(check, &[("a.rs", &constants(lines))]), found);
        }
    }

    #[test]
    fn tests_do_not_count() {
        let body = constants(400);
        let inline = format!("{body}#[cfg(test)]\nmod tests {{\n{body}}}\n");
        assert_eq!(findings(check, &[("a.rs", &inline)]), [""; 0]);
        let long = constants(900);
        assert_eq!(findings(check, &[("crates/x/tests/a.rs", &long)]), [""; 0]);
    }

    #[test]
    fn long_lines_are_refused_where_they_can_be_broken() {
        let long = "word ".repeat(21);
        let found = findings(check, &[("a.md", &format!("short\n{long}\n"))]);
        assert_eq!(found, ["a.md:2: error: 105 columns, limit 100; break the line"]);
        assert_eq!(findings(check, &[("a.rs", &format!("// {long}\n"))]).len(), 1);
        for fine in [format!("| {long} |\n"), format!("{long} https://example.org\n")] {
            assert_eq!(findings(check, &[("a.md", &fine)]), [""; 0]);
        }
        let accents = "é".repeat(100);
        assert_eq!(findings(check, &[("a.md", &accents)]), [""; 0]);
    }
}
