//! What the fuzz targets drive: the readers of text that comes from strangers.

use shoal_base::ToolFormat;

use crate::birth::Birth;
use crate::tools::{CallParser, Piece, Said};

/// Text and calls in an answer, as `(text, [(name, arguments, is_whole)])`, when it comes in pieces
/// of at most `width` characters.
///
/// # Panics
/// When more is held back than may be.
#[must_use]
pub fn calls(
    format: ToolFormat,
    answer: &str,
    width: usize,
) -> (String, Vec<(String, String, bool)>) {
    let names = ["f", "get_weather", "aé"].map(str::to_owned).to_vec();
    let mut parser = CallParser::new(format, names);
    let (birth, mut said) = (Birth::new(0), Said::default());
    let characters: Vec<char> = answer.chars().collect();
    for piece in characters.chunks(width.max(1)) {
        said.extend(parser.push(&piece.iter().collect::<String>()), &birth, 0);
        parser.check_bound();
    }
    let rest = parser.finish();
    assert!(!rest.contains(&Piece::End), "no call becomes whole at the end of the text");
    said.extend(rest, &birth, 0);
    let calls = said.calls.into_iter().map(|call| (call.name, call.arguments, call.is_whole));
    (said.text, calls.collect())
}
