//! Tokens per second of a training step, its share of the multiply-add work, and its memory.
//!
//! `cargo bench -p shoal-train --bench step -- [threads]`: a Llama of 5 million parameters, 16
//! samples of 256 tokens.

#![expect(clippy::print_stdout, reason = "a benchmark prints its result")]
use std::time::Instant;

use shoal_base::Digest;
use shoal_kernels::{Isa, Kernels};
use shoal_train::{
    Decay, ModelSettings, OptimizerSettings, Purpose, Random, Sample, Schedule, TrainModel, Trainer,
};

const VOCAB: u32 = 4096;
const SAMPLES: u64 = 16;
const ROWS: usize = 256;
const STEPS: usize = 3;

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

fn main() {
    let threads = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(2);
    let settings = ModelSettings {
        width: 256,
        layers: 5,
        heads: 8,
        kv_heads: 4,
        head_width: 32,
        mlp_width: 704,
        context_tokens: ROWS as u32,
        tied_embeddings: true,
    };
    let architecture = settings.architecture(VOCAB).expect("the rules hold");
    let mut model = TrainModel::try_new(architecture).expect("the rules hold");
    model.initialize(Digest::of(b"bench"));
    let parameters = model.parameters().all().len();
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
    let isa = Isa::choose().expect("a known instruction set");
    let kernels = Kernels::new(isa, threads).expect("available");
    let mut trainer = Trainer::new(kernels, model, optimizer);
    let samples: Vec<Sample> = (0..SAMPLES).map(sample).collect();
    let first = trainer.step(&samples).expect("the step is taken").loss;
    let mut best = f64::INFINITY;
    let mut last = first;
    for _ in 0..STEPS {
        let start = Instant::now();
        last = trainer.step(&samples).expect("the step is taken").loss;
        best = best.min(start.elapsed().as_secs_f64());
    }
    assert!(last < first, "the loss on the same samples falls: {first}, then {last}");
    let tokens = SAMPLES as f64 * ROWS as f64;
    println!(
        "{isa}, {threads} threads, {parameters} parameters: {:.0} tokens/s, {:.1} GFLOP/s, {} MiB",
        tokens / best,
        6.0 * parameters as f64 * tokens / best / 1e9,
        trainer.bytes() >> 20
    );
    // Per row and layer: both inputs of the residual, queries, keys, values, what attention gives,
    // and the two halves of the gated unit. All else can be computed again or is scratch.
    let (heads, kv) =
        (settings.heads * settings.head_width, settings.kv_heads * settings.head_width);
    let row = 2 * settings.width + 2 * heads + 2 * kv + 2 * settings.mlp_width;
    let kept = (settings.layers * row) as usize * ROWS * 4;
    let sum = 4 * 4 * parameters + kept;
    if let Some(peak) = peak_bytes() {
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
