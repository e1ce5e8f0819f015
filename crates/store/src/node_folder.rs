//! What a node keeps: its key, the owner's key of a swarm that was made here, and its state as a
//! member. Format: `docs/reference/store.md`.
//!
//! Owns the folder `node`, that one process at a time uses it, and that files in it are there
//! completely or not at all. Does not own what the state says: those are bytes.

use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;

use crate::error::AtPath as _;
use crate::lock::Lock;
use crate::{StoreError, files, key};

/// The folder in the data folder.
pub(crate) const FOLDER: &str = "node";
const STATE_BYTES_MAX: u64 = 1 << 20;
const STATE_MODE: u32 = 0o600;
/// Where the running node takes commands. In this folder nobody else can reach it.
const CONTROL: &str = "control";

/// The folder of a node, held until dropped: a key has one process.
#[derive(Debug)]
pub struct NodeFolder {
    path: PathBuf,
    _lock: Lock,
}

impl NodeFolder {
    /// Takes the node's folder of the data folder `home`. `None` when another process has it.
    ///
    /// # Errors
    /// The system's answer.
    pub fn take(home: &Path) -> Result<Option<Self>, StoreError> {
        let path = std::path::absolute(home).at(home)?.join(FOLDER);
        files::make_folder(&path)?;
        let lock = Lock::take(&path.join("lock"))?;
        Ok(lock.map(|_lock| Self { path, _lock }))
    }

    /// Where the running node of the data folder `home` takes commands.
    #[must_use]
    pub fn control_of(home: &Path) -> PathBuf {
        home.join(FOLDER).join(CONTROL)
    }

    /// Whether the data folder `home` belongs to a member of a swarm.
    #[must_use]
    pub fn is_member(home: &Path) -> bool {
        home.join(FOLDER).join("swarm.json").exists()
    }

    /// Where this node takes commands.
    #[must_use]
    pub fn control(&self) -> PathBuf {
        self.path.join(CONTROL)
    }

    /// The secret of the node. Made when it is first asked for.
    ///
    /// # Errors
    /// The key is damaged or open to others, or the system's answer.
    pub fn secret(&self) -> Result<[u8; 32], StoreError> {
        match self.read("node.key")? {
            Some(key) => Ok(key.to_bytes()),
            None => self.create("node.key"),
        }
    }

    /// The secret of the owner, where the swarm was made here.
    ///
    /// # Errors
    /// The key is damaged or open to others, or the system's answer.
    pub fn owner(&self) -> Result<Option<[u8; 32]>, StoreError> {
        Ok(self.read("owner.key")?.map(|key| key.to_bytes()))
    }

    /// The secret of the owner of a new swarm. One that is there without a state is of a swarm
    /// whose making was interrupted, and is used.
    ///
    /// # Errors
    /// The key is damaged or open to others, or the system's answer.
    pub fn make_owner(&self) -> Result<[u8; 32], StoreError> {
        self.owner()?.map_or_else(|| self.create("owner.key"), Ok)
    }

    /// The state of the member; `None` when it is none.
    ///
    /// # Errors
    /// The system's answer.
    pub fn state(&self) -> Result<Option<Vec<u8>>, StoreError> {
        files::read_at_most(&self.path.join("swarm.json"), STATE_BYTES_MAX)
    }

    /// Replaces the state. It is on the disk when this returns.
    ///
    /// # Errors
    /// The system's answer.
    pub fn keep(&self, state: &[u8]) -> Result<(), StoreError> {
        files::replace(&self.path.join("swarm.json"), state, STATE_MODE)
    }

    /// Forgets the swarm. The node keeps its key.
    ///
    /// # Errors
    /// The system's answer.
    pub fn forget(&self) -> Result<(), StoreError> {
        files::remove(&self.path.join("swarm.json"))?;
        files::remove(&self.path.join("owner.key"))?;
        files::sync_folder(&self.path).at(&self.path)
    }

    fn read(&self, name: &str) -> Result<Option<SigningKey>, StoreError> {
        let path = self.path.join(name);
        let found = match key::read(&path) {
            Err(StoreError::Index { rule, .. }) => return Err(StoreError::NodeKey { path, rule }),
            found => found?,
        };
        if found.is_some() && key::is_open_to_others(&path) {
            let rule = "others than you can read or change this key; remove it, or run chmod 600 \
                        if nobody did";
            return Err(StoreError::NodeKey { path, rule });
        }
        Ok(found)
    }

    fn create(&self, name: &str) -> Result<[u8; 32], StoreError> {
        let path = self.path.join(name);
        let key = key::create(&path)?;
        files::sync_folder(&self.path).at(&path)?;
        Ok(key.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_key_has_one_process_and_stays_the_same() {
        let home = tempfile::tempdir().unwrap();
        let folder = NodeFolder::take(home.path()).unwrap().unwrap();
        assert!(NodeFolder::take(home.path()).unwrap().is_none(), "it is taken");
        let secret = folder.secret().unwrap();
        assert_eq!(folder.owner().unwrap(), None);
        let owner = folder.make_owner().unwrap();
        folder.keep(b"state").unwrap();
        drop(folder);
        let folder = NodeFolder::take(home.path()).unwrap().unwrap();
        assert_eq!(folder.secret().unwrap(), secret);
        assert_eq!((folder.owner().unwrap(), folder.make_owner().unwrap()), (Some(owner), owner));
        assert_eq!(folder.state().unwrap().unwrap(), b"state");
        assert!(NodeFolder::is_member(home.path()));
        for name in ["node.key", "owner.key", "swarm.json"] {
            let mode = std::fs::metadata(folder.path.join(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{name}");
        }
        folder.forget().unwrap();
        assert_eq!((folder.owner().unwrap(), folder.state().unwrap()), (None, None));
        assert_eq!(folder.secret().unwrap(), secret, "the node is the same");
    }

    #[test]
    fn a_key_that_others_can_read_is_not_used() {
        let home = tempfile::tempdir().unwrap();
        let folder = NodeFolder::take(home.path()).unwrap().unwrap();
        folder.secret().unwrap();
        let path = folder.path.join("node.key");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(folder.secret(), Err(StoreError::NodeKey { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(folder.secret(), Err(StoreError::NodeKey { .. })));
    }
}
