//! `shoal bench`.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;
use serde_json::json;

use crate::failure::Failure;
use crate::measure::{Bench, Memory, Shape, Times, median};
use crate::models::ModelName;
use crate::session::Session;
use crate::{interrupt, measure, models, output, progress};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Speed of prompts and of answers, and the memory bandwidth it is compared with
    Engine(EngineArgs),
}

/// Arguments of `shoal bench engine`.
#[derive(Debug, clap::Args)]
pub(crate) struct EngineArgs {
    #[command(flatten)]
    model: ModelName,

    /// Tokens of each prompt
    #[arg(long, value_name = "P", default_value = "512")]
    prompt_tokens: NonZeroUsize,

    /// Tokens of each answer
    #[arg(long, value_name = "N", default_value = "64")]
    decode_tokens: NonZeroUsize,

    /// Sequences at once
    #[arg(long, value_name = "S", default_value = "1")]
    sequences: NonZeroUsize,

    /// Measurements; medians are reported
    #[arg(long, value_name = "R", default_value = "3")]
    repeat: NonZeroUsize,
}

/// Runs a command.
pub(crate) fn run(session: &Session, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Engine(args) => engine(session, args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn engine(session: &Session, args: &EngineArgs) -> Result<(), Failure> {
    interrupt::watch();
    let package = models::find(session, &args.model.model)?;
    let kernels = measure::kernels(session.threads)?;
    let isa = kernels.isa();
    let shape = Shape {
        prompt_tokens: args.prompt_tokens.get(),
        decode_tokens: args.decode_tokens.get(),
        sequences: args.sequences.get(),
    };
    let busy = progress::busy("measuring", session.json);
    let one = Shape { prompt_tokens: 1, decode_tokens: 1, sequences: 1 };
    // Weights come from the disk the first time they are read.
    Bench::load(&package, kernels.clone(), one)?.run()?;
    let mut bench = Bench::load(&package, kernels.clone(), shape)?;
    let memory = Memory::new();
    let mut measured = Vec::new();
    for _ in 0..args.repeat.get() {
        measured.push((bench.run()?, memory.read(&kernels)?));
    }
    busy.finish_and_clear();

    let rate = |tokens: usize, time: Duration| {
        (tokens * shape.sequences) as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
    };
    let of = |value: &dyn Fn(&Times, f64) -> f64| {
        median(measured.iter().map(|(times, bandwidth)| value(times, *bandwidth)).collect())
    };
    let prefill = of(&|times, _| rate(shape.prompt_tokens, times.prefill));
    let decode = of(&|times, _| rate(shape.decode_tokens, times.decode));
    let bandwidth = of(&|_, bandwidth| bandwidth);
    let bytes = bench.bytes_per_token();
    let fraction = bytes * decode / bandwidth;
    if session.json {
        return output::json(&json!({
            "prefill_tokens_per_s": prefill,
            "decode_tokens_per_s": decode,
            "memory_read_gb_per_s": bandwidth / 1e9,
            "bytes_per_token": bytes,
            "decode_fraction_of_memory_bandwidth": fraction,
            "isa": isa.name(),
        }));
    }
    let lines = [
        ("prompts", format!("{prefill:.1} tokens/s")),
        ("answers", format!("{decode:.1} tokens/s")),
        ("memory", format!("{:.1} GB/s", bandwidth / 1e9)),
        ("read", format!("{:.1} MB per token of an answer", bytes / 1e6)),
        ("answers read", format!("{:.1} % of what memory gives", fraction * 100.0)),
        ("instructions", isa.to_string()),
    ];
    lines.iter().try_for_each(|(what, value)| output::line(&format!("{what:<14} {value}")))
}
