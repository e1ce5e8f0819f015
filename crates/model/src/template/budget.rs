//! What one rendering may use. A template comes with a model from anywhere: it may loop, double a
//! text, or nest a list until memory is gone.

use minijinja::{Error, ErrorKind, State};

/// Instructions of the template engine.
pub(super) const INSTRUCTIONS_MAX: u64 = 10_000_000;
/// Bytes of all texts and lists made on the way, together.
pub(super) const MADE_BYTES_MAX: usize = 128 << 20;
/// Bytes looked at by comparisons, searches and filters, together.
pub(super) const LOOKED_BYTES_MAX: usize = 512 << 20;
/// Lists in lists.
pub(super) const DEPTH_MAX: usize = 64;
/// What an element of a list or map counts as.
pub(super) const ELEMENT_BYTES: usize = 32;

/// What is left of the limits of a rendering.
pub(super) struct Budget {
    made: usize,
    looked: usize,
}

/// A limit was reached.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("limit reached: {what}")]
pub(super) struct LimitReached {
    pub(super) what: &'static str,
}

impl From<LimitReached> for Error {
    fn from(reached: LimitReached) -> Self {
        Self::new(ErrorKind::InvalidOperation, "limit reached").with_source(reached)
    }
}

impl Budget {
    pub(super) fn of<'a>(state: &'a mut State<'_, '_>) -> &'a mut Self {
        state.get_or_insert_extension_with(|| Self {
            made: MADE_BYTES_MAX,
            looked: LOOKED_BYTES_MAX,
        })
    }

    /// Counts bytes before they are made.
    pub(super) fn make(&mut self, bytes: usize) -> Result<(), LimitReached> {
        let what = "memory of the template";
        self.made = self.made.checked_sub(bytes).ok_or(LimitReached { what })?;
        Ok(())
    }

    /// Counts bytes before they are looked at.
    pub(super) fn look(&mut self, bytes: usize) -> Result<(), LimitReached> {
        let what = "work of the template";
        self.looked = self.looked.checked_sub(bytes).ok_or(LimitReached { what })?;
        Ok(())
    }
}
