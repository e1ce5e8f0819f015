//! Tables of constants in the specification equal the constants in the code.
//!
//! A comment names the file, the next table lists the constants:
//!
//! ```markdown
//! <!-- constants: crates/arith/src/limits.rs -->
//! | name | value | meaning |
//! |---|---|---|
//! | `BLOCK` | `32` | elements that share a multiplier |
//! ```
//!
//! Values are written as in Rust. A constant inside `impl Limits` or `mod limits` may be named
//! `Limits::BLOCK`. With `complete` after the path, every constant of the file must be listed.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

use super::Finding;
use super::tree::{SourceFile, Tree};
use super::value::{Scope, Value, evaluate};

const MARKER: &str = "<!-- constants:";
const MARKER_END: &str = "-->";
const COMPLETE: &str = "complete";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        if !file.path.starts_with("docs/spec/") || file.extension() != "md" {
            continue;
        }
        for (index, line) in file.text().unwrap_or_default().lines().enumerate() {
            if let Some(marker) = line.trim().strip_prefix(MARKER) {
                check_table(tree, file, index + 1, marker, findings);
            }
        }
    }
}

fn check_table(
    tree: &Tree,
    spec: &SourceFile,
    marker_line: usize,
    marker: &str,
    findings: &mut Vec<Finding>,
) {
    let mut words = marker.trim().trim_end_matches(MARKER_END).split_whitespace();
    let path = words.next().unwrap_or_default();
    let is_complete = words.next() == Some(COMPLETE);
    let Some(tokens) = tree.file(path).and_then(SourceFile::rust) else {
        let message = format!("`{path}` is no Rust file here, correct the marker");
        findings.push(Finding::error(&spec.path, marker_line, message));
        return;
    };
    let code = Constants::of(tokens);
    let Some(rows) = rows(spec.text().unwrap_or_default(), marker_line) else {
        let message = "no table with the columns `name` and `value` follows, add it";
        findings.push(Finding::error(&spec.path, marker_line, message));
        return;
    };
    let mut listed = Vec::new();
    for row in &rows {
        match code.compare(row) {
            Ok(name) => listed.push(name),
            Err(message) => {
                let message = format!("`{}`: {message} ({path})", row.name);
                findings.push(Finding::error(&spec.path, row.line, message));
                listed.extend(code.find(&row.name).map(|constant| constant.name.clone()));
            }
        }
    }
    if is_complete {
        for constant in code.0.iter().filter(|constant| !listed.contains(&constant.name)) {
            let message = format!("`{}` is not in the table of {}", constant.name, spec.path);
            findings.push(Finding::error(path, constant.line, message + ", add it"));
        }
    }
}

/// One line of a table.
#[derive(Debug)]
struct Row {
    line: usize,
    name: String,
    value: String,
}

/// The rows of the table after a line; `None` when there is none with the two columns.
fn rows(text: &str, marker_line: usize) -> Option<Vec<Row>> {
    let mut lines = text.lines().enumerate().skip(marker_line);
    let (_, header) = lines.find(|(_, line)| !line.trim().is_empty())?;
    let header = cells(header)?;
    let name = header.iter().position(|cell| cell == "name")?;
    let value = header.iter().position(|cell| cell == "value")?;
    let mut rows = Vec::new();
    for (index, line) in lines.skip(1).take_while(|(_, line)| line.starts_with('|')) {
        let cells = cells(line)?;
        rows.push(Row {
            line: index + 1,
            name: cells.get(name)?.clone(),
            value: cells.get(value)?.clone(),
        });
    }
    Some(rows)
}

/// The cells of a table line, without the backticks around them; `\|` stands for `|`.
fn cells(line: &str) -> Option<Vec<String>> {
    let line = line.trim().strip_prefix('|')?.strip_suffix('|')?.replace("\\|", "\0");
    let cell = |cell: &str| cell.trim().trim_matches('`').replace('\0', "|");
    Some(line.split('|').map(cell).collect())
}

/// A constant in the code.
#[derive(Debug)]
struct Constant {
    /// With the names of the modules and types around it.
    name: String,
    line: usize,
    is_f32: bool,
    value: TokenStream,
}

/// The constants of one file, its tests left out.
struct Constants(Vec<Constant>);

