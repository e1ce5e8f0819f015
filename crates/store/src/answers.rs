//! Answers kept for a day, so that a request that is sent again gets the same one.
//!
//! Owns the folder `answers` and how long files in it live. Does not own what an answer is: those
//! are bytes. They are words of the user, so only the user can read them, and what is too old is
//! removed: when the folder is opened, when somebody sweeps, and when somebody asks for it.
//!
//! A file is the second since 1970 at which it ends (8 bytes), the digest of that and the answer
//! (32 bytes), and the answer. Invariant: what is damaged is never taken for absent, since then the
//! answer would be made a second time; it stays until an answer as young would have ended.

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
/// Seconds since 1970 at which a file ends.
const END_BYTES: usize = 8;
/// Before the answer: the end, and the digest of end and answer.
const HEAD_BYTES: usize = END_BYTES + 32;
const DOMAIN: &str = "shoal/kept-answer/v1";
/// Longest life of a file on its way: it gets its name within a moment, or never.
const PART_LIFE: Duration = Duration::from_secs(60);

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
    /// It is damaged, or the system's answer.
    pub fn find(&self, key: Digest, now: SystemTime) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path(key);
        let Some(mut bytes) = files::read_at_most(&path, ANSWER_BYTES_MAX)? else {
            return Ok(None);
        };
        let Some(end) = end(&bytes).filter(|_| is_sound(&bytes)) else {
            return Err(StoreError::Answer { path });
        };
        if end <= seconds(now) {
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
        let end = (seconds(now) + ANSWER_LIFE.as_secs()).to_le_bytes();
        let bytes = [&end[..], &digest(&end, answer).0, answer].concat();
        files::replace(&path, &bytes, 0o600)?;
        self.bytes.fetch_add(needed, Ordering::Relaxed);
        Ok(())
    }

    /// Removes what is too old.
    ///
    /// # Errors
    /// The system's answer.
    pub fn sweep(&self, now: SystemTime) -> Result<(), StoreError> {
        let mut kept = 0;
        for entry in std::fs::read_dir(&self.folder).at(&self.folder)? {
            let path = entry.at(&self.folder)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let length = path.metadata().map_or(0, |file| file.len());
            let is_alive = match name.parse::<Digest>() {
                Ok(_) => is_alive(&path, now),
                Err(_) => age(&path, now) < PART_LIFE,
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

/// When a file with this beginning ends.
fn end(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk::<END_BYTES>().map(|end| u64::from_le_bytes(*end))
}

fn digest(end: &[u8], answer: &[u8]) -> Digest {
    Digest::tagged(DOMAIN, &[end, answer].concat())
}

fn is_sound(bytes: &[u8]) -> bool {
    let Some((head, answer)) = bytes.split_at_checked(HEAD_BYTES) else { return false };
    let (end, digest_written) = head.split_at(END_BYTES);
    digest(end, answer).0 == digest_written
}

/// Whether an answer has not ended. An end that no clock wrote is not believed; the file's age
/// decides then.
fn is_alive(path: &Path, now: SystemTime) -> bool {
    let (now_s, life_s) = (seconds(now), ANSWER_LIFE.as_secs());
    // The clock that wrote it may have been set back since.
    let possible = now_s.saturating_sub(life_s)..now_s + 2 * life_s;
    match end(&head(path)).filter(|end| possible.contains(end)) {
        Some(end) => now_s < end,
        None => age(path, now) < ANSWER_LIFE,
    }
}

fn head(path: &Path) -> Vec<u8> {
    use std::io::Read as _;

    let mut bytes = Vec::new();
    // What cannot be read has no end.
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(END_BYTES as u64).read_to_end(&mut bytes);
    }
    bytes
}

/// Since a file was changed.
fn age(path: &Path, now: SystemTime) -> Duration {
    let changed = path.metadata().and_then(|file| file.modified());
    // What was changed after `now` is young as well; what has no time is gone.
    changed.map_or(Duration::MAX, |changed| now.duration_since(changed).unwrap_or_default())
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
    fn a_damaged_answer_is_not_taken_for_none() {
        let home = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let kept = KeptAnswers::open(home.path()).unwrap();
        kept.keep(key(1), b"words", now).unwrap();
        let path = home.path().join(FOLDER).join(key(1).to_string());
        let whole = std::fs::read(&path).unwrap();
        let is_damaged = || {
            kept.sweep(now).unwrap();
            matches!(kept.find(key(1), now), Err(StoreError::Answer { .. }))
        };
        for place in 0..whole.len() {
            std::fs::write(&path, &whole[..place]).unwrap();
            assert!(is_damaged(), "{place} bytes");
            let mut flipped = whole.clone();
            flipped[place] ^= 0x80;
            std::fs::write(&path, &flipped).unwrap();
            assert!(is_damaged(), "byte {place}");
        }
        std::fs::write(&path, [0xff; 50]).unwrap();
        kept.sweep(now + ANSWER_LIFE + Duration::from_secs(60)).unwrap();
        assert_eq!(kept.find(key(1), now).unwrap(), None, "it does not stay for ever");
        // A clock that was set back makes nobody compute again.
        kept.keep(key(1), b"words", now).unwrap();
        let before = now - Duration::from_secs(3600);
        kept.sweep(before).unwrap();
        assert_eq!(kept.find(key(1), before).unwrap().unwrap(), b"words");
    }

    #[test]
    fn what_never_got_its_name_is_removed() {
        let home = tempfile::tempdir().unwrap();
        let kept = KeptAnswers::open(home.path()).unwrap();
        let part = home.path().join(FOLDER).join(".new-1");
        std::fs::write(&part, b"x").unwrap();
        let now = SystemTime::now();
        kept.sweep(now).unwrap();
        assert!(part.exists());
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
