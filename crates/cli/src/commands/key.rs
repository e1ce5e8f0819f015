//! `shoal key`: who a node with this key is, to be named to others before it runs.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use shoal_node::node_of;

use crate::failure::Failure;
use crate::session::Session;
use crate::{nodes, output};

/// Arguments of `shoal key`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File with the key, made when there is none
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    let node = node_of(&nodes::kept_secret(&args.file)?);
    match session.json {
        true => output::json(&json!({ "node": node.to_string() }))?,
        false => output::text(&format!("{node}\n"))?,
    }
    Ok(ExitCode::SUCCESS)
}
