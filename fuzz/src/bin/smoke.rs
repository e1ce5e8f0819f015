//! Every target on its seeds and a fixed number of mutations. First the canaries, which must fail.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser as _;
use shoal_fuzz::smoke::{Failure, Run};
use shoal_fuzz::{Target, canaries, targets};

/// Runs fuzz targets on the stable compiler.
#[derive(Debug, clap::Parser)]
struct Arguments {
    /// Mutated inputs per target
    #[arg(long, default_value_t = 20_000)]
    inputs: u32,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
    /// Write the seeds to `corpus/<target>` for libFuzzer and run nothing
    #[arg(long)]
    write_seeds: bool,
}

/// Longest time for one input. Parsers take microseconds; the machine may be busy.
const LIMIT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let run = Run {
        inputs: arguments.inputs,
        limit: LIMIT,
        artifacts: Path::new(env!("CARGO_MANIFEST_DIR")).join("artifacts"),
    };
    let chosen: Vec<Target> = match &arguments.target {
        None => targets::all(),
        Some(name) => targets::find(name).into_iter().collect(),
    };
    if chosen.is_empty() {
        eprintln!("no such target; known: {}", names());
        return ExitCode::FAILURE;
    }
    if arguments.write_seeds {
        return match chosen.into_iter().try_for_each(write_seeds) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("corpus: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if let Err(name) = canaries_fail(&run) {
        eprintln!("{name} passed, so the other targets prove nothing: repair the smoke run");
        return ExitCode::FAILURE;
    }
    let mut failed = false;
    for target in chosen {
        failed |= !report(&run, target);
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn names() -> String {
    targets::all().iter().map(|target| target.name).collect::<Vec<_>>().join(", ")
}

fn write_seeds(target: Target) -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    std::fs::create_dir_all(&folder)?;
    for (index, seed) in (target.seeds)().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{index}")), seed)?;
    }
    Ok(())
}

fn report(run: &Run, target: Target) -> bool {
    let started = Instant::now();
    match run.target(target) {
        Ok(count) => {
            println!("{}: {count} inputs, {:.1} s", target.name, started.elapsed().as_secs_f64());
            true
        }
        Err(failure) => {
            let input = run.artifacts.join(target.name);
            println!("{}: {failure}; input: {}", target.name, input.display());
            false
        }
    }
}

/// Whether each canary fails, and in its own way; else the name of one that does not.
fn canaries_fail(run: &Run) -> Result<(), &'static str> {
    let run = Run {
        limit: canaries::STALL / 3,
        artifacts: run.artifacts.join("canaries"),
        ..run.clone()
    };
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let panics = run.target(canaries::PANICS);
    std::panic::set_hook(hook);
    let allocates = run.target(canaries::ALLOCATES);
    let stalls = run.target(canaries::STALLS);
    if !matches!(panics, Err(Failure::Panic { .. })) {
        return Err(canaries::PANICS.name);
    }
    if !matches!(allocates, Err(Failure::Memory { .. })) {
        return Err(canaries::ALLOCATES.name);
    }
    if !matches!(stalls, Err(Failure::Time { .. })) {
        return Err(canaries::STALLS.name);
    }
    Ok(())
}
