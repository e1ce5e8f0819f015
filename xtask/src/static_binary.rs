//! `cargo xtask static-binary`: the program that is given to users needs nothing but a kernel.
//!
//! Builds it for release, then checks its size, that it names no loader, and that it starts in a
//! folder that holds nothing else.

use std::path::Path;
use std::process::Command;

use crate::check::Outcome;
use crate::elf::{self, Linkage};
use crate::shell::{self, AtPath, TaskError};

const TARGET: &str = "x86_64-unknown-linux-gnu";
const PACKAGE_FOLDER: &str = "crates/cli";
const PACKAGE: &str = "shoal-cli";
const PROGRAM: &str = "shoal";
/// Small enough to be downloaded without a thought.
const BYTES_MAX: usize = 60 << 20;

pub(crate) fn run() -> Result<Outcome, TaskError> {
    let root = shell::root();
    if !root.join(PACKAGE_FOLDER).join("Cargo.toml").exists() {
        return Ok(Outcome::Skipped(format!("no {PACKAGE_FOLDER}")));
    }
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return Ok(Outcome::Skipped(format!("only for {TARGET}")));
    }
    let mut build = Command::new("cargo");
    build.current_dir(&root).env("RUSTFLAGS", "-C target-feature=+crt-static");
    build.args(["build", "--release", "--locked", "--target", TARGET, "--package", PACKAGE]);
    let target = root.join("target");
    build.arg("--target-dir").arg(&target);
    shell::loud(&mut build, "install Rust")?;

    let program = target.join(TARGET).join("release").join(PROGRAM);
    let bytes = std::fs::read(&program).at(&program)?;
    check_bytes(&bytes).map_err(TaskError::Refused)?;
    let version = start_alone(&target.join("alone"), &bytes)?;
    println!("{} bytes, static, starts alone: {version}", bytes.len());
    Ok(Outcome::Done)
}

fn check_bytes(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() > BYTES_MAX {
        return Err(format!("{PROGRAM} has {} bytes, limit {BYTES_MAX}", bytes.len()));
    }
    match elf::linkage(bytes) {
        Some(Linkage::Static) => Ok(()),
        Some(Linkage::Dynamic) => Err(format!("{PROGRAM} is linked dynamically")),
        None => Err(format!("{PROGRAM} is no 64-bit ELF program")),
    }
}

/// Starts the program where there is nothing else; returns the version it prints.
fn start_alone(folder: &Path, bytes: &[u8]) -> Result<String, TaskError> {
    use std::os::unix::fs::PermissionsExt as _;

    if folder.exists() {
        std::fs::remove_dir_all(folder).at(folder)?;
    }
    std::fs::create_dir_all(folder).at(folder)?;
    let program = folder.join(PROGRAM);
    std::fs::write(&program, bytes).at(&program)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).at(&program)?;

    let is_root = shell::quiet(Command::new("id").arg("-u"), "install coreutils")?.stdout == b"0\n";
    let mut command = Command::new("unshare");
    if !is_root {
        command.arg("--map-root-user");
    }
    let inside = format!("/{PROGRAM}");
    command.arg("--root").arg(folder).args([inside.as_str(), "--version"]);
    let output = shell::quiet(&mut command, "install util-linux")?;
    std::fs::remove_dir_all(folder).at(folder)?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::{BYTES_MAX, check_bytes};

    #[test]
    fn large_and_foreign_files_are_refused() {
        let large = check_bytes(&vec![0; BYTES_MAX + 1]);
        assert_eq!(large, Err("shoal has 62914561 bytes, limit 62914560".to_owned()));
        assert_eq!(check_bytes(b"#!/bin/sh"), Err("shoal is no 64-bit ELF program".to_owned()));
    }
}
