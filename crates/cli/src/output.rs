//! Standard output and standard error. A reader that went away ends the command quietly.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::failure::{Code, Failure};

/// Writes to standard output, and on to whoever reads it.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| closed(&error))
}

/// Writes a line.
pub(crate) fn line(line: &str) -> Result<(), Failure> {
    text(&format!("{line}\n"))
}

/// Writes one JSON value on one line.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Failure> {
    let value = serde_json::to_string(value).expect("output is plain JSON");
    line(&value)
}

/// A note for people, on standard error. Where nobody reads it there is nobody to tell.
pub(crate) fn note(note: &str) {
    let _ = writeln!(io::stderr().lock(), "{note}");
}

/// Says why the command ended.
pub(crate) fn failure(failure: &Failure, json: bool) {
    match (failure.code, json) {
        (Code::OutputClosed, _) => {}
        (_, true) => note(&failure.to_json().to_string()),
        (_, false) => note(&format!("error: {}", failure.message)),
    }
}

/// A number of bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    indicatif::BinaryBytes(bytes).to_string()
}

fn closed(error: &io::Error) -> Failure {
    let code = match error.kind() {
        io::ErrorKind::BrokenPipe => Code::OutputClosed,
        io::ErrorKind::StorageFull => Code::NoRoom,
        _ => Code::Failed,
    };
    Failure::new(code, format!("standard output: {error}"))
}
