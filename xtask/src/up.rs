//! `shoal up` from this checkout, for the tasks that try it from outside.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::shell::{self, AtPath as _, TaskError};

/// The program, serving on a free port from a data folder of its own.
pub(crate) struct Up {
    child: Child,
    pub(crate) url: String,
}

impl Up {
    /// Serves models that the program has or that [`tool_model`] made.
    pub(crate) fn start(program: &Path, home: &Path, models: &[&Path]) -> Result<Self, TaskError> {
        Self::start_with(program, home, models, &[])
    }

    /// The same with more options.
    pub(crate) fn start_with(
        program: &Path,
        home: &Path,
        models: &[&Path],
        options: &[&str],
    ) -> Result<Self, TaskError> {
        if home.exists() {
            std::fs::remove_dir_all(home).at(home)?;
        }
        let mut up = Command::new(program);
        up.args(["up", "--json", "--listen", "127.0.0.1:0"]).args(options);
        for model in models {
            up.arg("--model").arg(model);
        }
        up.env("SHOAL_HOME", home).stdout(Stdio::piped());
        let child = up.spawn().at(program)?;
        let mut up = Self { child, url: String::new() };
        let mut line = String::new();
        let stdout = up.child.stdout.take().expect("it was asked for");
        BufReader::new(stdout).read_line(&mut line).at(program)?;
        let screen: serde_json::Value = serde_json::from_str(&line)
            .map_err(|error| TaskError::Refused(format!("`shoal up` says {line:?}: {error}")))?;
        up.url = format!("http://{}", screen["address"].as_str().unwrap_or_default());
        Ok(up)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the program, as developers do.
pub(crate) fn build() -> Result<PathBuf, TaskError> {
    let mut build = Command::new("cargo");
    // The whole workspace and an example: else its dependencies, and all that needs them, are built
    // once more with other features than the tests have.
    build.args(["build", "--locked", "--workspace", "--bin", "shoal", "--example", "tool_model"]);
    shell::loud(build.current_dir(shell::root()), "install Rust")?;
    Ok(target().join("debug/shoal"))
}

/// Makes a tiny model of random numbers that chats and calls tools, called `tools`.
pub(crate) fn tool_model(folder: &Path) -> Result<PathBuf, TaskError> {
    std::fs::create_dir_all(folder).at(folder)?;
    let model = folder.join("tools.gguf");
    build()?;
    let mut make = Command::new(target().join("debug/examples/tool_model"));
    shell::loud(make.arg(&model), "see what it says")?;
    Ok(model)
}

fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| shell::root().join("target"), PathBuf::from)
}
