//! What a fuzz target is.

/// Feeds bytes of a stranger to one parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name on the command line, that of its file.
    pub name: &'static str,
    /// Well-formed inputs, from which mutations start.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Must return, whatever the bytes; asserts what holds for those that are accepted.
    pub run: fn(&[u8]),
}
