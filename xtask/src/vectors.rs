//! `cargo xtask vectors`: writes the golden vectors from the reference.
//!
//! The cases and the reference are in `testing/vectors`, which this crate does not depend on, so
//! that the other tasks stay quick to build. Released vectors are not touched.

use std::process::Command;

use crate::shell::{self, TaskError};

/// The lists that mark released versions.
const RELEASED: [&str; 3] =
    ["vectors/arith/v1/DIGESTS", "vectors/package/v1/DIGESTS", "vectors/wire/v1/DIGESTS"];

pub(crate) fn run() -> Result<(), TaskError> {
    let root = shell::root();
    if let Some(list) = RELEASED.into_iter().find(|list| root.join(list).exists()) {
        let message = format!("{list} is there: this version is released, make a new one");
        return Err(TaskError::Refused(message));
    }
    let mut cargo = Command::new("cargo");
    cargo.current_dir(root).args(["run", "--quiet", "--locked", "--package", "shoal-vectors"]);
    shell::loud(&mut cargo, "install Rust")?;
    println!("check them with: cargo test --test vectors, python3 bench/fixtures/arith_check.py");
    Ok(())
}
