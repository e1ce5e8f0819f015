//! Which rows are computed next: continuous batching, chunked prefill, prefix cache, draft windows.
//!
//! A step takes one row of every answer in progress (more where guesses wait for verification),
//! fills up with rows of prompts, computes all of them at once and draws the tokens. What is
//! computed together never changes an answer. Invariants: memory for the longest possible answer is
//! reserved before a request is admitted, so an admitted request never fails for room; interactive
//! requests go before batch requests; every queue is bounded.

mod compose;
mod draw;
mod running;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use shoal_base::{FinishReason, GenerateError, Lane, PackageId, StopCause, TokenEvent, TokenId};

use crate::draft::{Draft, Guess};
use crate::prefix::PrefixChain;
use crate::stats::Stats;
use crate::{Head, KvError, SequenceId, Stage};
use compose::{Part, compose};
use draw::{Draw, Drawn, draw_all};
use running::Running;
pub(crate) use running::{Cancel, Job, Work};

/// How an answer ended: why, and the text held back until then.
type End = Result<(FinishReason, String), GenerateError>;

/// Limits of the scheduler.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Rows of a step that computes prompts only.
    pub(crate) step_rows: usize,
    /// Rows of prompts in a step that others wait for.
    pub(crate) shared_step_rows: usize,
    /// Sequences at once.
    pub(crate) sequences: usize,
    /// Requests that may wait.
    pub(crate) waiting: usize,
    /// Tokens a draft model guesses.
    pub(crate) draft_window: usize,
}

/// Requests waiting and running.
#[derive(Debug)]
pub(crate) struct Scheduler {
    package: PackageId,
    head: Head,
    stage: Stage,
    draft: Option<Draft>,
    limits: Limits,
    /// Interactive, batch.
    waiting: [VecDeque<Job>; 2],
    running: Vec<Running>,
    next_sequence: u64,
    logits: Vec<f32>,
    stats: Arc<Stats>,
}

impl Scheduler {
    pub(crate) fn new(
        package: PackageId,
        head: Head,
        stage: Stage,
        draft: Option<Draft>,
        limits: Limits,
        stats: Arc<Stats>,
    ) -> Self {
        Self {
            package,
            head,
            stage,
            draft,
            limits,
            waiting: [VecDeque::new(), VecDeque::new()],
            running: Vec::new(),
            next_sequence: 0,
            logits: Vec::new(),
            stats,
        }
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.running.is_empty() && self.waiting.iter().all(VecDeque::is_empty)
    }

    /// Takes a request. One too many is told so.
    pub(crate) fn enqueue(&mut self, mut job: Job) {
        if self.waiting.iter().map(VecDeque::len).sum::<usize>() >= self.limits.waiting {
            job.work.fail(GenerateError::Overloaded { retry_after_ms: 1000 });
            return;
        }
        let lane = usize::from(job.lane == Lane::Batch);
        self.waiting[lane].push_back(job);
        self.update_stats();
    }

    /// Ends everything: the process is stopping.
    pub(crate) fn shut_down(&mut self) {
        for job in self.waiting.iter_mut().flat_map(std::mem::take) {
            let mut job = job;
            job.work.fail(GenerateError::ShuttingDown);
        }
        for mut running in std::mem::take(&mut self.running) {
            running.work.fail(GenerateError::ShuttingDown);
            self.release(running.sequence);
        }
        self.update_stats();
    }

    /// Computes one step.
    pub(crate) fn step(&mut self) {
        self.drop_cancelled();
        self.admit();
        self.guess();
        let parts = compose(&self.running, self.limits);
        if !parts.is_empty() {
            self.compute(&parts);
        }
        self.update_stats();
    }

    fn drop_cancelled(&mut self) {
        for queue in &mut self.waiting {
            queue.retain_mut(|job| {
                let keep = !job.is_cancelled();
                if !keep {
                    job.work.cancel_before_start();
                }
                keep
            });
        }
        let (cancelled, running) =
            std::mem::take(&mut self.running).into_iter().partition(Running::is_cancelled);
        self.running = running;
        let cancelled: Vec<Running> = cancelled;
        for running in cancelled {
            self.end(running, FinishReason::Cancelled, String::new());
        }
    }

