//! The files and what they hold.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{attention, element, linear, noise, norm, quantize, rope, sampling, scalar};

/// `vectors/arith/v1/` of the repository.
#[must_use]
pub fn folder() -> PathBuf {
    root().join("vectors/arith/v1")
}

/// The repository. A plain path: emulated machines have no folders beside it to go up from.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("this crate lies two folders deep")
}

/// Every file: its name and its text, made from the reference.
#[must_use]
pub fn all() -> Vec<(&'static str, String)> {
    vec![
        ("attention.json", text(&attention::cases())),
        ("element.json", text(&element::cases())),
        ("linear.json", text(&linear::cases())),
        ("noise.json", text(&noise::cases())),
        ("norm.json", text(&norm::cases())),
        ("quantize.json", text(&quantize::cases())),
        ("rope.json", text(&rope::cases())),
        ("sampling.json", text(&sampling::cases())),
        ("scalar.json", text(&scalar::cases())),
    ]
}

/// The cases of a committed file.
///
/// # Panics
/// When the file is not there or has another form.
#[must_use]
pub fn read<T: DeserializeOwned>(name: &str) -> Vec<T> {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).expect("the vectors are part of the repository");
    serde_json::from_str(&text).expect("the vectors have the form of this version")
}

/// A JSON array with one case per line.
fn text<T: Serialize>(cases: &[T]) -> String {
    let mut text = "[".to_owned();
    for (index, case) in cases.iter().enumerate() {
        let case = serde_json::to_string(case).expect("cases are plain JSON");
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}\n{case}").expect("a String takes all text");
    }
    text + "\n]\n"
}
