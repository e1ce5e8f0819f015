//! `shoal eval`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;
use shoal_engine::perplexity;
use shoal_model::tokenizer::EncodeOptions;

use crate::failure::Failure;
use crate::models::ModelName;
use crate::progress::{self, STEPS};
use crate::session::Session;
use crate::{input, interrupt, measure, models, output};

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How well a model predicts a text
    Perplexity(PerplexityArgs),
}

/// Arguments of `shoal eval perplexity`.
#[derive(Debug, clap::Args)]
pub(crate) struct PerplexityArgs {
    #[command(flatten)]
    model: ModelName,

    /// The text
    #[arg(long, value_name = "FILE")]
    text: PathBuf,

    /// Tokens of a window; the second half of each is scored
    #[arg(long, value_name = "C", default_value = "512")]
    context: NonZeroUsize,
}

/// Runs a command.
pub(crate) fn run(session: &Session, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Perplexity(args) => perplexity_of(session, args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn perplexity_of(session: &Session, args: &PerplexityArgs) -> Result<(), Failure> {
    interrupt::watch();
    let text = input::read_file(&args.text)?;
    let package = models::find(session, &args.model.model)?;
    let tokenizer = models::tokenizer(&package)?;
    let tokens = tokenizer.encode(&text, EncodeOptions::default());
    let tokens = tokens.map_err(|error| Failure::usage(format!("text: {error}")))?;
    let spec = tokenizer.spec();
    let first = spec.special.bos.filter(|_| spec.add_bos);
    let kernels = measure::kernels(session.threads)?;
    let bar = progress::parts("scoring", session.json);
    bar.set_length(STEPS);
    let told = |done: f64| {
        bar.set_position((done * STEPS as f64) as u64);
        !interrupt::is_asked()
    };
    let context = args.context.get();
    let score = perplexity(&package, &kernels, &tokens, context, first, &told)?;
    let score = score.ok_or_else(Failure::interrupted)?;
    bar.finish_and_clear();
    let scored = score.windows.iter().flat_map(|w| &tokens[w.first..w.first + w.tokens]);
    let bytes: usize = scored.map(|id| tokenizer.token_bytes(*id).unwrap_or_default().len()).sum();
    let bits_per_byte = score.nats() / std::f64::consts::LN_2 / bytes as f64;
    let (perplexity, tokens) = (score.perplexity(), score.tokens());
    if session.json {
        return output::json(&json!({
            "perplexity": perplexity, "bits_per_byte": bits_per_byte, "tokens": tokens,
        }));
    }
    output::line(&format!("perplexity     {perplexity:.4}"))?;
    output::line(&format!("bits per byte  {bits_per_byte:.4}"))?;
    output::line(&format!("tokens         {tokens}"))
}
