//! `cargo xtask clients`: real clients, at pinned versions, against `shoal up`.
//!
//! The model is random numbers; what is tried is whether clients understand the answers. What a
//! machine lacks is skipped and said.

use std::path::Path;
use std::process::Command;

use crate::check::{Outcome, Report};
use crate::registry;
use crate::shell::{self, TaskError};
use crate::up::{self, Up};

/// Arguments of `cargo xtask clients`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out schemathesis, which takes minutes
    #[arg(long)]
    no_schema: bool,
    /// Requests that schemathesis makes up for each operation
    #[arg(long, default_value_t = EXAMPLES)]
    examples: u32,
}

const EXAMPLES: u32 = 40;

/// What schemathesis looks at. Not whether every valid request is accepted: no schema says that a
/// result belongs to an earlier call or that a prompt fits the model.
const CHECKS: &str = "not_a_server_error,response_schema_conformance,status_code_conformance,\
                      content_type_conformance,negative_data_rejection";

pub(crate) fn run(args: &Args) -> Result<(), TaskError> {
    let mut report = Report::default();
    steps(&mut report, (!args.no_schema).then_some(args.examples));
    report.print();
    report.result()
}

/// Adds what was tried to a report; with so many requests of schemathesis' for each operation.
pub(crate) fn steps(report: &mut Report, examples: Option<u32>) {
    let folder = shell::root().join("target/clients");
    let mut up = None;
    report.step("program", || {
        let model = up::tool_model(&folder)?;
        up = Some(Up::start(&up::build()?, &folder.join("home"), &[&model])?);
        Ok(Outcome::Done)
    });
    let Some(up) = up else {
        return;
    };
    report.step("clients python", || python(&folder, &up.url));
    report.step("clients node", || node(&folder, &up.url));
    if let Some(examples) = examples {
        report.step("schemathesis", || schemathesis(&folder, &up.url, examples));
    }
}

fn python(folder: &Path, url: &str) -> Result<Outcome, TaskError> {
    match registry::python(folder, "testing/clients/requirements.txt")? {
        Err(reason) => Ok(Outcome::Skipped(reason)),
        Ok(programs) => {
            let mut clients = Command::new(programs.join("python"));
            loud(clients.arg("testing/clients/clients.py").arg(url))
        }
    }
}

fn node(folder: &Path, url: &str) -> Result<Outcome, TaskError> {
    let place = folder.join("node");
    match registry::node("testing/clients", &place, "clients.mjs")? {
        Err(reason) => Ok(Outcome::Skipped(reason)),
        Ok(()) => {
            let mut node = Command::new("node");
            shell::loud(node.arg("clients.mjs").arg(url).current_dir(&place), "install node")?;
            Ok(Outcome::Done)
        }
    }
}

fn schemathesis(folder: &Path, url: &str, examples: u32) -> Result<Outcome, TaskError> {
    let program = folder.join("venv/bin/schemathesis");
    if !program.exists() {
        return Ok(Outcome::Skipped("the clients for Python are not installed".to_owned()));
    }
    let mut schemathesis = Command::new(program);
    schemathesis.args(["run", &format!("{url}/openapi.json"), "--checks", CHECKS]);
    schemathesis.args(["--max-examples", &examples.to_string(), "--seed", "1"]);
    schemathesis.args(["--phases", "examples,fuzzing", "--request-timeout", "60"]);
    loud(schemathesis.args(["--workers", "2", "--no-color"]))
}

fn loud(command: &mut Command) -> Result<Outcome, TaskError> {
    shell::loud(command.current_dir(shell::root()), "install it")?;
    Ok(Outcome::Done)
}
