//! Bounds on what a tokenizer description may contain. Each is checked before memory is allocated.

/// Entries of a vocabulary. The largest published ones have about 260 000.
pub const VOCAB_MAX: usize = 1 << 20;
/// Bytes of one token. Long runs of spaces reach a few hundred.
pub const TOKEN_BYTES_MAX: usize = 1 << 12;
/// Bytes of all tokens together.
pub const VOCAB_BYTES_MAX: usize = 32 << 20;
/// Merge rules. Published vocabularies have up to about 520 000.
pub const MERGES_MAX: usize = 1 << 21;
/// Tokens that are found in text before it is split; they share one search automaton.
pub const ATOMIC_TOKENS_MAX: usize = 1 << 16;
/// Bytes of those tokens together, which bounds the automaton.
pub const ATOMIC_BYTES_MAX: usize = 4 << 20;
/// Tokens that end a turn.
pub const END_OF_TURN_MAX: usize = 64;
/// Expressions of one explicit pre-tokenizer.
pub const EXPRESSIONS_MAX: usize = 8;
/// Bytes of one such expression.
pub const EXPRESSION_BYTES_MAX: usize = 4 << 10;
/// Memory of one compiled expression.
pub const EXPRESSION_COMPILED_BYTES_MAX: usize = 8 << 20;
/// Bytes of a serialised description.
pub const SPEC_BYTES_MAX: usize = 64 << 20;
/// Bytes of any tokenizer file that is converted.
pub const SOURCE_BYTES_MAX: usize = 64 << 20;
/// Bytes of a name quoted in an error, so that a hostile file does not choose the size of a log.
pub(super) const NAME_BYTES_MAX: usize = 96;
