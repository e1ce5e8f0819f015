//! From words to a command, from its result to an exit code.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{
    bench, chat, completions, doctor, eval, key, model, peers, relay, run, serve, service, swarm,
    tokenize, train, up,
};
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
    /// Serve models over HTTP, with a console in the browser
    Up(up::Args),
    /// Compute layers of a model for other nodes
    Serve(serve::Args),
    /// Make a swarm, invite, join, see and revoke members
    #[command(subcommand)]
    Swarm(swarm::Command),
    /// Show the nodes there is a connection to, and the links to them
    Peers,
    /// Show how a swarm would run a model, how fast, and why
    Plan(peers::PlanArgs),
    /// End the running node in order
    Leave(peers::LeaveArgs),
    /// Relay packets of nodes that nobody can reach directly, without being able to read them
    Relay(relay::Args),
    /// Print the node of a key, and make the key when there is none
    Key(key::Args),
    /// Keep `up` running with systemd
    #[command(subcommand)]
    Service(service::Command),
    /// Answer one prompt
    Run(run::Args),
    /// Talk with a model
    Chat(chat::Args),
    /// Import, list, verify, remove and export models
    #[command(subcommand)]
    Model(model::Command),
    /// Turn text into token ids, or ids into text
    Tokenize(tokenize::Args),
    /// Measure speed
    #[command(subcommand)]
    Bench(bench::Command),
    /// Measure quality
    #[command(subcommand)]
    Eval(eval::Command),
    /// Train models in steps that can be computed again
    #[command(subcommand)]
    Train(train::Command),
    /// Look at the machine and the data folder, and repair what can be repaired
    Doctor(doctor::Args),
    /// Print completions for a shell
    Completions(completions::Args),
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
    if let Command::Completions(args) = &program.command {
        return completions::run(args);
    }
    let session = Session::open(&program.common)?;
    match program.command {
        Command::Up(args) => up::run(&session, &args),
        Command::Serve(args) => serve::run(&session, &args),
        Command::Swarm(command) => swarm::run(&session, &command),
        Command::Peers => peers::peers(&session),
        Command::Plan(args) => peers::plan(&session, &args),
        Command::Leave(args) => peers::leave(&session, &args),
        Command::Relay(args) => relay::run(&session, &args),
        Command::Key(args) => key::run(&session, &args),
        Command::Service(command) => service::run(&session, &command),
        Command::Run(args) => run::run(&session, &args),
        Command::Chat(args) => chat::run(&session, &args),
        Command::Model(command) => model::run(&session, &command),
        Command::Tokenize(args) => tokenize::run(&session, &args),
        Command::Bench(command) => bench::run(&session, &command),
        Command::Eval(command) => eval::run(&session, &command),
        Command::Train(command) => train::run(&session, &command),
        Command::Doctor(args) => doctor::run(&session, &args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Refuses arguments that `up` would refuse.
pub(crate) fn check_up(arguments: &[String]) -> Result<(), Failure> {
    let words = ["shoal", "up"].into_iter().chain(arguments.iter().map(String::as_str));
    let parsed = Program::try_parse_from(words);
    parsed.map(drop).map_err(|error| {
        let message = error.render().to_string();
        Failure::usage(message.trim().trim_start_matches("error: "))
    })
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