    /// Admits waiting requests while there is room, interactive ones first.
    fn admit(&mut self) {
        for lane in 0..self.waiting.len() {
            while self.running.len() < self.limits.sequences {
                let Some(job) = self.waiting[lane].pop_front() else { break };
                if let Err(job) = self.start(job) {
                    self.waiting[lane].push_front(*job);
                    return;
                }
            }
        }
    }

    fn start(&mut self, job: Job) -> Result<(), Box<Job>> {
        let sequence = SequenceId(self.next_sequence);
        let mut chain = PrefixChain::new(self.package, &job.cache_salt);
        // The last token is always computed: its logits, or its state, are wanted.
        chain.extend(&job.tokens[..job.tokens.len() - 1]);
        // States of cached positions are gone, so an embedding computes all of them.
        let keys = if job.work.is_embedding() { &[] } else { chain.keys() };
        let cache = self.stage.cache_mut();
        let cached = cache.begin(sequence, keys);
        let positions = job.positions_max() + self.limits.draft_window;
        if cache.reserve(sequence, positions).is_err() {
            cache.end(sequence);
            return Err(Box::new(job));
        }
        if let Some(draft) = self.draft.as_mut().filter(|_| !job.work.is_embedding()) {
            // Without room for its draft a request runs without guesses.
            let _ = draft.begin(sequence, positions);
        }
        self.next_sequence += 1;
        self.stats.admitted(job.tokens.len(), cached);
        self.running.push(Running::new(job, sequence, chain, cached));
        Ok(())
    }

    /// Lets the draft model guess for every answer that waits for its next token.
    fn guess(&mut self) {
        let Some(draft) = &mut self.draft else { return };
        let window = self.limits.draft_window;
        let mut asked = Vec::new();
        let mut places = Vec::new();
        for (place, running) in self.running.iter_mut().enumerate() {
            running.guesses.clear();
            if let Some(sampler) = running.wants_guesses() {
                asked.push(Guess {
                    sequence: running.sequence,
                    tokens: &running.tokens,
                    sampler,
                    guesses: Vec::new(),
                });
                places.push(place);
            }
        }
        if asked.is_empty() || draft.guess(&mut asked, window).is_err() {
            return;
        }
        let guesses: Vec<Vec<TokenId>> = asked.into_iter().map(|guess| guess.guesses).collect();
        for (place, guesses) in places.into_iter().zip(guesses) {
            self.running[place].set_guesses(guesses);
        }
    }

    fn compute(&mut self, parts: &[Part]) {
        let segments: Vec<_> = parts.iter().map(|part| part.segment(&self.running)).collect();
        let tokens: Vec<TokenId> = parts.iter().flat_map(|p| p.tokens(&self.running)).collect();
        let mut rows = self.head.embed(&tokens);
        let faults = match self.stage.forward(&segments, &mut rows) {
            Ok(faults) => faults,
            Err(error) => return self.fail_all(parts, error),
        };
        self.stats.step(tokens.len());
        let width = self.head.width();
        // Rows whose logits are wanted, next to one another.
        let mut wanted = Vec::new();
        let mut first_row = Vec::with_capacity(parts.len());
        let mut at = 0;
        for part in parts {
            first_row.push(at);
            let logits = part.logits_rows();
            wanted.extend_from_slice(&rows[(at + logits.start) * width..(at + logits.end) * width]);
            at += part.rows;
        }
        let mut logits = std::mem::take(&mut self.logits);
        let unsound = match wanted.is_empty() {
            true => Vec::new(),
            false => self.head.logits(&wanted, &mut logits),
        };
        let vocab = self.head.vocab_count();
        let mut draws = Vec::with_capacity(parts.len());
        let (mut row, mut rest) = (0, &mut logits[..]);
        for (part, &first) in parts.iter().zip(&first_row) {
            let count = part.logits_rows().len();
            let unsound = &unsound[row..row + count];
            row += count;
            let fault = first_fault(part, &faults[first..first + part.rows], unsound);
            let logits;
            (logits, rest) = rest.split_at_mut(count * vocab);
            draws.push(Draw { part, fault, logits });
        }
        let drawn = draw_all(self.head.team(), &mut self.running, draws, vocab);
        let mut ended = Vec::new();
        for ((part, &first), drawn) in parts.iter().zip(&first_row).zip(drawn) {
            let states = &rows[first * width..(first + part.rows) * width];
            if let Some(end) = self.take(part, states, drawn).transpose() {
                ended.push((part.running, end));
            }
        }
        self.logits = logits;
        self.finish(ended);
    }

