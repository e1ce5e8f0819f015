//! The file system of the guest: a shell, the program, what it may read, and the first process.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::shell::{AtPath, TaskError};

/// Starts the guest's last line; the exit status of the program follows.
pub(super) const EXIT_MARKER: &str = "emulate: exit ";

/// What runs in the guest.
pub(super) struct Guest<'a> {
    pub(super) program: &'a Path,
    pub(super) arguments: &'a [String],
    pub(super) variables: &'a [String],
    pub(super) carried: &'a [PathBuf],
    pub(super) shell: &'a Path,
}

/// One entry of the guest's file system; a folder when it has no bytes.
#[derive(Debug)]
pub(super) struct Entry {
    /// Path below the root, without a leading slash.
    pub(super) path: String,
    pub(super) mode: u32,
    pub(super) bytes: Option<Vec<u8>>,
}

impl Guest<'_> {
    /// Every entry, folders before what they hold.
    pub(super) fn files(&self) -> Result<Vec<Entry>, TaskError> {
        let mut entries = Vec::new();
        for folder in ["bin", "dev", "proc", "sys", "tmp"] {
            entries.push(folder_entry(folder));
        }
        let here = std::env::current_dir().at(Path::new("."))?;
        add_parents(&mut entries, &here.join("x"));
        entries.push(file_entry("bin/busybox", 0o755, read(self.shell)?));
        // The program keeps its path: some act on their name or look beside themselves.
        let program = std::fs::canonicalize(self.program).at(self.program)?;
        add_parents(&mut entries, &program);
        entries.push(file_entry(&below_root(&program), 0o755, read(&program)?));
        entries.push(file_entry("init", 0o755, self.init(&program, &here)?.into_bytes()));
        for path in self.carried {
            let path = std::fs::canonicalize(path).at(path)?;
            add_parents(&mut entries, &path);
            add_tree(&mut entries, &path)?;
        }
        Ok(entries)
    }

    /// The first process: prepares the guest, runs the program, prints its exit status.
    fn init(&self, program: &Path, here: &Path) -> Result<String, TaskError> {
        let mut script = String::from(
            "#!/bin/busybox sh\n\
             /bin/busybox mount -t proc proc /proc\n\
             /bin/busybox mount -t sysfs sys /sys\n\
             /bin/busybox mount -t devtmpfs dev /dev\n\
             exec </dev/null >/dev/ttyS0 2>&1\n\
             echo emulate: $(/bin/busybox grep -m1 'model name' /proc/cpuinfo)\n\
             echo emulate: $(/bin/busybox grep -m1 ^flags /proc/cpuinfo | \
             /bin/busybox grep -oE '\\<(avx[0-9a-z_]*|fma|sha_ni|gfni)\\>')\n",
        );
        for variable in self.variables {
            let (name, value) = variable.split_once('=').ok_or_else(|| {
                TaskError::Refused(format!("--env {variable}: expected NAME=VALUE"))
            })?;
            let _ = writeln!(script, "export {name}={}", quoted(value));
        }
        let _ = writeln!(script, "cd {}", quoted(&here.to_string_lossy()));
        script.push_str(&quoted(&program.to_string_lossy()));
        for argument in self.arguments {
            let _ = write!(script, " {}", quoted(argument));
        }
        // The program's last line may lack a line end.
        let _ = writeln!(script, "\ncode=$?\necho\necho '{EXIT_MARKER}'$code");
        // The host stops the machine when it has read the marker.
        script.push_str("while true; do /bin/busybox sleep 60; done\n");
        Ok(script)
    }
}

/// A word of a shell command, whatever it contains.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn read(path: &Path) -> Result<Vec<u8>, TaskError> {
    std::fs::read(path).at(path)
}

fn folder_entry(path: &str) -> Entry {
    Entry { path: path.to_owned(), mode: 0o755, bytes: None }
}

fn file_entry(path: &str, mode: u32, bytes: Vec<u8>) -> Entry {
    Entry { path: path.to_owned(), mode, bytes: Some(bytes) }
}

fn below_root(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_owned()
}

fn add_parents(entries: &mut Vec<Entry>, path: &Path) {
    let mut parents: Vec<_> = path.ancestors().skip(1).map(below_root).collect();
    parents.reverse();
    for parent in parents {
        if !parent.is_empty() && !entries.iter().any(|entry| entry.path == parent) {
            entries.push(folder_entry(&parent));
        }
    }
}

/// Follows links, so that the guest needs nothing beside the tree.
fn add_tree(entries: &mut Vec<Entry>, path: &Path) -> Result<(), TaskError> {
    let metadata = std::fs::metadata(path).at(path)?;
    if metadata.is_file() {
        let mode = metadata.permissions().mode() & 0o777;
        entries.push(file_entry(&below_root(path), mode, read(path)?));
        return Ok(());
    }
    entries.push(folder_entry(&below_root(path)));
    for entry in std::fs::read_dir(path).at(path)? {
        add_tree(entries, &entry.at(path)?.path())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest<'a>(arguments: &'a [String], variables: &'a [String], shell: &'a Path) -> Guest<'a> {
        Guest { program: shell, arguments, variables, carried: &[], shell }
    }

    #[test]
    fn words_reach_the_program_as_they_are() {
        let arguments = ["it's".to_owned(), "$HOME `x`".to_owned()];
        let variables = ["SHOAL_ISA=avx 512".to_owned()];
        let script = guest(&arguments, &variables, Path::new("/bin/sh"))
            .init(Path::new("/t/x"), Path::new("/a b"))
            .expect("the variables are well-formed");
        assert!(script.contains("\n'/t/x' 'it'\\''s' '$HOME `x`'\n"));
        assert!(script.contains("\nexport SHOAL_ISA='avx 512'\ncd '/a b'\n"));
    }

    #[test]
    fn a_variable_without_value_is_refused() {
        let variables = ["SHOAL_ISA".to_owned()];
        assert!(
            guest(&[], &variables, Path::new("/bin/sh"))
                .init(Path::new("/t/x"), Path::new("/"))
                .is_err()
        );
    }

    #[test]
    fn carried_trees_come_with_their_parents_in_order() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("v1")).expect("a folder");
        std::fs::write(folder.path().join("v1/a.json"), "{}").expect("a file");
        let carried = [folder.path().to_owned()];
        let files = Guest { carried: &carried, ..guest(&[], &[], Path::new("/bin/sh")) }
            .files()
            .expect("everything exists");
        let paths: Vec<_> = files.iter().map(|entry| entry.path.as_str()).collect();
        let top = below_root(&std::fs::canonicalize(folder.path()).expect("it exists"));
        let position = |path: &str| paths.iter().position(|other| *other == path);
        assert!(position(&top) < position(&format!("{top}/v1")));
        assert!(position(&format!("{top}/v1")) < position(&format!("{top}/v1/a.json")));
    }
}
