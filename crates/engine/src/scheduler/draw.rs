//! Tokens out of logits, for all answers of a step at once.
//!
//! A draw looks at every logit of its row and depends on nothing but its own answer, so the team
//! shares them out. Which member draws never changes a token.

use std::sync::{Mutex, PoisonError};

use shoal_base::{FinishReason, GenerateError};
use shoal_kernels::Team;

use super::RowFault;
use super::compose::Part;
use super::running::Running;

/// Logits below which the team is not woken: so many take some microseconds.
const ALONE: usize = 4 << 10;

/// The logits of a part.
pub(super) struct Draw<'a> {
    pub(super) part: &'a Part,
    /// The first unsound row, if there is one.
    pub(super) fault: Option<RowFault>,
    /// `[R, V]`, overwritten.
    pub(super) logits: &'a mut [f32],
}

/// What was drawn for a part.
pub(super) struct Drawn {
    /// Rows that counted.
    pub(super) count: usize,
    /// Whether the answer is over.
    pub(super) end: Result<Option<(FinishReason, String)>, GenerateError>,
    pub(super) fault: Option<RowFault>,
}

/// Draws for every part, in their order. Answers send their events meanwhile.
pub(super) fn draw_all(
    team: &Team,
    running: &mut [Running],
    draws: Vec<Draw<'_>>,
    vocab: usize,
) -> Vec<Drawn> {
    let mut places: Vec<Option<&mut Running>> = running.iter_mut().map(Some).collect();
    let rows: usize = draws.iter().map(|draw| draw.logits.len()).sum();
    let jobs = draws.into_iter().map(|draw| {
        let running = places[draw.part.running].take().expect("a request has one part in a step");
        let drawn = Drawn { count: 0, end: Ok(None), fault: draw.fault };
        Mutex::new((running, draw, drawn))
    });
    let jobs: Vec<_> = jobs.collect();
    let run = |index: usize| {
        let mut job = jobs[index].lock().unwrap_or_else(PoisonError::into_inner);
        let (running, draw, drawn) = &mut *job;
        drawn.end = draw.run(running, vocab, &mut drawn.count);
    };
    match rows < ALONE {
        true => (0..jobs.len()).for_each(run),
        false => team.share(jobs.len(), &run),
    }
    let drawn =
        jobs.into_iter().map(|job| job.into_inner().unwrap_or_else(PoisonError::into_inner));
    drawn.map(|(_, _, drawn)| drawn).collect()
}

impl Draw<'_> {
    fn run(
        &mut self,
        running: &mut Running,
        vocab: usize,
        count: &mut usize,
    ) -> Result<Option<(FinishReason, String)>, GenerateError> {
        if running.work.is_embedding() {
            return Ok(None);
        }
        let first = self.part.logits_rows().start;
        if let Some(fault) = self.fault.filter(|fault| fault.row < first) {
            return Err(fault.error(self.part));
        }
        for logits in self.logits.chunks_exact_mut(vocab) {
            // A row behind a wrong guess is none of the answer, and neither is its fault.
            if let Some(fault) = self.fault.filter(|fault| fault.row <= first + *count) {
                return Err(fault.error(self.part));
            }
            let expected = running.guesses.get(*count).copied();
            *count += 1;
            let end = running.draw(logits)?;
            if end.is_some() || expected != running.tokens.last().copied() {
                return Ok(end);
            }
        }
        Ok(None)
    }
}
