//! The rows of the next step.

use std::ops::Range;

use shoal_base::{Lane, TokenId};

use super::Limits;
use super::running::Running;
use crate::{Segment, SegmentKind};

/// Rows of one running request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Its place among the running.
    pub(super) running: usize,
    /// Position of the first row.
    pub(super) position: usize,
    pub(super) rows: usize,
    /// Rows at the end whose logits are wanted.
    logits: usize,
}

impl Part {
    pub(super) fn segment(&self, running: &[Running]) -> Segment {
        Segment {
            sequence: running[self.running].sequence,
            position: self.position,
            kind: SegmentKind::Chain { rows: self.rows },
        }
    }

    /// Tokens of the rows: those of the sequence, then guesses.
    pub(super) fn tokens<'a>(&self, running: &'a [Running]) -> impl Iterator<Item = TokenId> + 'a {
        let running = &running[self.running];
        let known = &running.tokens[self.position..];
        known.iter().chain(&running.guesses).copied().take(self.rows)
    }

    /// Rows of the part whose logits are wanted.
    pub(super) const fn logits_rows(&self) -> Range<usize> {
        self.rows - self.logits..self.rows
    }
}

/// One row of every answer in progress, with its guesses; then rows of prompts, interactive ones
/// first, oldest first.
pub(super) fn compose(running: &[Running], limits: Limits) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rows = 0;
    for (place, request) in running.iter().enumerate().filter(|(_, r)| r.is_decoding()) {
        let count = 1 + request.guesses.len();
        rows += count;
        parts.push(Part { running: place, position: request.computed, rows: count, logits: count });
    }
    let shared = !parts.is_empty();
    let mut left = match shared {
        true => limits.shared_step_rows,
        false => limits.step_rows.saturating_sub(rows),
    };
    for lane in [Lane::Interactive, Lane::Batch] {
        let prompts =
            running.iter().enumerate().filter(|(_, r)| r.lane == lane && !r.is_decoding());
        for (place, request) in prompts {
            let missing = request.tokens.len() - request.computed;
            let count = missing.min(left);
            if count == 0 {
                return parts;
            }
            left -= count;
            let last = count == missing && !request.work.is_embedding();
            parts.push(Part {
                running: place,
                position: request.computed,
                rows: count,
                logits: usize::from(last),
            });
        }
    }
    parts
}