    /// What a part's rows gave: tokens drawn, states pooled, pages published.
    fn take(
        &mut self,
        part: &Part,
        states: &[u16],
        drawn: Drawn,
    ) -> Result<Option<(FinishReason, String)>, GenerateError> {
        let running = &mut self.running[part.running];
        running.computed = part.position + part.rows;
        if running.work.is_embedding() {
            for (row, state) in self.head.states(states).into_iter().enumerate() {
                if let Some(fault) = drawn.fault.filter(|fault| fault.row <= row) {
                    return Err(fault.error(part));
                }
                let state = state.ok_or(RowFault { row, layer_index: HEAD }.error(part))?;
                running.work.pool(&state);
            }
            let done = running.computed == running.tokens.len();
            let reason = FinishReason::Stop(StopCause::EndOfTurn);
            return Ok(done.then(|| (reason, String::new())));
        }
        let end = drawn.end?;
        if drawn.count > 0 {
            self.stats.drawn(drawn.count, running.guesses.len());
            // Rows of wrong guesses are computed again when their position comes.
            running.computed = part.position + part.logits_rows().start + drawn.count;
        }
        running.publish(self.stage.cache_mut());
        Ok(end)
    }

    /// Ends what is over, last places first, so that places stay valid.
    fn finish(&mut self, mut ended: Vec<(usize, End)>) {
        ended.sort_by_key(|(place, _)| std::cmp::Reverse(*place));
        for (place, end) in ended {
            let mut running = self.running.remove(place);
            match end {
                Ok((reason, text)) => self.end(running, reason, text),
                Err(error) => {
                    self.release(running.sequence);
                    self.stats.failed();
                    self.update_stats();
                    running.work.fail(error);
                }
            }
        }
    }

    fn end(&mut self, mut running: Running, reason: FinishReason, text: String) {
        let (usage, timings) = (running.usage(), running.timings(Instant::now()));
        // Whoever sees the end of the answer also sees its room free.
        self.release(running.sequence);
        self.stats.finished(reason);
        self.update_stats();
        running.work.finish(reason, text, usage, timings);
    }

    fn release(&mut self, sequence: SequenceId) {
        self.stage.cache_mut().end(sequence);
        if let Some(draft) = &mut self.draft {
            draft.end(sequence);
        }
    }

    /// Room was reserved, so this is a bug of ours; the requests are told and the engine goes on.
    fn fail_all(&mut self, parts: &[Part], error: KvError) {
        let failed = parts
            .iter()
            .map(|part| (part.running, Err(GenerateError::Route { reason: error.to_string() })));
        self.finish(failed.collect());
    }

    fn update_stats(&self) {
        let cache = self.stage.cache();
        let waiting = self.waiting.iter().map(VecDeque::len).sum();
        self.stats.load(self.running.len(), waiting, cache.held(), cache.page_count());
    }
}

/// The layer index of faults in final norm and logits.
const HEAD: u32 = u32::MAX;

/// The first row of a part that met an unsound number.
#[derive(Clone, Copy, Debug)]
struct RowFault {
    row: usize,
    layer_index: u32,
}

impl RowFault {
    fn error(self, part: &Part) -> GenerateError {
        let position = (part.position + self.row) as u32;
        GenerateError::Fault { layer_index: self.layer_index, position }
    }
}

/// `layers`: a fault per row; `head`: one per row whose logits were computed.
fn first_fault(part: &Part, layers: &[Option<u32>], head: &[bool]) -> Option<RowFault> {
    let logits = part.logits_rows();
    layers.iter().enumerate().find_map(|(row, &layer)| {
        let head = row.checked_sub(logits.start).and_then(|i| head.get(i)) == Some(&true);
        let layer_index = layer.or(head.then_some(HEAD))?;
        Some(RowFault { row, layer_index })
    })
}

/// Sends an event; a sink that wants no more cancels its request.
fn send(sink: &mut dyn shoal_base::EventSink, event: TokenEvent, cancel: &running::Cancel) {
    if sink.event(event) == shoal_base::Flow::Stop {
        cancel.set();
    }
}
