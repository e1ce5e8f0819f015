//! `cargo xtask browser`: the console in headless Chromium, against `shoal up`.
//!
//! Screenshots stay in `target/browser`. What a machine lacks is skipped and said.

use std::path::Path;
use std::process::Command;

use crate::check::{Outcome, Report};
use crate::registry;
use crate::shell::{self, TaskError};
use crate::up::{self, Up};

/// Names that Chromium goes by.
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// The model inside the program.
const STORIES: &str = "shoal-tiny";

pub(crate) fn run() -> Result<(), TaskError> {
    let mut report = Report::default();
    report.step("browser", step);
    report.print();
    report.result()
}

pub(crate) fn step() -> Result<Outcome, TaskError> {
    let Some(chromium) = PROGRAMS.into_iter().find_map(path_of) else {
        return Ok(Outcome::Skipped("no Chromium".to_owned()));
    };
    let folder = shell::root().join("target/browser");
    if let Err(reason) = registry::node("testing/browser", &folder, "console.mjs")? {
        return Ok(Outcome::Skipped(reason));
    }
    let tools = up::tool_model(&folder)?;
    let program = up::build()?;
    let up = Up::start(&program, &folder.join("home"), &[Path::new(STORIES), &tools])?;
    let models = [Path::new(STORIES)];
    let split = Up::start_with(&program, &folder.join("split"), &models, &["--nodes", "2"])?;
    let mut node = Command::new("node");
    node.arg("console.mjs").arg(&up.url).arg(chromium).arg(&folder);
    node.arg(&split.url).current_dir(&folder);
    shell::loud(&mut node, "install node")?;
    println!("screenshots: {}", folder.display());
    Ok(Outcome::Done)
}

/// Where a program is.
fn path_of(program: &str) -> Option<std::path::PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(|path| path.is_file())
}
