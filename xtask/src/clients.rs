//! `cargo xtask clients`: real clients, at pinned versions, against `shoal up`.
//!
//! The model is random numbers; what is tried is whether clients understand the answers. Clients
//! come from the registries that pip and npm are set up with. What a machine lacks is skipped and
//! said.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::check::{Outcome, Report};
use crate::shell::{self, AtPath as _, TaskError};

/// Arguments of `cargo xtask clients`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Leave out schemathesis, which takes minutes
    #[arg(long)]
    no_schema: bool,
}

/// Requests that schemathesis makes up for each operation.
const EXAMPLES: &str = "40";

pub(crate) fn run(args: &Args) -> Result<(), TaskError> {
    let folder = shell::root().join("target/clients");
    std::fs::create_dir_all(&folder).at(&folder)?;
    let up = Up::start(&folder)?;
    let mut report = Report::default();
    let python = folder.join("venv/bin/python");
    report.step("python", || {
        if !has("python3") {
            return Ok(Outcome::Skipped("no python3".to_owned()));
        }
        install_python(&folder)?;
        let mut clients = Command::new(&python);
        clients.arg("testing/clients/clients.py").arg(&up.url);
        loud(&mut clients)
    });
    report.step("node", || {
        if !has("npm") {
            return Ok(Outcome::Skipped("no npm".to_owned()));
        }
        node(&folder, &up.url)
    });
    if !args.no_schema {
        report.step("schemathesis", || schemathesis(&folder, &up.url));
    }
    report.print();
    report.result()
}

fn has(program: &str) -> bool {
    let mut probe = Command::new(program);
    probe.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

fn loud(command: &mut Command) -> Result<Outcome, TaskError> {
    shell::loud(command.current_dir(shell::root()), "install it")?;
    Ok(Outcome::Done)
}

fn install_python(folder: &Path) -> Result<(), TaskError> {
    let venv = folder.join("venv");
    if !venv.exists() {
        loud(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    }
    let mut pip = Command::new(venv.join("bin/pip"));
    pip.args(["install", "--quiet", "--requirement", "testing/clients/requirements.txt"]);
    loud(&mut pip).map(drop)
}

/// The packages are installed beside a copy of the script, so that nothing lands in the tree.
fn node(folder: &Path, url: &str) -> Result<Outcome, TaskError> {
    let place = folder.join("node");
    std::fs::create_dir_all(&place).at(&place)?;
    let source = shell::root().join("testing/clients");
    for name in ["package.json", "clients.mjs"] {
        std::fs::copy(source.join(name), place.join(name)).at(&place)?;
    }
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-audit", "--no-fund", "--silent"]).current_dir(&place);
    shell::loud(&mut npm, "install npm")?;
    let mut node = Command::new("node");
    node.arg("clients.mjs").arg(url).current_dir(&place);
    shell::loud(&mut node, "install node")?;
    Ok(Outcome::Done)
}

fn schemathesis(folder: &Path, url: &str) -> Result<Outcome, TaskError> {
    let program = folder.join("venv/bin/schemathesis");
    if !program.exists() {
        return Ok(Outcome::Skipped("python clients are not installed".to_owned()));
    }
    let checks = "not_a_server_error,response_schema_conformance,status_code_conformance,\
                  content_type_conformance";
    let mut schemathesis = Command::new(program);
    schemathesis.args(["run", &format!("{url}/openapi.json"), "--checks", checks]);
    schemathesis.args(["--max-examples", EXAMPLES, "--seed", "1", "--phases", "examples,fuzzing"]);
    schemathesis.args(["--request-timeout", "60", "--workers", "2", "--no-color"]);
    loud(&mut schemathesis)
}

/// The program, serving a tiny model called `tools` from a data folder of its own.
struct Up {
    child: Child,
    url: String,
}

impl Up {
    fn start(folder: &Path) -> Result<Self, TaskError> {
        let model = folder.join("tools.gguf");
        let mut build = Command::new("cargo");
        build.args(["build", "--locked", "--package", "shoal-cli", "--package", "shoal-testkit"]);
        loud(build.args(["--bins", "--examples"]))?;
        loud(Command::new(target().join("debug/examples/tool_model")).arg(&model))?;
        let home = folder.join("home");
        if home.exists() {
            std::fs::remove_dir_all(&home).at(&home)?;
        }
        let program = target().join("debug/shoal");
        let mut up = Command::new(&program);
        up.args(["up", "--json", "--listen", "127.0.0.1:0", "--model"]).arg(&model);
        up.env("SHOAL_HOME", &home).stdout(Stdio::piped());
        let mut child = up.spawn().at(&program)?;
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it was asked for");
        BufReader::new(stdout).read_line(&mut line).at(&program)?;
        let screen: serde_json::Value = serde_json::from_str(&line)
            .map_err(|error| TaskError::Refused(format!("`shoal up` says {line:?}: {error}")))?;
        let address = screen["address"].as_str().unwrap_or_default();
        Ok(Self { child, url: format!("http://{address}") })
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from)
}