impl Constants {
    fn of(tokens: TokenStream) -> Self {
        let mut found = Vec::new();
        collect(tokens, "", &mut found);
        Self(found)
    }

    /// The constant with this name, or the only one that ends with it.
    fn find(&self, name: &str) -> Option<&Constant> {
        let exact = self.0.iter().find(|constant| constant.name == name);
        exact.or_else(|| {
            let ending = format!("::{name}");
            let mut matches = self.0.iter().filter(|constant| constant.name.ends_with(&ending));
            matches.next().filter(|_| matches.next().is_none())
        })
    }

    /// Everything by its full and, where it is the only one, by its last name.
    fn scope(&self) -> Scope {
        let mut scope = BTreeMap::new();
        for constant in &self.0 {
            let last = constant.name.rsplit("::").next().unwrap_or_default();
            for name in [constant.name.as_str(), last] {
                if let Some(found) = self.find(name) {
                    scope.insert(name.to_owned(), found.value.clone());
                }
            }
        }
        scope
    }

    /// The full name of the constant when it has the value of the row.
    fn compare(&self, row: &Row) -> Result<String, String> {
        let constant = self
            .find(&row.name)
            .ok_or("no such constant in the code, or several; name its type too")?;
        let spec = row.value.parse().ok().and_then(|tokens| evaluate(tokens, &Scope::new()));
        let spec = spec.ok_or_else(|| format!("`{}` is no constant value", row.value))?;
        let code = evaluate(constant.value.clone(), &self.scope()).ok_or_else(|| {
            format!("line {}: this expression cannot be compared, simplify it", constant.line)
        })?;
        let (spec, code) = match constant.is_f32 {
            true => (to_f32(spec), to_f32(code)),
            false => (spec, code),
        };
        if spec == code {
            return Ok(constant.name.clone());
        }
        Err(format!("{spec} here, {code} in line {}; make them equal", constant.line))
    }
}

/// Two decimal forms of one `f32` are the same constant.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is the purpose")]
fn to_f32(value: Value) -> Value {
    match value {
        Value::Float(value) => Value::Float(f64::from(value as f32)),
        Value::List(values) => Value::List(values.into_iter().map(to_f32).collect()),
        other => other,
    }
}

fn collect(tokens: TokenStream, scope: &str, found: &mut Vec<Constant>) {
    let tokens: Vec<_> = tokens.into_iter().collect();
    let mut index = 0;
    let mut is_test = false;
    // The last name before braces: that of a module, or the type an `impl` is for.
    let mut owner = None;
    while let Some(token) = tokens.get(index) {
        match token {
            TokenTree::Ident(word) if word == "const" => {
                let is_pointer = index > 0 && is_punct(&tokens[index - 1], '*');
                if !is_pointer {
                    found.extend(constant(&tokens[index + 1..], scope));
                }
            }
            TokenTree::Ident(word) if word != "for" => owner = Some(word.to_string()),
            TokenTree::Punct(end) if end.as_char() == ';' => (owner, is_test) = (None, false),
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                if !is_test {
                    let owner = owner.take().unwrap_or_default();
                    let scope = if scope.is_empty() { owner } else { format!("{scope}::{owner}") };
                    collect(group.stream(), &scope, found);
                }
                is_test = false;
            }
            TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => {
                is_test |= group.stream().to_string() == "cfg (test)";
            }
            _ => {}
        }
        index += 1;
    }
}

/// `NAME: T = value;` after the word `const`; `None` for `const fn` and const generics.
fn constant(tokens: &[TokenTree], scope: &str) -> Option<Constant> {
    let (TokenTree::Ident(name), TokenTree::Punct(colon)) = (tokens.first()?, tokens.get(1)?)
    else {
        return None;
    };
    let end = tokens.iter().position(|token| is_punct(token, ';'))?;
    let equals = tokens.iter().position(|token| is_punct(token, '='))?;
    if colon.as_char() != ':' || equals > end || name == "_" {
        return None;
    }
    // A const generic is closed, or followed by another, before any `=`.
    let kind = &tokens[2..equals];
    let opened = kind.iter().filter(|token| is_punct(token, '<')).count();
    let closed = kind.iter().filter(|token| is_punct(token, '>')).count();
    if closed > opened || kind.iter().any(|token| is_punct(token, ',')) && opened == 0 {
        return None;
    }
    let kind: TokenStream = kind.iter().cloned().collect();
    let name_text = match scope {
        "" => name.to_string(),
        scope => format!("{scope}::{name}"),
    };
    Some(Constant {
        name: name_text,
        line: name.span().start().line,
        is_f32: kind.to_string().contains("f32"),
        value: tokens[equals + 1..end].iter().cloned().collect(),
    })
}

