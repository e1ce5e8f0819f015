//! Messages and frames of spec 03 as commented hexadecimal digits, one file each.

use std::fmt::Write as _;
use std::path::PathBuf;

use shoal_wire::{Label, Version, examples, labelled, limits};

use crate::files::root;

/// Bytes on a line.
const LINE_BYTES: usize = 16;
/// Columns before a comment.
const COMMENT_COLUMN: usize = LINE_BYTES * 3;
/// The version of the vectors.
const VERSION: Version = Version(1);

/// `vectors/wire/v1/` of the repository.
#[must_use]
pub fn folder() -> PathBuf {
    root().join("vectors/wire/v1")
}

/// Every file: its name and its text.
#[must_use]
pub fn files() -> Vec<(String, String)> {
    let mut files = Vec::new();
    for message in examples::messages() {
        let bytes = message.encode(VERSION).expect("examples are short");
        let (envelope, body) = bytes.split_at(limits::ENVELOPE_BYTES);
        let kind = format!("{}, envelope: kind, version, 0, bytes", message.kind().name());
        let mut text = String::new();
        lines(&mut text, envelope, &kind);
        fields(&mut text, body, &message.labelled().1);
        files.push((format!("{}.hex", message.kind().name()), text));
    }
    for (name, frame) in examples::frames() {
        let (header, labels) = labelled(&frame.header);
        let mut text = String::new();
        fields(&mut text, &header, &labels);
        if let Some(root) = frame.root {
            lines(&mut text, &root.0, "root");
            lines(&mut text, &frame.rows, "rows");
        }
        files.push((format!("frame-{name}.hex"), text));
    }
    files
}

/// A line for each field that holds no others; those that do are a comment of their own.
fn fields(text: &mut String, bytes: &[u8], labels: &[Label]) {
    for (index, label) in labels.iter().enumerate() {
        let next = labels.get(index + 1);
        let end = next.map_or(bytes.len(), |next| next.start);
        let name = format!("{}{}", "  ".repeat(label.depth), label.name);
        lines(text, &bytes[label.start..end], &name);
    }
}

fn lines(text: &mut String, bytes: &[u8], comment: &str) {
    if bytes.is_empty() {
        writeln!(text, "{:COMMENT_COLUMN$}# {comment}", "").expect("a String takes all text");
    }
    for (index, line) in bytes.chunks(LINE_BYTES).enumerate() {
        let digits: Vec<_> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let digits = digits.join(" ");
        match index {
            0 => writeln!(text, "{digits:COMMENT_COLUMN$}# {comment}"),
            _ => writeln!(text, "{digits}"),
        }
        .expect("a String takes all text");
    }
}
