//! The key that signs the index. Made on first use, known to this store alone.

use std::io::{self, Write as _};
use std::path::Path;

use ed25519_dalek::SigningKey;
use shoal_base::Digest;

use crate::StoreError;
use crate::error::AtPath as _;
use crate::files;

/// 64 hexadecimal digits and the end of the line.
const FILE_BYTES: u64 = 65;
/// Bits of a mode that let others read or write.
const OTHERS: u32 = 0o077;

/// Reads the key, `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<SigningKey>, StoreError> {
    let rule = "the key is 64 hexadecimal digits";
    let damaged = || StoreError::Index { path: path.to_owned(), rule };
    let Some(bytes) = files::read_at_most(path, FILE_BYTES).map_err(|error| match error {
        StoreError::Io { source, .. } if source.kind() == io::ErrorKind::FileTooLarge => damaged(),
        error => error,
    })?
    else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| damaged())?;
    // 32 bytes in the text form of a digest.
    let secret: Digest = text.trim_end().parse().map_err(|_| damaged())?;
    Ok(Some(SigningKey::from_bytes(&secret.0)))
}

/// Makes a key. Fails when there is one.
pub(crate) fn create(path: &Path) -> Result<SigningKey, StoreError> {
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).map_err(io::Error::other).at(path)?;
    let write = || -> io::Result<()> {
        let mut file = files::create_new(path)?;
        writeln!(file, "{}", Digest(secret))?;
        file.sync_all()
    };
    write().at(path)?;
    Ok(SigningKey::from_bytes(&secret))
}

/// Whether others than its user can read or change the key.
pub(crate) fn is_open_to_others(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & OTHERS != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_belongs_to_its_user() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(read(&path).unwrap().is_none());
        let key = create(&path).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), key);
        assert!(!is_open_to_others(&path));
        assert!(create(&path).is_err());
        for bad in ["", "00", &"0".repeat(65), &"x".repeat(64)] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(read(&path), Err(StoreError::Index { .. })), "{bad}");
        }
    }
}
