//! Inputs that once failed, committed as `regressions/<target>/<name>`, tried before all others.

use std::path::{Path, PathBuf};

/// The folder of a target.
fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target)
}

/// The inputs of a target in the order of their names; none when it has no folder.
pub(crate) fn inputs(target: &str) -> std::io::Result<Vec<Vec<u8>>> {
    let folder = folder(target);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(&folder)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}
