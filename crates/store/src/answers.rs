//! Answers kept for a day, so that a request that is sent again gets the same one.
//!
//! Owns the folder `answers` and how long files in it live. Does not own what an answer is: those
//! are bytes. They are words of the user, so only the user can read them, and what is too old is
//! removed: when the folder is opened, when somebody sweeps, and when somebody asks for it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shoal_base::Digest;

use crate::error::AtPath as _;
use crate::{StoreError, files};

/// The folder in the data folder.
pub(crate) const FOLDER: &str = "answers";
/// How long an answer is kept.
pub const ANSWER_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Longest answer.
const ANSWER_BYTES_MAX: u64 = 65 << 20;
/// All answers together.
const ALL_BYTES_MAX: u64 = 2 << 30;
/// Seconds since 1970 at which a file ends, before the answer.
const HEAD_BYTES: usize = 8;

/// Answers on disk.
#[derive(Debug)]
pub struct KeptAnswers {
    folder: PathBuf,
    bytes: AtomicU64,
}

impl KeptAnswers {
    /// Opens the answers of the data folder `home`.
    ///
    /// # Errors
    /// The system's answer.
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        let kept = Self { folder: home.join(FOLDER), bytes: AtomicU64::new(0) };
        files::make_folder(&kept.folder)?;
        kept.sweep(SystemTime::now())?;
        Ok(kept)
    }

    fn path(&self, key: Digest) -> PathBuf {
        self.folder.join(key.to_string())
    }

    /// The answer with this key, unless it is too old.
    ///
    /// # Errors
    /// The system's answer.
    pub fn find(&self, key: Digest, now: SystemTime) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(key);
        let Some(mut bytes) = files::read_at_most(&path, ANSWER_BYTES_MAX)? else {
            return Ok(None);
        };
        if !is_alive(&bytes, now) {
            files::remove(&path)?;
            return Ok(None);
        }
        Ok(Some(bytes.split_off(HEAD_BYTES)))
    }

    /// Keeps an answer. It is there completely or not at all.
    ///
    /// # Errors
    /// There is no room for it, or the system's answer.
    pub fn keep(&self, key: Digest, answer: &[u8], now: SystemTime) -> Result<(), StoreError> {
        let path = self.path(key);
        let needed = (HEAD_BYTES + answer.len()) as u64;
        let free = ALL_BYTES_MAX.saturating_sub(self.bytes.load(Ordering::Relaxed));
        let free = free.min(ANSWER_BYTES_MAX);
        if needed > free {
            return Err(StoreError::NoSpace { path, needed, free });
        }
        let mut bytes = (seconds(now) + ANSWER_LIFE.as_secs()).to_le_bytes().to_vec();
        bytes.extend_from_slice(answer);
        files::replace(&path, &bytes, 0o600)?;
        self.bytes.fetch_add(needed, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what is too old, and what is no answer.
    ///
    /// # Errors
    /// The system's answer.
    pub fn sweep(&self, now: SystemTime) -> Result<(), StoreError> {
        let mut kept = 0;
        for entry in std::fs::read_dir(&self.folder).at(&self.folder)? {
            let path = entry.at(&self.folder)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_answer = name.parse::<Digest>().is_ok();
            // A file on its way gets its name within a moment, or never.
            let length = path.metadata().map_or(0, |file| file.len());
            let is_alive = match is_answer {
                true => is_alive(&head(&path), now),
                false => is_young(&path, now),
            };
            match is_alive {
                true => kept += length,
                false => files::remove(&path)?,
            }
        }
        self.bytes.store(kept, Ordering::Relaxed);
        Ok(())
    }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether a file with this beginning has not ended. One that would live longer than any answer
/// does was written by a clock that ran ahead.
fn is_alive(bytes: &[u8], now: SystemTime) -> bool {
    let now = seconds(now);
    let head = bytes.first_chunk::<HEAD_BYTES>();
    let end = head.map(|head| u64::from_le_bytes(*head));
    end.is_some_and(|end| now < end && end <= now + ANSWER_LIFE.as_secs())
}

fn head(path: &Path) -> Vec<u8> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    // What cannot be read is no answer.
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(HEAD_BYTES as u64).read_to_end(&mut bytes);
    }
    bytes
}

fn is_young(path: &Path, now: SystemTime) -> bool {
    let changed = path.metadata().and_then(|file| file.modified());
    // What was changed after `now` is young as well.
    changed.is_ok_and(|changed| now.duration_since(changed).map_or(0, |age| age.as_secs()) < 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn key(byte: u8) -> Digest {
        Digest([byte; 32])
    }

    #[test]
    fn an_answer_survives_a_restart_and_ends_after_a_day() {
        let home = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let kept = KeptAnswers::open(home.path()).unwrap();
        kept.keep(key(1), b"words", now).unwrap();
        let kept = KeptAnswers::open(home.path()).unwrap();
        assert_eq!(kept.find(key(1), now).unwrap().unwrap(), b"words");
        assert_eq!(kept.find(key(2), now).unwrap(), None);
        let path = home.path().join(FOLDER).join(key(1).to_string());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let folder = home.path().join(FOLDER);
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        let late = now + ANSWER_LIFE;
        kept.sweep(late - Duration::from_secs(2)).unwrap();
        assert!(path.exists());
        kept.sweep(late).unwrap();
        assert!(!path.exists(), "what is too old is removed");
        kept.keep(key(1), b"words", now).unwrap();
        assert_eq!(kept.find(key(1), late).unwrap(), None);
        assert!(!path.exists(), "also when somebody asks");
    }

    #[test]
    fn what_is_no_answer_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let kept = KeptAnswers::open(home.path()).unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = home.path().join(FOLDER).join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        let now = SystemTime::now();
        let short = write(&key(1).to_string(), b"x");
        let ahead = write(&key(2).to_string(), &[0xff; 20]);
        let part = write(".new-1", b"x");
        kept.sweep(now).unwrap();
        assert!(!short.exists() && !ahead.exists() && part.exists());
        kept.sweep(now + Duration::from_secs(90)).unwrap();
        assert!(!part.exists());
    }

    #[test]
    fn answers_without_room_are_refused() {
        let home = tempfile::tempdir().unwrap();
        let kept = KeptAnswers::open(home.path()).unwrap();
        kept.bytes.store(ALL_BYTES_MAX - 10, Ordering::Relaxed);
        let refused = kept.keep(key(1), b"words", SystemTime::now());
        assert!(matches!(refused, Err(StoreError::NoSpace { free: 10, .. })));
    }
}
