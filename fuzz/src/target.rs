//! What a fuzz target is.

/// Memory that any parser may hold.
pub const MEMORY_BYTES: usize = 1 << 20;

/// Feeds bytes of a stranger to one parser.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// The name on the command line, that of its file.
    pub name: &'static str,
    /// Well-formed inputs, from which mutations start.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Memory it may hold whatever the input, in addition to what grows with the input.
    pub memory_bytes: usize,
    /// Must return, whatever the bytes; asserts what holds for those that are accepted.
    pub run: fn(&[u8]),
}
