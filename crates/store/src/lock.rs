//! Locks between processes: one for changes of the store, one for each package being made.
//!
//! The system drops a lock when its process ends in any way, so none is ever left behind.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::StoreError;
use crate::error::AtPath as _;

/// Changes are renames and short files; longer than this means that a process is stuck.
const WAIT_MAX: Duration = Duration::from_secs(30);
const WAIT_STEP: Duration = Duration::from_millis(10);

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for a lock.
    pub(crate) fn wait(path: &Path) -> Result<Self, StoreError> {
        let started = Instant::now();
        loop {
            if let Some(lock) = Self::take(path)? {
                return Ok(lock);
            }
            if started.elapsed() > WAIT_MAX {
                return Err(StoreError::Busy { path: path.to_owned() });
            }
            std::thread::sleep(WAIT_STEP);
        }
    }

    /// Takes a lock, `None` when another process has it.
    pub(crate) fn take(path: &Path) -> Result<Option<Self>, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path).at(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).at(path),
        }
    }

    /// Whether a process holds the lock at `path`; no file, no lock. In doubt it does.
    pub(crate) fn is_held(path: &Path) -> bool {
        match OpenOptions::new().read(true).write(true).open(path) {
            Ok(file) => file.try_lock().is_err(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_held_until_it_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        assert!(!Lock::is_held(&path));
        let lock = Lock::wait(&path).unwrap();
        assert!(Lock::is_held(&path));
        assert!(Lock::take(&path).unwrap().is_none());
        drop(lock);
        assert!(!Lock::is_held(&path));
        assert!(Lock::take(&path).unwrap().is_some());
    }
}
