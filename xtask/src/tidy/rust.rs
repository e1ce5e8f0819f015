//! Rules on Rust tokens: `unsafe`, suppressed lints, crate roots.
//!
//! Tokens rather than a syntax tree, so that bodies of macros are seen too.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use super::Finding;
use super::tree::{SourceFile, Tree};

/// Where `unsafe` may appear.
const UNSAFE_FOLDERS: [&str; 3] = ["crates/kernels-cuda/", "crates/kernels/", "crates/store/"];
/// A program the guest of `cargo xtask emulate` runs, compiled on its own.
const UNSAFE_FILE: &str = "xtask/src/emulate/probe.rs";

const SAFETY: &str = "SAFETY";

/// Lints whose expectation, with a reason, lifts the rule here too for the item that follows.
const UNDOCUMENTED: &str = "undocumented_unsafe_blocks";
const ALLOW: &str = "allow_attributes";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        let (Some(tokens), Some(text)) = (file.rust(), file.text()) else {
            continue;
        };
        let lines: Vec<&str> = text.lines().collect();
        let mut walk =
            Walk { file, lines: &lines, may_be_unsafe: may_be_unsafe(&file.path), findings };
        walk.tokens(tokens.clone(), Lifted::default());
        if is_root(&file.path) {
            check_root(file, tokens, findings);
        }
    }
}

fn may_be_unsafe(path: &str) -> bool {
    UNSAFE_FOLDERS.iter().any(|folder| path.starts_with(folder)) || path == UNSAFE_FILE
}

/// The first file of a library or program of this workspace.
fn is_root(path: &str) -> bool {
    let in_workspace = ["crates/", "fuzz/", "testing/", "xtask/"];
    in_workspace.iter().any(|folder| path.starts_with(folder))
        && (path.ends_with("/src/lib.rs") || path.ends_with("/src/main.rs"))
}

struct Walk<'a> {
    file: &'a SourceFile,
    lines: &'a [&'a str],
    may_be_unsafe: bool,
    findings: &'a mut Vec<Finding>,
}

/// Rules lifted by an expectation around the tokens.
#[derive(Clone, Copy, Debug, Default)]
struct Lifted {
    undocumented: bool,
    allow: bool,
}

impl Walk<'_> {
    fn tokens(&mut self, tokens: TokenStream, mut outer: Lifted) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut lifted = outer;
        for (index, token) in tokens.iter().enumerate() {
            match token {
                TokenTree::Ident(ident) if ident == "unsafe" => {
                    self.unsafe_word(ident.span().start().line, tokens.get(index + 1), lifted);
                }
                TokenTree::Punct(end) if end.as_char() == ';' => lifted = outer,
                TokenTree::Group(group) if is_attribute(&tokens[..index]) => {
                    self.attribute(group, &mut lifted);
                    // `#![…]` is about everything around it, `#[…]` about the item that follows.
                    if index > 0 && is_punct(&tokens[index - 1], '!') {
                        outer = lifted;
                    }
                }
                TokenTree::Group(group) => {
                    self.tokens(group.stream(), lifted);
                    if group.delimiter() == Delimiter::Brace {
                        lifted = outer;
                    }
                }
                _ => {}
            }
        }
    }

    fn error(&mut self, line: usize, message: &str) {
        self.findings.push(Finding::error(&self.file.path, line, message));
    }

    fn unsafe_word(&mut self, line: usize, next: Option<&TokenTree>, lifted: Lifted) {
        if !self.may_be_unsafe {
            self.error(line, "`unsafe` outside kernels and store, find a safe way");
            return;
        }
        let needs_reason = match next {
            Some(TokenTree::Group(group)) => group.delimiter() == Delimiter::Brace,
            Some(TokenTree::Ident(word)) => word == "impl",
            _ => false,
        };
        if needs_reason && !lifted.undocumented && !self.is_justified(line) {
            let advice = "`unsafe` without `// SAFETY:` above, name the check that makes it true";
            self.error(line, advice);
        }
    }

    /// Whether the comments and attributes right above a line, or that line, justify `unsafe`. The
    /// start of a statement that ends on `line` is stepped over.
    fn is_justified(&self, line: usize) -> bool {
        let own = self.lines.get(line - 1).is_some_and(|text| text.contains(SAFETY));
        let mut above = self.lines[..line - 1].iter().rev().map(|text| text.trim()).peekable();
        while above.next_if(|text| text.ends_with(['=', '(', '{', '|', ','])).is_some() {}
        let is_comment = |text: &&str| text.starts_with("//") || text.starts_with("#[");
        own || above.take_while(is_comment).any(|text| text.contains(SAFETY))
    }

    fn attribute(&mut self, group: &Group, lifted: &mut Lifted) {
        let line = group.span_open().start().line;
        let tokens: Vec<_> = group.stream().into_iter().collect();
        for (word, arguments) in calls(&tokens) {
            let names = |name| arguments.stream().into_iter().any(|token| is_word(&token, name));
            if word == "allow" && !lifted.allow {
                let advice = "`allow` outlives its cause, use `#[expect(…, reason = \"…\")]`";
                self.error(line, advice);
            }
            if word == "expect" && !names("reason") {
                self.error(line, "`expect` without a reason, add `reason = \"…\"`");
            }
            if word == "expect" {
                lifted.allow |= names(ALLOW);
                lifted.undocumented |= names(UNDOCUMENTED) && self.is_justified(line);
            }
        }
    }
}

