//! Files that have their name only once they are whole and on disk.

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::NamedTempFile;

use crate::failure::{Failure, at_path};

/// How a file that is not yet whole is called. Whoever owns the folder may remove these.
pub(crate) const PART_PREFIX: &str = ".part-";

/// What is being written.
pub(crate) type Part = BufWriter<NamedTempFile>;

/// Has `fill` write a file and then names it `path`; returns its bytes. A file that has the name
/// is replaced, or, unless `replace`, refused. Whatever goes wrong, it stays as it was.
pub(crate) fn write_whole(
    path: &Path,
    replace: bool,
    fill: impl FnOnce(Part) -> Result<Part, Failure>,
) -> Result<u64, Failure> {
    let failed = |error: &std::io::Error| at_path(path, error);
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // As open to others as any new file.
    let file = tempfile::Builder::new()
        .prefix(PART_PREFIX)
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(folder);
    let mut file = fill(BufWriter::new(file.map_err(|error| failed(&error))?))?;
    file.flush().map_err(|error| failed(&error))?;
    let file = file.into_inner().map_err(|error| failed(error.error()))?;
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    let bytes = file.as_file().metadata().map_err(|error| failed(&error))?.len();
    let named = if replace { file.persist(path) } else { file.persist_noclobber(path) };
    named.map_err(|error| failed(&error.error))?;
    // The name, too, is to survive a loss of power.
    let folder = File::open(folder).map_err(|error| failed(&error))?;
    folder.sync_all().map_err(|error| failed(&error))?;
    Ok(bytes)
}

/// Makes `bytes` the content of the file `path`.
pub(crate) fn replace_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    write_whole(path, true, |mut file| {
        file.write_all(bytes).map_err(|error| at_path(path, &error))?;
        Ok(file)
    })?;
    Ok(())
}