fn is_punct(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::samples::findings;

    const CODE: &str = "\
pub const BLOCK: usize = 32;
pub const GROUP: usize = BLOCK * 8;
pub const TAG: &str = \"shoal/tile/v1\";
const EPSILON: f32 = 1e-5;
pub struct Limits;
impl Limits {
    pub const BYTES_MAX: u64 = 8 << 20;
}
fn generic<const N: usize>(x: *const u8) { let y = N; }
const fn f() {}
const _: () = { assert!(BLOCK == 32); };
#[cfg(test)]
mod tests { const SAMPLE: u8 = 1; }
";

    fn check_rows(marker: &str, rows: &str) -> Vec<String> {
        let spec =
            format!("# 1\n\n<!-- constants: {marker} -->\n| name | value |\n|---|---|\n{rows}\n");
        findings(check, &[("docs/spec/01-a.md", &spec), ("crates/arith/src/a.rs", CODE)])
    }

    const PATH: &str = "crates/arith/src/a.rs";

    #[test]
    fn equal_constants_pass() {
        let rows = "| `BLOCK` | `0x20` |\n| `GROUP` | 256 |\n| TAG | `\"shoal/tile/v1\"` |\n\
                    | EPSILON | 0.00001 |\n| `Limits::BYTES_MAX` | `1 << 23` |\n";
        assert_eq!(check_rows(&format!("{PATH} complete"), rows), [""; 0]);
        assert_eq!(check_rows(PATH, "| BYTES_MAX | 8388608 |\n"), [""; 0]);
    }

    #[test]
    fn a_different_value_names_both() {
        assert_eq!(
            check_rows(PATH, "| BLOCK | 32 |\n| GROUP | 255 |\n"),
            ["docs/spec/01-a.md:7: error: `GROUP`: 255 here, 256 in line 2; make them equal \
              (crates/arith/src/a.rs)"]
        );
    }

    #[test]
    fn a_constant_the_code_lacks_is_named() {
        assert_eq!(
            check_rows(PATH, "| SAMPLE | 1 |\n"),
            ["docs/spec/01-a.md:6: error: `SAMPLE`: no such constant in the code, or several; \
              name its type too (crates/arith/src/a.rs)"]
        );
    }

    #[test]
    fn complete_tables_miss_nothing() {
        let found = check_rows(&format!("{PATH} complete"), "| BLOCK | 32 |\n| TAG | 1 |\n");
        let missing = |line, name| {
            format!(
                "{PATH}:{line}: error: `{name}` is not in the table of docs/spec/01-a.md, add it"
            )
        };
        assert!(found[0].contains("`TAG`: 1 here, \"shoal/tile/v1\" in line 3"), "{found:?}");
        let names = [missing(2, "GROUP"), missing(4, "EPSILON"), missing(7, "Limits::BYTES_MAX")];
        assert_eq!(found[1..], names);
    }

    #[test]
    fn markers_must_lead_somewhere() {
        assert_eq!(
            check_rows("crates/arith/src/b.rs", ""),
            ["docs/spec/01-a.md:3: error: `crates/arith/src/b.rs` is no Rust file here, \
              correct the marker"]
        );
        let spec = format!("<!-- constants: {PATH} -->\nNo table.\n");
        assert_eq!(
            findings(check, &[("docs/spec/01-a.md", &spec), (PATH, CODE)]),
            ["docs/spec/01-a.md:1: error: no table with the columns `name` and `value` follows, \
              add it"]
        );
    }

    #[test]
    fn values_that_are_none_are_refused() {
        let found = check_rows(PATH, "| BLOCK | about 32 |\n");
        assert!(found[0].contains("`about 32` is no constant value"), "{found:?}");
    }
}
