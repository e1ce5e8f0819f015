//! Packages from the registries that pip and npm are set up with, at the versions of this
//! checkout.
//!
//! A machine that lacks a program or cannot reach a registry skips, and says so. A package that is
//! not to be had from a registry that answers is a failure.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::shell::{self, AtPath as _, TaskError};

/// Why nothing can be installed here, or what was installed.
pub(crate) type Installed<T> = Result<Result<T, String>, TaskError>;

/// Oldest Node that the packages run on.
const NODE_MIN: u32 = 20;

/// Whether a program can be started.
pub(crate) fn has(program: &str) -> bool {
    let mut probe = Command::new(program);
    probe.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// A virtual environment with the packages of a file; its folder of programs.
pub(crate) fn python(folder: &Path, requirements: &str) -> Installed<PathBuf> {
    let venv = folder.join("venv");
    let programs = venv.join("bin");
    if !has("python3") {
        return Ok(Err("no python3".to_owned()));
    }
    if !programs.join("pip").exists() {
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).output();
        if !made.as_ref().is_ok_and(|output| output.status.success()) {
            return Ok(Err("python3 has no venv".to_owned()));
        }
    }
    let pip = || {
        let mut pip = Command::new(programs.join("pip"));
        pip.args(["--disable-pip-version-check", "--timeout", "20", "--retries", "2"]);
        pip
    };
    let mut probe = pip();
    probe.args(["download", "--quiet", "--no-deps", "--dest"]).arg(folder.join("probe"));
    if let Err(reason) = answers(probe.arg("six"), "the registry of Python packages")? {
        return Ok(Err(reason));
    }
    let mut install = pip();
    // The file names everything at its version, so there is nothing to resolve; what has no wheel
    // would be compiled for minutes.
    install.args(["install", "--quiet", "--no-deps", "--no-compile", "--only-binary", ":all:"]);
    install.args(["--requirement", requirements]);
    shell::loud(install.current_dir(shell::root()), "install pip")?;
    Ok(Ok(programs))
}

/// The packages of a folder of the checkout, installed beside copies of its files, so that nothing
/// lands in the tree.
pub(crate) fn node(source: &str, place: &Path, script: &str) -> Installed<()> {
    match node_version() {
        Some(version) if version >= NODE_MIN => {}
        Some(version) => return Ok(Err(format!("node {version} is older than {NODE_MIN}"))),
        None => return Ok(Err("no node".to_owned())),
    }
    if !has("npm") {
        return Ok(Err("no npm".to_owned()));
    }
    std::fs::create_dir_all(place).at(place)?;
    for name in ["package.json", "package-lock.json", script] {
        let from = shell::root().join(source).join(name);
        std::fs::copy(&from, place.join(name)).at(&from)?;
    }
    let mut probe = Command::new("npm");
    probe.args(["view", "--fetch-retries", "1", "--fetch-timeout", "20000", "ms", "version"]);
    if let Err(reason) = answers(probe.current_dir(place), "the registry of Node packages")? {
        return Ok(Err(reason));
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--no-audit", "--no-fund", "--silent"]).current_dir(place);
    shell::loud(&mut install, "install npm")?;
    Ok(Ok(()))
}

/// The first number of Node's version.
fn node_version() -> Option<u32> {
    let output = Command::new("node").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().trim_start_matches('v').split('.').next()?.parse().ok()
}

/// Whether a registry answers.
fn answers(probe: &mut Command, name: &str) -> Installed<()> {
    let program = PathBuf::from(probe.get_program());
    let Output { status, stderr, .. } = probe.output().at(&program)?;
    if status.success() {
        return Ok(Ok(()));
    }
    print!("{}", String::from_utf8_lossy(&stderr));
    Ok(Err(format!("{name} cannot be reached")))
}
