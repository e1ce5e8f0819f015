//! What peers may have of this store: leaves of blobs that are whole, and manifests, each of which
//! is a blob with the id of its package as its name.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use shoal_base::{Digest, PackageId};
use shoal_wire::limits::{LEAF_BYTES, LEAVES_MAX};
use shoal_wire::{blob_root, leaf_bytes, leaf_count, leaf_digest};

use crate::error::AtPath as _;
use crate::home::blob_path;
use crate::{Store, StoreError};

impl Store {
    /// Length and leaves of a blob; `None` when it is not here, or not what its name says.
    ///
    /// # Errors
    /// The system's answer.
    pub fn leaves_of(&self, blob: Digest) -> Result<Option<(u64, Vec<Digest>)>, StoreError> {
        let Some((path, file)) = self.shared(blob)? else {
            return Ok(None);
        };
        let length = file.metadata().at(&path)?.len();
        let count = leaf_count(length);
        if count > LEAVES_MAX as u64 {
            return Ok(None);
        }
        let mut leaves = Vec::with_capacity(count as usize);
        let mut bytes = Vec::with_capacity(LEAF_BYTES as usize);
        for leaf in 0..count as u32 {
            bytes.clear();
            (&file).take(LEAF_BYTES).read_to_end(&mut bytes).at(&path)?;
            leaves.push(leaf_digest(length, leaf, &bytes));
        }
        // Damaged blobs are nobody else's business.
        Ok((blob_root(&leaves) == Some(blob)).then_some((length, leaves)))
    }

    /// The bytes of a leaf; `None` when it is not here.
    ///
    /// # Errors
    /// The system's answer.
    pub fn read_leaf(&self, blob: Digest, leaf: u32) -> Result<Option<Vec<u8>>, StoreError> {
        let Some((path, file)) = self.shared(blob)? else {
            return Ok(None);
        };
        let length = file.metadata().at(&path)?.len();
        if u64::from(leaf) >= leaf_count(length) {
            return Ok(None);
        }
        let mut bytes = vec![0; leaf_bytes(length, leaf) as usize];
        file.read_exact_at(&mut bytes, u64::from(leaf) * LEAF_BYTES).at(&path)?;
        Ok(Some(bytes))
    }

    /// Whether a blob is here. Its content is not looked at.
    #[must_use]
    pub fn has_blob(&self, blob: Digest) -> bool {
        self.shared(blob).is_ok_and(|found| found.is_some())
    }

    fn shared(&self, blob: Digest) -> Result<Option<(PathBuf, File)>, StoreError> {
        let layout = self.layout();
        for path in [blob_path(&layout.blobs(), blob), layout.manifest(PackageId(blob))] {
            match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => return file.at(&path).map(|file| Some((path, file))),
            }
        }
        Ok(None)
    }
}