/// Every `word(…)`, also inside `cfg_attr(…)`.
fn calls(tokens: &[TokenTree]) -> Vec<(String, Group)> {
    let mut found = Vec::new();
    for pair in tokens.windows(2) {
        if let [TokenTree::Ident(word), TokenTree::Group(arguments)] = pair {
            found.push((word.to_string(), arguments.clone()));
            let inner: Vec<_> = arguments.stream().into_iter().collect();
            found.extend(calls(&inner));
        }
    }
    found
}

/// Whether a group after these tokens is an attribute: `#` or `#!` comes before it.
fn is_attribute(before: &[TokenTree]) -> bool {
    match before {
        [.., hash, bang] if is_punct(bang, '!') => is_punct(hash, '#'),
        [.., hash] => is_punct(hash, '#'),
        [] => false,
    }
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

fn is_word(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == word)
}

fn check_root(file: &SourceFile, tokens: TokenStream, findings: &mut Vec<Finding>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let items = items(&tokens);
    // A root without items has nothing to protect.
    if items.is_empty() {
        return;
    }
    if !may_be_unsafe(&file.path) && !forbids_unsafe(&tokens) {
        let message = "the crate does not forbid unsafe code, add `#![forbid(unsafe_code)]`";
        findings.push(Finding::error(&file.path, 1, message));
    }
    if !file.path.ends_with("/lib.rs") {
        return;
    }
    for item in items {
        let is_entry = match item.kind.as_str() {
            "use" | "extern" => true,
            "mod" => !item.has_body,
            _ => false,
        };
        if !is_entry {
            let message = format!(
                "`{}` in lib.rs, which is a table of contents; move it to a module",
                item.kind
            );
            findings.push(Finding::error(&file.path, item.line, message));
        }
    }
}

fn forbids_unsafe(tokens: &[TokenTree]) -> bool {
    tokens.iter().enumerate().any(|(index, token)| match token {
        TokenTree::Group(group) => {
            is_attribute(&tokens[..index]) && group.stream().to_string() == "forbid (unsafe_code)"
        }
        _ => false,
    })
}

/// A top-level item of a file.
struct Item {
    /// The word that says what it is, or the first word of a macro call.
    kind: String,
    line: usize,
    has_body: bool,
}

