//! `shoal model`: what is in the store, and how it gets there.

mod import;
mod list;

use std::process::ExitCode;

use clap::Subcommand;

use crate::failure::Failure;
use crate::session::Session;

/// Commands about models.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a package of a model file or folder
    Import(import::Args),
    /// List all packages
    List,
    /// Show what a package is made of
    Show(list::ShowArgs),
}

/// Runs a command.
pub(crate) fn run(session: &Session, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Import(args) => import::run(session, args),
        Command::List => list::list(session),
        Command::Show(args) => list::show(session, args),
    }?;
    Ok(ExitCode::SUCCESS)
}
