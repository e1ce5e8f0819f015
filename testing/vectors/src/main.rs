//! Writes the golden vectors below `vectors/`. Run by `cargo xtask vectors`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let write = || -> std::io::Result<()> {
        let folder = shoal_vectors::folder();
        std::fs::create_dir_all(&folder)?;
        for (name, text) in shoal_vectors::all() {
            std::fs::write(folder.join(name), text)?;
        }
        let folder = shoal_vectors::package::folder();
        // Blobs are named by their digest: those of an earlier form would stay.
        if folder.exists() {
            std::fs::remove_dir_all(&folder)?;
        }
        std::fs::create_dir_all(&folder)?;
        for (name, bytes) in shoal_vectors::package::files() {
            std::fs::write(folder.join(name), bytes)?;
        }
        let folder = shoal_vectors::wire::folder();
        std::fs::create_dir_all(&folder)?;
        for (name, text) in shoal_vectors::wire::files() {
            std::fs::write(folder.join(name), text)?;
        }
        Ok(())
    };
    match write() {
        Ok(()) => ExitCode::SUCCESS,
        #[expect(clippy::print_stderr, reason = "the terminal is its interface")]
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
