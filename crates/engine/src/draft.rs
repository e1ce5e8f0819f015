//! A small model that guesses what a large one will say.
//!
//! Both draw with the same noise, so that at any temperature the guess is right as often as the
//! models agree. A guess is only a proposal: what is not the large model's own choice is dropped,
//! so a draft model changes the speed of an answer and nothing else.

use std::collections::HashMap;

use shoal_base::TokenId;
use shoal_model::sampler::Sampler;

use crate::{Head, KvError, Segment, SegmentKind, SequenceId, Stage};

/// A draft model and what it has computed of each sequence.
#[derive(Debug)]
pub(crate) struct Draft {
    head: Head,
    stage: Stage,
    sequences: HashMap<SequenceId, Vec<TokenId>>,
}

/// A sequence that wants guesses.
pub(crate) struct Guess<'a> {
    pub(crate) sequence: SequenceId,
    /// Everything so far; the draft model has computed some beginning of it.
    pub(crate) tokens: &'a [TokenId],
    /// A copy of the answer's sampler.
    pub(crate) sampler: Sampler,
    /// The guesses, filled in.
    pub(crate) guesses: Vec<TokenId>,
}

impl Draft {
    pub(crate) fn new(head: Head, stage: Stage) -> Self {
        Self { head, stage, sequences: HashMap::new() }
    }

    /// Begins a sequence of at most `len` positions.
    pub(crate) fn begin(&mut self, sequence: SequenceId, len: usize) -> Result<(), KvError> {
        self.stage.cache_mut().begin(sequence, &[]);
        let reserved = self.stage.cache_mut().reserve(sequence, len);
        match reserved {
            Ok(()) => drop(self.sequences.insert(sequence, Vec::new())),
            Err(_) => self.stage.cache_mut().end(sequence),
        }
        reserved
    }

    /// Ends a sequence, if it was begun.
    pub(crate) fn end(&mut self, sequence: SequenceId) {
        if self.sequences.remove(&sequence).is_some() {
            self.stage.cache_mut().end(sequence);
        }
    }

    /// Guesses `window` tokens for each sequence, all sequences together.
    ///
    /// A sequence that meets an unsound number gets no guess.
    pub(crate) fn guess(&mut self, asked: &mut [Guess<'_>], window: usize) -> Result<(), KvError> {
        let mut next: Vec<Vec<TokenId>> = Vec::new();
        for guess in asked.iter() {
            let computed = self.sequences.entry(guess.sequence).or_default();
            let known = computed.iter().zip(guess.tokens).take_while(|(a, b)| a == b).count();
            // At least the last token is computed again: its logits are wanted.
            let known = known.min(guess.tokens.len() - 1);
            computed.truncate(known);
            next.push(guess.tokens[known..].to_vec());
        }
        for _ in 0..window {
            let logits = self.compute(asked, &next)?;
            for (guess, (next, logits)) in asked.iter_mut().zip(next.iter_mut().zip(logits)) {
                next.clear();
                if let Some(mut logits) = logits {
                    let position = (guess.tokens.len() + guess.guesses.len()) as u32;
                    let id = guess.sampler.sample(&mut logits, position, None).id;
                    guess.sampler.commit(id);
                    guess.guesses.push(id);
                    next.push(id);
                }
            }
        }
        Ok(())
    }

    /// Computes the tokens in `next` and returns the logits of the last one of each sequence.
    fn compute(
        &mut self,
        asked: &[Guess<'_>],
        next: &[Vec<TokenId>],
    ) -> Result<Vec<Option<Vec<f32>>>, KvError> {
        let mut segments = Vec::new();
        let mut tokens = Vec::new();
        for (guess, next) in asked.iter().zip(next).filter(|(_, next)| !next.is_empty()) {
            let computed = self.sequences.get_mut(&guess.sequence).ok_or(KvError::NoSequence)?;
            segments.push(Segment {
                sequence: guess.sequence,
                position: computed.len(),
                kind: SegmentKind::Chain { rows: next.len() },
            });
            computed.extend(next);
            tokens.extend(next);
        }
        let mut rows = self.head.embed(&tokens);
        let faults = self.stage.forward(&segments, &mut rows)?;
        let width = self.head.width();
        let mut at = 0;
        let mut last = Vec::new();
        let mut sound = Vec::new();
        for segment in &segments {
            let end = at + segment.rows();
            last.extend_from_slice(&rows[(end - 1) * width..end * width]);
            sound.push(faults[at..end].iter().all(Option::is_none));
            at = end;
        }
        let mut logits = Vec::new();
        let unsound = self.head.logits(&last, &mut logits);
        let vocab = self.head.vocab_count();
        let mut computed = logits
            .chunks_exact(vocab)
            .zip(sound.into_iter().zip(unsound))
            .map(|(logits, (sound, unsound))| (sound && !unsound).then(|| logits.to_vec()));
        let logits = next.iter().map(|next| match next.is_empty() {
            true => None,
            false => computed.next().flatten(),
        });
        Ok(logits.collect())
    }
}
