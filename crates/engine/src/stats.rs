//! What the engine holds and has done, for metrics and for the curious.

use std::sync::atomic::{AtomicU64, Ordering};

use shoal_base::FinishReason;

/// Numbers since the engine started. Counters only grow; gauges say what is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Requests running now.
    pub running: u64,
    /// Requests waiting now.
    pub waiting: u64,
    /// KV pages held by running requests now.
    pub kv_pages_held: u64,
    /// KV pages in all.
    pub kv_pages: u64,
    /// Tokens of admitted prompts.
    pub prompt_tokens: u64,
    /// Those found in the prefix cache.
    pub cached_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Steps computed.
    pub steps: u64,
    /// Rows computed.
    pub rows: u64,
    /// Verifications of guesses.
    pub guess_passes: u64,
    /// Tokens those gave.
    pub guess_tokens: u64,
    /// Answers that ended by stop, length, cancellation, and by an error.
    pub ended: [u64; 4],
}

#[derive(Debug, Default)]
pub(crate) struct Stats {
    gauges: [AtomicU64; 4],
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    generated_tokens: AtomicU64,
    steps: AtomicU64,
    rows: AtomicU64,
    guess_passes: AtomicU64,
    guess_tokens: AtomicU64,
    ended: [AtomicU64; 4],
}

fn add(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}

impl Stats {
    pub(crate) fn load(&self, running: usize, waiting: usize, held: usize, pages: usize) {
        for (gauge, value) in self.gauges.iter().zip([running, waiting, held, pages]) {
            gauge.store(value as u64, Ordering::Relaxed);
        }
    }

    pub(crate) fn admitted(&self, prompt: usize, cached: usize) {
        add(&self.prompt_tokens, prompt);
        add(&self.cached_tokens, cached);
    }

    pub(crate) fn step(&self, rows: usize) {
        add(&self.steps, 1);
        add(&self.rows, rows);
    }

    pub(crate) fn drawn(&self, tokens: usize, guesses: usize) {
        add(&self.generated_tokens, tokens);
        if guesses > 0 {
            add(&self.guess_passes, 1);
            add(&self.guess_tokens, tokens);
        }
    }

    pub(crate) fn finished(&self, reason: FinishReason) {
        let index = match reason {
            FinishReason::Stop(_) => 0,
            FinishReason::Length => 1,
            FinishReason::Cancelled => 2,
        };
        add(&self.ended[index], 1);
    }

    pub(crate) fn failed(&self) {
        add(&self.ended[3], 1);
    }

    pub(crate) fn snapshot(&self) -> EngineStats {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineStats {
            running: get(&self.gauges[0]),
            waiting: get(&self.gauges[1]),
            kv_pages_held: get(&self.gauges[2]),
            kv_pages: get(&self.gauges[3]),
            prompt_tokens: get(&self.prompt_tokens),
            cached_tokens: get(&self.cached_tokens),
            generated_tokens: get(&self.generated_tokens),
            steps: get(&self.steps),
            rows: get(&self.rows),
            guess_passes: get(&self.guess_passes),
            guess_tokens: get(&self.guess_tokens),
            ended: std::array::from_fn(|i| get(&self.ended[i])),
        }
    }
}
