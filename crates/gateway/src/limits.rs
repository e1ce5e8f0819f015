//! Bounds on what clients may send and for how long they may keep things open.

use std::time::Duration;

/// A body. The longest prompt is 8 MiB; JSON escapes take the rest.
pub(crate) const BODY_BYTES_MAX: usize = 16 << 20;
/// How long is waited for a client. A body that takes longer to arrive comes from one that only
/// wants to hold a place.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// A head, with all its headers.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Connections at once. One more waits until one ends.
pub(crate) const CONNECTIONS_MAX: usize = 2048;
/// How long answers that were cut may take to say so.
pub(crate) const CUT_TIME_MAX: Duration = Duration::from_secs(2);
/// Events of one answer that its reader may be behind.
pub(crate) const EVENTS_BEHIND_MAX: usize = 4096;
/// Answers of one request: prompts times `n`.
pub(crate) const CHOICES_MAX: usize = 64;
/// Messages of one conversation.
pub(crate) const MESSAGES_MAX: usize = 10_000;
/// Tools of one request.
pub(crate) const TOOLS_MAX: usize = 128;
/// Name of a tool.
pub(crate) const TOOL_NAME_BYTES_MAX: usize = 128;
/// Pairs of `metadata`.
pub(crate) const METADATA_MAX: usize = 16;
/// Inputs of one request for embeddings.
pub(crate) const INPUTS_MAX: usize = 2048;
/// Inputs computed together; between them it is seen whether anybody still waits.
pub(crate) const INPUTS_AT_ONCE: usize = 16;
/// Keys of one file, and the bytes of the file.
pub(crate) const KEYS_MAX: usize = 10_000;
/// Longest `Idempotency-Key`.
pub(crate) const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Longest answer that is kept for one. A token takes some 300 bytes of a stream.
pub(crate) const KEPT_BYTES_MAX: usize = 64 << 20;
/// Longest label (`user` and the like).
pub(crate) const LABEL_BYTES_MAX: usize = 512;
