//! From words to a command, from its result to an exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{model, run};
use crate::failure::{Code, Failure};
use crate::output;
use crate::session::{Common, Session};

/// Runs open-weight models. Everything an answer is made of follows from the model, the prompt,
/// the parameters and the seed.
#[derive(Debug, Parser)]
#[command(name = "shoal", version, arg_required_else_help = true)]
pub(crate) struct Program {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answer one prompt
    Run(run::Args),
    /// Import, list, verify, remove and export models
    #[command(subcommand)]
    Model(model::Command),
}

/// Parses the arguments, runs the command, says what went wrong.
pub(crate) fn run() -> ExitCode {
    let program = match Program::try_parse() {
        Ok(program) => program,
        Err(error) => return refused(&error),
    };
    let json = program.common.json;
    match dispatch(program) {
        Ok(code) => code,
        Err(failure) => {
            output::failure(&failure, json);
            ExitCode::from(failure.code as u8)
        }
    }
}

fn dispatch(program: Program) -> Result<ExitCode, Failure> {
    let session = Session::open(&program.common)?;
    match program.command {
        Command::Run(args) => run::run(&session, &args),
        Command::Model(command) => model::run(&session, &command),
    }
}

/// Help and version are answers; the rest are errors.
fn refused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // Help for a reader that went away needs no error.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|argument| argument == "--json") {
        let message = error.render().to_string();
        let message = message.trim().trim_start_matches("error: ");
        output::failure(&Failure::usage(message), true);
    } else {
        let _ = error.print();
    }
    ExitCode::from(Code::Usage as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_contradict_nowhere() {
        Program::command().debug_assert();
    }
}
