//! What the machine can do and what the engine makes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shoal_base::TokenId;
use shoal_engine::{Head, Segment, SegmentKind, SequenceId, Stage};
use shoal_kernels::{Isa, Kernels};
use shoal_model::package::Package;

use crate::failure::Failure;
use crate::{interrupt, memory};

/// Larger than any cache.
const BUFFER_BYTES: usize = 1 << 29;
/// Times it is read; the fastest counts, because others disturb and nobody helps.
const READS: usize = 5;
/// Positions of a page of keys and values.
const PAGE_POSITIONS: usize = 64;
/// Rows of a step of a prompt, as the engine takes them.
const STEP_ROWS: usize = 256;

/// Kernels on `threads` threads with the best instruction set, or the one that was asked for.
pub(crate) fn kernels(threads: usize) -> Result<Arc<Kernels>, Failure> {
    Ok(Arc::new(Kernels::new(Isa::choose()?, threads)?))
}

/// What memory gives, measured again and again: on a shared machine it is another every few
/// seconds, so a speed is compared with what was read just after.
pub(crate) struct Memory {
    words: Vec<u64>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        // Different words, so that no page is shared with another.
        Self { words: (0..BUFFER_BYTES as u64 / 8).collect() }
    }

    /// Bytes per second that all threads together read.
    pub(crate) fn read(&self, kernels: &Kernels) -> Result<f64, Failure> {
        let mut fastest = Duration::MAX;
        for _ in 0..READS {
            interrupt::check()?;
            let start = Instant::now();
            std::hint::black_box(kernels.read_all(std::hint::black_box(&self.words)));
            fastest = fastest.min(start.elapsed());
        }
        Ok(BUFFER_BYTES as f64 / fastest.as_secs_f64())
    }
}

/// What is computed in one measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) prompt_tokens: usize,
    pub(crate) decode_tokens: usize,
    pub(crate) sequences: usize,
}

/// How long it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
}

/// A model whose steps are timed: layers and output head, the most probable token chosen, without
/// scheduler, text and grammar.
pub(crate) struct Bench {
    stage: Stage,
    head: Head,
    shape: Shape,
    kv_position_bytes: usize,
    logits: Vec<f32>,
}

impl Bench {
    pub(crate) fn load(
        package: &Package,
        kernels: Arc<Kernels>,
        shape: Shape,
    ) -> Result<Self, Failure> {
        let architecture = &package.manifest().architecture;
        let positions = shape.prompt_tokens.saturating_add(shape.decode_tokens);
        let limit = architecture.context_tokens as usize;
        if positions > limit {
            let message = format!("{positions} tokens per sequence, the context holds {limit}");
            return Err(Failure::usage(message));
        }
        let layers = architecture.layer_count;
        let pages = positions.div_ceil(PAGE_POSITIONS).saturating_mul(shape.sequences);
        let page_bytes = Stage::page_bytes(architecture, layers as usize);
        let kv_bytes = (pages as u64).saturating_mul(page_bytes as u64);
        memory::check("keys and values of all sequences", kv_bytes)?;
        let stage = Stage::load(Arc::clone(&kernels), package, 0..layers, pages)?;
        let head = Head::load(kernels, package)?;
        let kv_position_bytes = page_bytes / PAGE_POSITIONS;
        Ok(Self { stage, head, shape, kv_position_bytes, logits: Vec::new() })
    }

    /// Bytes read for each generated token: the weights, shared by all sequences of a step, and the
    /// keys and values of its own sequence, on average.
    pub(crate) fn bytes_per_token(&self) -> f64 {
        let weights = (self.stage.weight_bytes() + self.head.weight_bytes()) as f64;
        let Shape { prompt_tokens, decode_tokens, sequences } = self.shape;
        let positions = prompt_tokens as f64 + (decode_tokens as f64 + 1.0) / 2.0;
        weights / sequences as f64 + positions * self.kv_position_bytes as f64
    }

    /// Computes everything once.
    pub(crate) fn run(&mut self) -> Result<Times, Failure> {
        let start = Instant::now();
        for s in 0..self.shape.sequences {
            self.prefill(SequenceId(s as u64))?;
        }
        let prefill = start.elapsed();
        let start = Instant::now();
        let mut tokens: Vec<TokenId> = (0..self.shape.sequences).map(|s| self.token(s)).collect();
        for step in 0..self.shape.decode_tokens {
            interrupt::check()?;
            self.decode(step, &mut tokens);
        }
        let decode = start.elapsed();
        for s in 0..self.shape.sequences {
            self.stage.cache_mut().end(SequenceId(s as u64));
        }
        Ok(Times { prefill, decode })
    }

    fn prefill(&mut self, sequence: SequenceId) -> Result<(), Failure> {
        let Shape { prompt_tokens, decode_tokens, .. } = self.shape;
        let cache = self.stage.cache_mut();
        cache.begin(sequence, &[]);
        cache.reserve(sequence, prompt_tokens + decode_tokens).expect("pages for all sequences");
        for position in (0..prompt_tokens).step_by(STEP_ROWS) {
            interrupt::check()?;
            let rows = (prompt_tokens - position).min(STEP_ROWS);
            let tokens: Vec<TokenId> = (0..rows).map(|i| self.token(position + i)).collect();
            let segment = Segment { sequence, position, kind: SegmentKind::Chain { rows } };
            self.forward(&[segment], &tokens);
        }
        Ok(())
    }

    fn decode(&mut self, step: usize, tokens: &mut [TokenId]) {
        let position = self.shape.prompt_tokens + step;
        let kind = SegmentKind::Chain { rows: 1 };
        let segment = |s| Segment { sequence: SequenceId(s as u64), position, kind: kind.clone() };
        let segments: Vec<Segment> = (0..tokens.len()).map(segment).collect();
        let rows = self.forward(&segments, tokens);
        self.head.logits(&rows, &mut self.logits);
        let logits = self.logits.chunks_exact(self.head.vocab_count());
        for (token, logits) in tokens.iter_mut().zip(logits) {
            let top = largest(logits);
            let first = logits.iter().position(|&logit| logit == top);
            *token = TokenId(first.unwrap_or(0) as u32);
        }
    }

    fn forward(&mut self, segments: &[Segment], tokens: &[TokenId]) -> Vec<u16> {
        let mut rows = self.head.embed(tokens);
        self.stage.forward(segments, &mut rows).expect("pages for all sequences");
        rows
    }

    /// Some token, not the same everywhere.
    fn token(&self, index: usize) -> TokenId {
        TokenId((index * 7919 % self.head.vocab_count()) as u32)
    }
}

/// The largest logit; eight maxima at once, as one would wait for itself.
fn largest(logits: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    let mut lanes = [f32::MIN; 8];
    for logits in logits.chunks(lanes.len()) {
        for (lane, &logit) in lanes.iter_mut().zip(logits) {
            *lane = larger(*lane, logit);
        }
    }
    lanes.into_iter().fold(f32::MIN, larger)
}

/// The value in the middle; of two, the mean.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() % 2 {
        0 => (values[middle - 1] + values[middle]) / 2.0,
        _ => values[middle],
    }
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
        assert_eq!(median(vec![5.0]), 5.0);
    }
}
