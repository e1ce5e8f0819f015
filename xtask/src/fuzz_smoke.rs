//! `cargo xtask fuzz-smoke`: every fuzz target on its seeds and a fixed number of mutations, on
//! the stable compiler. The fuzzing proper is described in `fuzz/README.md`.

use std::process::Command;

use crate::check::Outcome;
use crate::shell::{self, TaskError};

/// Arguments of `cargo xtask fuzz-smoke`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Inputs per target
    #[arg(long, default_value_t = Self::default().inputs)]
    inputs: u32,
    /// Only this target
    #[arg(long)]
    target: Option<String>,
}

impl Args {
    /// Every target, this many inputs each.
    pub(crate) const fn with_inputs(inputs: u32) -> Self {
        Self { inputs, target: None }
    }
}

impl Default for Args {
    fn default() -> Self {
        // Under a minute for all targets together.
        Self::with_inputs(20_000)
    }
}

pub(crate) fn run(args: &Args) -> Result<Outcome, TaskError> {
    shell::loud(cargo("test").arg("--lib"), "install Rust")?;
    let mut smoke = cargo("run");
    smoke.args(["--bin", "smoke", "--", "--inputs"]).arg(args.inputs.to_string());
    if let Some(target) = &args.target {
        smoke.args(["--target", target]);
    }
    shell::loud(&mut smoke, "install Rust")?;
    Ok(Outcome::Done)
}

/// Cargo in the workspace of the targets. Libraries that both workspaces use are compiled once. No
/// `--locked`: a crate that gains a dependency must not break the lock file over there.
fn cargo(verb: &str) -> Command {
    let root = shell::root();
    let mut cargo = Command::new("cargo");
    cargo.args([verb, "--quiet", "--manifest-path", "fuzz/Cargo.toml"]);
    cargo.arg("--target-dir").arg(root.join("target")).current_dir(root);
    cargo
}
