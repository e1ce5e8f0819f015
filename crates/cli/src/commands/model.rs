//! `shoal model`: what is in the store, and how it gets there.

mod export;
mod import;
mod keep;
mod list;
mod pull;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;
use crate::session::Session;

/// Commands about models.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a package of a model file or folder
    Import(import::Args),
    /// Download a model and make a package of it
    Pull(pull::Args),
    /// List all packages
    List,
    /// Show what a package is made of
    Show(list::ShowArgs),
    /// Give a package one more name
    Name(keep::NameArgs),
    /// Check every byte of a package
    Verify(keep::VerifyArgs),
    /// Remove a package
    Remove(keep::Chosen),
    /// Write a package as a GGUF file
    Export(export::Args),
}

/// Runs a command.
pub(crate) fn run(session: &Session, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Import(args) => import::run(session, args),
        Command::Pull(args) => pull::run(session, args),
        Command::List => list::list(session),
        Command::Show(args) => list::show(session, args),
        Command::Name(args) => keep::name(session, args),
        Command::Verify(args) => keep::verify(session, args),
        Command::Remove(chosen) => keep::remove(session, chosen),
        Command::Export(args) => export::run(session, args),
    }?;
    Ok(ExitCode::SUCCESS)
}
