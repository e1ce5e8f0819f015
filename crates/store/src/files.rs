//! Files that are there completely or not at all.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::StoreError;
use crate::error::AtPath as _;

/// Everything in a store belongs to its user alone.
const FOLDER_MODE: u32 = 0o700;
/// Files that only change by being replaced.
pub(crate) const FIXED_MODE: u32 = 0o400;

/// Makes a folder and those above it, unless it is there.
pub(crate) fn make_folder(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).at(path)
}

/// Replaces a file: after a crash, the old content is there or the new one.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    let folder = path.parent().expect("files of a store are in a folder");
    let write = || -> io::Result<()> {
        let mut file = tempfile::Builder::new().prefix(".new-").tempfile_in(folder)?;
        file.write_all(bytes)?;
        set_mode(file.as_file(), mode)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        sync_folder(folder)
    };
    write().at(path)
}

/// Makes renames in a folder survive a loss of power.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(crate) fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(mode))
}

/// A new file that only this user reads and writes.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// The bytes of a file, `None` when it is not there; one above `limit` bytes is an error.
pub(crate) fn read_at_most(path: &Path, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file.at(path)?,
    };
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).at(path)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge)).at(path);
    }
    Ok(Some(bytes))
}

/// Removes a file unless it is gone already.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.at(path),
    }
}

/// Removes a folder and everything in it unless it is gone already.
pub(crate) fn remove_folder(path: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.at(path),
    }
}

/// The names in a folder; of one that is not there, none. Those that are not UTF-8 are not ours.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>, StoreError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.at(folder)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.at(folder)?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// The length of a file; 0 when it is gone.
pub(crate) fn length(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |metadata| metadata.len())
}

/// Bytes this user can still write to the file system of a path.
pub(crate) fn free_bytes(path: &Path) -> Result<u64, StoreError> {
    let answer = rustix::fs::statvfs(path).map_err(io::Error::from).at(path)?;
    Ok(answer.f_bavail.saturating_mul(answer.f_frsize))
}

/// Refuses to begin what cannot be completed.
pub(crate) fn check_space(path: &Path, needed: u64) -> Result<(), StoreError> {
    let free = free_bytes(path)?;
    if needed > free {
        return Err(StoreError::NoSpace { path: path.to_owned(), needed, free });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_leaves_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        replace(&path, b"old", FIXED_MODE).unwrap();
        replace(&path, b"new", FIXED_MODE).unwrap();
        assert_eq!(read_at_most(&path, 3).unwrap().unwrap(), b"new");
        assert_eq!(names(folder.path()).unwrap(), ["file"]);
        let error = read_at_most(&path, 2).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
        assert!(read_at_most(&folder.path().join("none"), 2).unwrap().is_none());
    }

    #[test]
    fn more_than_the_disk_holds_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let error = check_space(folder.path(), u64::MAX).unwrap_err();
        assert!(error.is_out_of_space(), "{error}");
        check_space(folder.path(), 1).unwrap();
    }
}