/// The items of a file: each ends with `;` or, unless it is a `use`, with braces.
fn items(tokens: &[TokenTree]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut current: Option<Item> = None;
    for (index, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) if current.is_none() && word != "pub" => {
                current = Some(Item {
                    kind: word.to_string(),
                    line: word.span().start().line,
                    has_body: false,
                });
            }
            TokenTree::Punct(end) if end.as_char() == ';' => items.extend(current.take()),
            TokenTree::Group(group)
                if group.delimiter() == Delimiter::Brace && !is_attribute(&tokens[..index]) =>
            {
                if let Some(mut item) = current.take_if(|item| item.kind != "use") {
                    item.has_body = true;
                    items.push(item);
                }
            }
            _ => {}
        }
    }
    items.extend(current);
    items
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::samples::findings;

    fn messages(path: &str, text: &str) -> Vec<String> {
        let found = findings(check, &[(path, text)]);
        found.into_iter().map(|text| text.replace(&format!("{path}:"), "")).collect()
    }

    const KERNEL: &str = "crates/kernels/src/dot.rs";

    #[test]
    fn unsafe_is_refused_outside_its_crates_and_inside_macros() {
        let block = "macro_rules! m { () => { unsafe { f() } } }\n";
        assert_eq!(
            messages("crates/base/src/a.rs", block),
            ["1: error: `unsafe` outside kernels and store, find a safe way"]
        );
        assert_eq!(messages("crates/base/src/a.rs", "const A: &str = \"unsafe\";\n"), [""; 0]);
    }

    #[test]
    fn unsafe_block_needs_its_reason() {
        let missing = "1: error: `unsafe` without `// SAFETY:` above, \
                       name the check that makes it true";
        assert_eq!(messages(KERNEL, "fn a() { unsafe { f() } }\n"), [missing]);
        assert_eq!(messages(KERNEL, "unsafe impl Send for A {}\n"), [missing]);
        for fine in [
            "fn a() {\n    // SAFETY: `f` asks for nothing.\n    unsafe { f() }\n}\n",
            "fn a() {\n    // SAFETY: both,\n    // above.\n    let x =\n  unsafe { f() };\n}\n",
            "fn a() {\n    // SAFETY: seen above.\n    #[cfg(x)]\n    unsafe { f() }\n}\n",
        ] {
            assert_eq!(messages(KERNEL, fine), [""; 0]);
        }
    }

    #[test]
    fn one_reason_may_cover_an_item_when_it_is_given() {
        let item = "#[expect(clippy::undocumented_unsafe_blocks, reason = \"above\")]\n\
                    impl A { fn b() { unsafe { c() } } }\n";
        let reason = "// SAFETY (for every block below): seen by the callers.\n";
        assert_eq!(messages(KERNEL, &format!("{reason}{item}")), [""; 0]);
        assert_eq!(messages(KERNEL, item).len(), 1);
        let file = "// SAFETY: above.\n\
                    #![expect(clippy::undocumented_unsafe_blocks, reason = \"above\")]\n\
                    use a;\nfn b() { unsafe { c() } }\n";
        assert_eq!(messages(KERNEL, file), [""; 0]);
        let next = format!("{reason}{item}fn d() {{ unsafe {{ e() }} }}\n");
        assert_eq!(messages(KERNEL, &next).len(), 1, "only the item that follows");
    }

    #[test]
    fn lints_are_expected_with_a_reason_never_allowed() {
        let allowed = "error: `allow` outlives its cause, use `#[expect(…, reason = \"…\")]`";
        for bad in
            ["#[allow(x)]\nfn a() {}\n", "#![allow(x)]\n", "#[cfg_attr(y, allow(x))]\nfn a() {}\n"]
        {
            assert_eq!(messages("crates/base/src/a.rs", bad), [format!("1: {allowed}")]);
        }
        assert_eq!(
            messages("crates/base/src/a.rs", "#[expect(x)]\nfn a() {}\n"),
            ["1: error: `expect` without a reason, add `reason = \"…\"`"]
        );
        let fine = "#[expect(x, reason = \"measured\")]\nfn a() { b.expect(\"c\").allow(d) }\n";
        assert_eq!(messages("crates/base/src/a.rs", fine), [""; 0]);
        let lifted = "#[expect(clippy::allow_attributes, reason = \"fires at times\")]\n\
                      #[allow(x)]\nfn a() { #[allow(y)] fn b() {} }\n";
        assert_eq!(messages("crates/base/src/a.rs", lifted), [""; 0]);
    }

    #[test]
    fn crate_root_forbids_unsafe_code() {
        let missing = "1: error: the crate does not forbid unsafe code, \
                       add `#![forbid(unsafe_code)]`";
        assert_eq!(messages("crates/base/src/lib.rs", "mod a;\n"), [missing]);
        assert_eq!(messages("xtask/src/main.rs", "fn main() {}\n"), [missing]);
        assert_eq!(messages("crates/kernels/src/lib.rs", "mod a;\n"), [""; 0]);
        assert_eq!(messages("crates/base/src/lib.rs", "//! Nothing yet.\n"), [""; 0]);
    }

    #[test]
    fn crate_root_is_a_table_of_contents() {
        let head = "//! Doc.\n#![forbid(unsafe_code)]\n";
        let fine = format!("{head}#[cfg(x)]\nmod a;\npub mod b;\npub use a::{{A, B}};\n");
        assert_eq!(messages("crates/base/src/lib.rs", &fine), [""; 0]);
        for (item, kind) in [
            ("pub fn f() {}", "fn"),
            ("struct A;", "struct"),
            ("mod a { pub fn f() {} }", "mod"),
            ("impl A {}", "impl"),
            ("const A: u8 = { 1 };", "const"),
            ("macro_rules! m { () => {} }", "macro_rules"),
        ] {
            let found = messages("crates/base/src/lib.rs", &format!("{head}mod b;\n{item}\n"));
            let message = format!(
                "4: error: `{kind}` in lib.rs, which is a table of contents; move it to a module"
            );
            assert_eq!(found, [message], "{item}");
        }
    }
}
