//! Tokens per second of a training step, its share of the multiply-add work, its memory, and how
//! long the same takes when the order of sums is free.
//!
//! `cargo bench -p shoal-train --bench step -- [--json STEPS] [threads]`: a Llama of 5 million
//! parameters, 16 samples of 256 tokens. With `--json`, the seconds of each step alone.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
use std::time::Instant;

use shoal_arith::reference::float::AdamStep;
use shoal_base::Digest;
use shoal_kernels::{Isa, Kernels};
use shoal_model::Family;
use shoal_train::{
    Decay, ModelSettings, OptimizerSettings, Purpose, Random, Sample, Schedule, TrainModel, Trainer,
};

const VOCAB: u32 = 4096;
const SAMPLES: u64 = 16;
const ROWS: usize = 256;
const STEPS: usize = 9;
const SETTINGS: ModelSettings = ModelSettings {
    width: 256,
    layers: 5,
    heads: 8,
    kv_heads: 4,
    head_width: 32,
    mlp_width: 704,
    context_tokens: ROWS as u32,
    tied_embeddings: true,
    family: Family::Llama,
    attention_bias: false,
    mlp_bias: false,
    rope_theta: 10_000.0,
};

fn sample(index: u64) -> Sample {
    let mut random = Random::new(Digest::of(b"bench"), Purpose::Synthesis, 0, index);
    let mut tokens = || (0..ROWS).map(|_| random.below(VOCAB.into()) as u32).collect();
    Sample {
        tokens: tokens(),
        targets: tokens(),
        weights: vec![1.0; ROWS],
        documents: std::iter::once(0..ROWS).collect(),
    }
}

fn trainer(isa: Isa, threads: usize) -> Trainer {
    let architecture = SETTINGS.architecture(VOCAB).expect("the rules hold");
    let mut model = TrainModel::try_new(architecture).expect("the rules hold");
    model.initialize(Digest::of(b"bench"));
    let optimizer = OptimizerSettings {
        schedule: Schedule {
            rate: 1e-3,
            final_share: 1.0,
            warmup_steps: 0,
            steps: 1,
            decay: Decay::Constant,
            decay_steps: 0,
        },
        beta1: 0.9,
        beta2: 0.95,
        epsilon: 1e-8,
        weight_decay: 0.1,
        clip_norm: 1.0,
    };
    Trainer::new(Kernels::new(isa, threads).expect("available"), model, optimizer)
}

fn seconds(job: impl FnOnce()) -> f64 {
    let start = Instant::now();
    job();
    start.elapsed().as_secs_f64()
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// The same step with another order of sums, which depends on the team: every member takes a share
/// of the samples and sums gradients of its own, with nobody to wait for; the sums are added last.
struct Free {
    members: Vec<Trainer>,
    kernels: Kernels,
    sum: Vec<f32>,
    moments: [Vec<f32>; 2],
    parameters: Vec<f32>,
}

impl Free {
    fn new(isa: Isa, threads: usize) -> Self {
        let members: Vec<Trainer> = (0..threads).map(|_| trainer(isa, 1)).collect();
        let parameters = members[0].model().parameters().all().to_vec();
        let zeros = vec![0.0; parameters.len()];
        let kernels = Kernels::new(isa, threads).expect("available");
        Self { members, kernels, sum: zeros.clone(), moments: [zeros.clone(), zeros], parameters }
    }

    fn step(&mut self, samples: &[Sample]) -> f64 {
        let shares = samples.chunks(samples.len().div_ceil(self.members.len()));
        let losses: f64 = std::thread::scope(|scope| {
            let threads: Vec<_> = self
                .members
                .iter_mut()
                .zip(shares)
                .map(|(member, share)| {
                    scope.spawn(move || member.accumulate(share).expect("taken"))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        self.sum.copy_from_slice(self.members[0].gradients().all());
        for member in &self.members[1..] {
            self.kernels.add_rows(&mut self.sum, member.gradients().all());
        }
        let norm = self.kernels.sum_of_squares(&self.sum).sqrt();
        let step = AdamStep {
            gradient_scale: (1.0 / norm.max(1.0)) as f32,
            beta1: 0.9,
            beta2: 0.95,
            correction1: 1.0,
            correction2: 1.0,
            epsilon: 1e-8,
            rate: 1e-3,
            weight_decay: 0.1,
        };
        let [m, v] = &mut self.moments;
        self.kernels.adam_step(step, &self.sum, m, v, &mut self.parameters);
        losses / self.members.len() as f64
    }
}

fn main() {
    let numbers: Vec<usize> = std::env::args().skip(1).filter_map(|a| a.parse().ok()).collect();
    let json = std::env::args().any(|a| a == "--json");
    let threads = numbers.last().copied().unwrap_or(2);
    let isa = Isa::choose().expect("a known instruction set");
    let mut trainer = trainer(isa, threads);
    let parameters = trainer.model().parameters().all().len();
    let samples: Vec<Sample> = (0..SAMPLES).map(sample).collect();
    let first = trainer.step(&samples).expect("the step is taken").loss;
    let mut last = first;
    let mut step = || last = trainer.step(&samples).expect("the step is taken").loss;
    if json {
        let times: Vec<f64> = (0..numbers[0]).map(|_| seconds(&mut step)).collect();
        return println!("{{\"seconds\": {times:?}}}");
    }
    // One of each in turn, so that both see the same machine.
    let mut times = Vec::new();
    step();
    let peak = peak_bytes();
    let mut free = Free::new(isa, threads);
    assert!((free.step(&samples) - first).abs() < 1e-3, "the same loss in another order");
    let mut free_times = Vec::new();
    for _ in 0..STEPS {
        times.push(seconds(&mut step));
        free_times.push(seconds(|| {
            free.step(&samples);
        }));
    }
    assert!(last < first, "the loss on the same samples falls: {first}, then {last}");
    let tokens = SAMPLES as f64 * ROWS as f64;
    let (own, free) = (median(times), median(free_times));
    println!(
        "{isa}, {threads} threads, {parameters} parameters: {:.0} tokens/s, {:.1} GFLOP/s, {} MiB",
        tokens / own,
        6.0 * parameters as f64 * tokens / own / 1e9,
        trainer.bytes() >> 20
    );
    println!("free order: {:.0} tokens/s; ours takes {:.3} x its time", tokens / free, own / free);
    print_memory(parameters, peak);
}

/// The peak beside what a step cannot do without.
fn print_memory(parameters: usize, peak: Option<usize>) {
    // Per row and layer: both inputs of the residual, queries, keys, values, what attention gives,
    // and the two halves of the gated unit. All else can be computed again or is scratch.
    let s = SETTINGS;
    let (heads, kv) = (s.heads * s.head_width, s.kv_heads * s.head_width);
    let row = 2 * s.width + 2 * heads + 2 * kv + 2 * s.mlp_width;
    let kept = (s.layers * row) as usize * ROWS * 4;
    let sum = 4 * 4 * parameters + kept;
    if let Some(peak) = peak {
        println!(
            "memory: peak {:.1} MiB of the process = {:.2} x (parameters, gradients, two moments \
             {:.1} MiB + activations of a sample {:.1} MiB)",
            peak as f64 / 1_048_576.0,
            peak as f64 / sum as f64,
            (sum - kept) as f64 / 1_048_576.0,
            kept as f64 / 1_048_576.0,
        );
    }
}

/// Most memory this process ever had, where the system says it.
fn peak_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<usize>().ok()? << 10)
}
