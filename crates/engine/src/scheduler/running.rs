//! One request, waiting or running.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::Instant;

use shoal_arith::reference::element::{pool_add, pool_mean};
use shoal_base::{
    EventSink, FinishReason, GenerateError, Lane, Timings, TokenEvent, TokenId, Usage,
};
use shoal_model::sampler::Sampler;

use super::send;
use crate::answer::{Answer, Next};
use crate::prefix::PrefixChain;
use crate::{KvCache, SequenceId};

/// Whether a request is to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A request that waits.
pub(crate) struct Job {
    /// The prompt.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) work: Work,
    pub(crate) lane: Lane,
    pub(crate) cache_salt: Vec<u8>,
    pub(crate) cancel: Cancel,
    pub(crate) arrived: Instant,
}

/// What is wanted of a sequence.
pub(crate) enum Work {
    /// An answer.
    Answer { answer: Box<Answer>, sink: Box<dyn EventSink>, cancel: Cancel },
    /// The mean of its final states.
    Embedding {
        /// Sums of the states so far.
        sums: Vec<i64>,
        count: usize,
        done: Sender<Result<Vec<f32>, GenerateError>>,
    },
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Job({} tokens)", self.tokens.len())
    }
}

impl Job {
    /// Positions it may come to have.
    pub(crate) fn positions_max(&self) -> usize {
        let answer = match &self.work {
            Work::Answer { answer, .. } => answer.limit() as usize,
            Work::Embedding { .. } => 0,
        };
        self.tokens.len() + answer
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_set()
    }
}

impl Work {
    pub(crate) const fn is_embedding(&self) -> bool {
        matches!(self, Self::Embedding { .. })
    }

    /// Adds a final state.
    pub(crate) fn pool(&mut self, state: &[f32]) {
        if let Self::Embedding { sums, count, .. } = self {
            sums.resize(state.len(), 0);
            pool_add(sums, state);
            *count += 1;
        }
    }

    pub(crate) fn fail(&mut self, error: GenerateError) {
        match self {
            Self::Answer { sink, cancel, .. } => {
                send(&mut **sink, TokenEvent::Failed(error), cancel);
            }
            // Nobody waits any more when the receiver is gone.
            Self::Embedding { done, .. } => drop(done.send(Err(error))),
        }
    }

    pub(crate) fn cancel_before_start(&mut self) {
        let (usage, timings) = (Usage::default(), Timings::default());
        self.finish(FinishReason::Cancelled, String::new(), usage, timings);
    }

    pub(crate) fn finish(
        &mut self,
        reason: FinishReason,
        mut text: String,
        usage: Usage,
        timings: Timings,
    ) {
        match self {
            Self::Answer { answer, sink, cancel } => {
                if reason == FinishReason::Cancelled {
                    text = answer.finish();
                }
                send(&mut **sink, TokenEvent::Finished { reason, text, usage, timings }, cancel);
            }
            Self::Embedding { sums, count, done } => {
                drop(done.send(Ok(pool_mean(sums, (*count).max(1)))));
            }
        }
    }
}

/// A request that runs.
pub(crate) struct Running {
    pub(crate) sequence: SequenceId,
    pub(crate) lane: Lane,
    /// Prompt and answer.
    pub(crate) tokens: Vec<TokenId>,
    /// Positions whose keys and values are there.
    pub(crate) computed: usize,
    /// Guesses to be verified in the next step.
    pub(crate) guesses: Vec<TokenId>,
    pub(crate) work: Work,
    cancel: Cancel,
    chain: PrefixChain,
    published: usize,
    prompt_count: usize,
    cached: usize,
    arrived: Instant,
    admitted: Instant,
    first_token: Option<Instant>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Running({:?}, {} of {})", self.sequence, self.computed, self.tokens.len())
    }
}

impl Running {
    pub(crate) fn new(job: Job, sequence: SequenceId, chain: PrefixChain, cached: usize) -> Self {
        Self {
            sequence,
            lane: job.lane,
            prompt_count: job.tokens.len(),
            tokens: job.tokens,
            computed: cached,
            guesses: Vec::new(),
            work: job.work,
            cancel: job.cancel,
            chain,
            published: cached / shoal_arith::limits::CHUNK,
            cached,
            arrived: job.arrived,
            admitted: Instant::now(),
            first_token: None,
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancel.is_set()
    }

    /// Whether the next row gives the next token.
    pub(crate) fn is_decoding(&self) -> bool {
        self.computed + 1 == self.tokens.len() && !self.work.is_embedding()
    }

    /// A copy of the sampler, if guesses are of use.
    pub(crate) fn wants_guesses(&self) -> Option<Sampler> {
        match &self.work {
            Work::Answer { answer, .. } if self.is_decoding() => Some(answer.sampler().clone()),
            _ => None,
        }
    }

    /// Keeps as many guesses as the answer may still have tokens after the next one.
    pub(crate) fn set_guesses(&mut self, mut guesses: Vec<TokenId>) {
        if let Work::Answer { answer, .. } = &self.work {
            guesses.truncate((answer.limit() - answer.count()).saturating_sub(1) as usize);
        }
        self.guesses = guesses;
    }

    /// Draws the next token from its logits; the end of the answer, if it is over.
    pub(crate) fn draw(
        &mut self,
        logits: &mut [f32],
    ) -> Result<Option<(FinishReason, String)>, GenerateError> {
        let (prompt_tokens, cached_tokens) = (self.prompt_count as u32, self.cached as u32);
        let Work::Answer { answer, sink, cancel } = &mut self.work else {
            unreachable!("embeddings draw no tokens");
        };
        if self.first_token.is_none() {
            self.first_token = Some(Instant::now());
            send(&mut **sink, TokenEvent::Started { prompt_tokens, cached_tokens }, cancel);
        }
        match answer.advance(logits)? {
            Next::Token(id, event) => {
                self.tokens.push(id);
                send(&mut **sink, event, cancel);
                Ok(None)
            }
            Next::End { event, reason, text } => {
                if let Some(event) = event {
                    send(&mut **sink, event, cancel);
                }
                Ok(Some((reason, text)))
            }
        }
    }

    /// Names the pages that have become full.
    pub(crate) fn publish(&mut self, cache: &mut KvCache) {
        if self.work.is_embedding() {
            return;
        }
        self.chain.extend(&self.tokens[..self.computed]);
        for chunk in self.published..self.chain.keys().len() {
            if (chunk + 1) * shoal_arith::limits::CHUNK > self.computed {
                break;
            }
            cache.publish(self.sequence, chunk, self.chain.keys()[chunk]);
            self.published = chunk + 1;
        }
    }

    pub(crate) fn usage(&self) -> Usage {
        let completion_tokens = match &self.work {
            Work::Answer { answer, .. } => answer.count(),
            Work::Embedding { .. } => 0,
        };
        Usage {
            prompt_tokens: self.prompt_count as u32,
            cached_tokens: self.cached as u32,
            completion_tokens,
        }
    }

    pub(crate) fn timings(&self, now: Instant) -> Timings {
        let micros = |from: Instant, to: Instant| to.duration_since(from).as_micros() as u64;
        let first = self.first_token.unwrap_or(now);
        Timings {
            queue_us: micros(self.arrived, self.admitted),
            prefill_us: micros(self.admitted, first),
            decode_us: micros(first, now),
        }
    }
}
