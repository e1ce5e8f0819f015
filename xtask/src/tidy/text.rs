//! Characters and words that no file may hold.

use super::Finding;
use super::tree::{SourceFile, Tree};

/// Words that mark work left undone. Written in two pieces, so that this file passes.
const UNDONE: [&str; 3] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];

/// Absolute paths that only exist where somebody happened to work.
const LOCAL_PATHS: [&str; 4] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
    concat!("/tmp/ba", "sh_jobs"),
];

/// Hosts of package registries: which one is used is the builder's configuration.
const REGISTRY_HOSTS: [&str; 5] = [
    concat!("crates", ".io"),
    concat!("deb.debian", ".org"),
    concat!("pypi", ".org"),
    concat!("pythonhosted", ".org"),
    concat!("registry.npmjs", ".org"),
];

/// Written by tools, or bytes that are what they are.
fn is_exempt(path: &str) -> bool {
    path.ends_with("Cargo.lock") || path.starts_with("vectors/") || path.starts_with("LICENSE-")
}

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        if is_exempt(&file.path) {
            continue;
        }
        if let Some(text) = file.text() {
            check_text(file, text, findings);
        }
    }
}

fn check_text(file: &SourceFile, text: &str, findings: &mut Vec<Finding>) {
    for (index, line) in text.split('\n').enumerate() {
        let mut error = |message: String| {
            findings.push(Finding::error(&file.path, index + 1, message));
        };
        if let Some(character) = line.chars().find(|&character| is_invisible(character)) {
            let code = u32::from(character);
            error(format!("invisible character U+{code:04X}, write it as an escape"));
        }
        if line.ends_with([' ', '\t']) {
            error("space at the end of the line, remove it".to_owned());
        }
        if let Some(word) = UNDONE.iter().find(|word| has_word(line, word)) {
            error(format!("`{word}` marks work left undone, do it or open an issue"));
        }
        if let Some(path) = LOCAL_PATHS.iter().find(|path| has_absolute(line, path)) {
            error(format!("`{path}` is a path of one machine, use a relative path"));
        }
        if let Some(host) = REGISTRY_HOSTS.iter().find(|host| line.contains(*host)) {
            error(format!("`{host}` is a registry host, leave it to the configuration"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') {
        let line = text.lines().count();
        findings.push(Finding::error(&file.path, line, "no line end at the end, add it"));
    }
}

/// Control characters, and those that change how the text around them is shown.
fn is_invisible(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}' | '\u{feff}'
        )
}

fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let is_part = |character: char| character.is_alphanumeric() || character == '_';
        let after = &line[start + word.len()..];
        !line[..start].ends_with(is_part) && !after.starts_with(is_part)
    })
}

/// The path at the start of a word: `docs/home/` is no absolute path.
fn has_absolute(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(start, _)| {
        let is_part = |character: char| character.is_alphanumeric() || "._-~/}".contains(character);
        !line[..start].ends_with(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::{LOCAL_PATHS, REGISTRY_HOSTS, UNDONE, check};
    use crate::tidy::samples::findings;

    fn messages(text: &str) -> Vec<String> {
        findings(check, &[("docs/a.md", text)])
    }

    #[test]
    fn undone_work_is_refused_as_a_word() {
        for word in UNDONE {
            let found = messages(&format!("fine\nhere {word}: later\n"));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with("docs/a.md:2: error: "), "{found:?}");
            assert_eq!(messages(&format!("MY{word}S\n")), [""; 0]);
        }
    }

    #[test]
    fn paths_of_one_machine_are_refused_relative_ones_are_not() {
        for path in LOCAL_PATHS {
            assert_eq!(messages(&format!("see `{path}x`\n")).len(), 1, "{path}");
            assert_eq!(messages(&format!("see docs{path}x\n")), [""; 0], "{path}");
        }
    }

    #[test]
    fn registry_hosts_are_refused_but_in_lock_files() {
        for host in REGISTRY_HOSTS {
            let text = format!("from https://{host}/x\n");
            assert_eq!(messages(&text).len(), 1, "{host}");
            assert_eq!(findings(check, &[("Cargo.lock", &text)]), [""; 0]);
        }
    }

    #[test]
    fn characters_nobody_sees_are_refused() {
        for character in ['\t', '\r', '\u{1b}', '\u{202e}', '\u{feff}', '\u{200b}', '\u{85}'] {
            let found = messages(&format!("a{character}b\n"));
            assert_eq!(found.len(), 1, "{character:?}");
            assert!(found[0].contains("invisible character U+"), "{found:?}");
        }
        assert_eq!(messages("naïve – “quoted” 漢字\n"), [""; 0]);
    }

    #[test]
    fn line_ends_are_clean() {
        assert_eq!(
            messages("a \nb"),
            [
                "docs/a.md:1: error: space at the end of the line, remove it",
                "docs/a.md:2: error: no line end at the end, add it",
            ]
        );
    }
}
