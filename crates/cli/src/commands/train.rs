//! `shoal train`: runs whose every step can be computed again.

mod export;
mod pack;
mod proof;
mod run;
mod tokenizer;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::failure::Failure;
use crate::output;
use crate::session::Session;
use crate::train::config;

/// What to do with a run.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a tokenizer from texts
    Tokenizer(tokenizer::Args),
    /// Make a folder with settings to edit
    Init(Folder),
    /// Write what a run learns as one file of tokens
    Pack(pack::Args),
    /// Prove that a document is part of what a run learns
    Prove(proof::ProveArgs),
    /// Check such a proof, without the data
    CheckProof(proof::CheckArgs),
    /// Begin a run
    Run(Folder),
    /// Go on with a run that ended early
    Resume(Folder),
    /// Compute steps again and compare their states
    Verify(verify::Args),
    /// Turn the trained model into a package or a GGUF file
    Export(export::Args),
}

/// The folder of a run.
#[derive(Debug, clap::Args)]
pub(crate) struct Folder {
    /// The folder of the run
    #[arg(value_name = "RUN")]
    folder: PathBuf,
}

/// Runs a command.
pub(crate) fn run(session: &Session, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Tokenizer(args) => tokenizer::tokenizer(session, args),
        Command::Init(args) => init(session, args),
        Command::Pack(args) => pack::pack(session, args),
        Command::Prove(args) => proof::prove(session, args),
        Command::CheckProof(args) => proof::check(session, args),
        Command::Run(args) => run::begin(session, &args.folder),
        Command::Resume(args) => run::resume(session, &args.folder),
        Command::Verify(args) => verify::verify(session, args),
        Command::Export(args) => export::export(session, args),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn init(session: &Session, args: &Folder) -> Result<(), Failure> {
    let path = config::init(&args.folder)?;
    if session.json {
        return output::json(&json!({ "path": path }));
    }
    let folder = args.folder.display();
    output::line(&format!("{}: edit it, then `shoal train run {folder}`", path.display()))
}
