//! Golden vectors of a released version never change.
//!
//! A folder such as `vectors/arith/v1/` is released when it holds a file `DIGESTS`: one line for
//! each other file below it, `<blake3 in hex>  <path>`. `cargo xtask` writes no such file; adding
//! one is the release, and a later change of it is a visible one.

use super::Finding;
use super::tree::Tree;

const DIGESTS: &str = "DIGESTS";

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for file in &tree.files {
        let folder = file.path.strip_suffix(DIGESTS).unwrap_or_default();
        if folder.starts_with("vectors/") && folder.ends_with('/') {
            let text = file.text().unwrap_or_default();
            check_folder(tree, folder, &file.path, text, findings);
        }
    }
}

fn check_folder(tree: &Tree, folder: &str, digests: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut listed = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let Some((digest, name)) = line.split_once("  ") else {
            let message = "no `<digest>  <path>`, correct the line";
            findings.push(Finding::error(digests, index + 1, message));
            continue;
        };
        let path = format!("{folder}{name}");
        match tree.file(&path) {
            None => {
                let message = format!("`{name}` is gone, restore it: this version is released");
                findings.push(Finding::error(digests, index + 1, message));
            }
            Some(file) if blake3::hash(&file.bytes).to_hex().as_str() != digest => {
                let message = "released vectors are read-only, add a version instead";
                findings.push(Finding::error(&path, 1, message));
            }
            Some(_) => {}
        }
        listed.push(path);
    }
    for file in &tree.files {
        let is_new = file.path.starts_with(folder) && !listed.contains(&file.path);
        if is_new && file.path != digests {
            let message = "not part of the released vectors, add a version instead";
            findings.push(Finding::error(&file.path, 1, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::tidy::samples::findings;

    #[test]
    fn released_vectors_are_read_only() {
        let digest = blake3::hash(b"05 01\n").to_hex();
        let list = format!("{digest}  dot/a.json\n{digest}  gone.json\n{digest}\n");
        let files = [
            ("vectors/arith/v1/DIGESTS", list.as_str()),
            ("vectors/arith/v1/dot/a.json", "05 02\n"),
            ("vectors/arith/v1/new.json", ""),
            ("vectors/arith/v2/a.json", "not released\n"),
        ];
        assert_eq!(
            findings(check, &files),
            [
                "vectors/arith/v1/dot/a.json:1: error: released vectors are read-only, \
                 add a version instead",
                "vectors/arith/v1/DIGESTS:2: error: `gone.json` is gone, restore it: \
                 this version is released",
                "vectors/arith/v1/DIGESTS:3: error: no `<digest>  <path>`, correct the line",
                "vectors/arith/v1/new.json:1: error: not part of the released vectors, \
                 add a version instead",
            ]
        );
    }

    #[test]
    fn unchanged_vectors_pass() {
        let list = format!("{}  a.json\n", blake3::hash(b"05 01\n").to_hex());
        let files = [("vectors/x/v1/DIGESTS", list.as_str()), ("vectors/x/v1/a.json", "05 01\n")];
        assert_eq!(findings(check, &files), [""; 0]);
    }
}
