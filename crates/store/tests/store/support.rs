//! Stores in folders of their own, with tiny packages.

use std::path::{Path, PathBuf};

use shoal_base::PackageId;
use shoal_model::import::{ImportedBlobs, import_blobs};
use shoal_model::package::{InputFormat, StoredFormat};
use shoal_store::{Committed, Import, Store};
use shoal_testkit::{TinyModel, byte_tokenizer, tiny_architecture};

pub(crate) struct Home {
    folder: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Home {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("home")).unwrap();
        Self { folder, store }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("home").join(name)
    }

    /// The same folder as another process would open it.
    pub(crate) fn again(&self) -> Store {
        Store::open(self.store.home()).unwrap()
    }

    /// Imports the tiny model of a seed.
    pub(crate) fn import(&self, seed: u64, name: Option<&str>) -> Committed {
        let import = self.store.begin_import(1 << 20).unwrap();
        let blobs = write(&import, seed);
        let name = name.map(|name| name.parse().unwrap());
        import.commit(&blobs.finish(|_, _| InputFormat::A8), name.as_ref()).unwrap()
    }

    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        names(&self.path(folder))
    }

    /// Nothing but what packages need.
    pub(crate) fn blob_count(&self) -> usize {
        self.names("blobs").iter().filter(|name| !name.ends_with(".leaves")).count()
    }
}

/// Writes the blobs of the tiny model of a seed.
pub(crate) fn write(import: &Import, seed: u64) -> ImportedBlobs {
    let model = TinyModel::new(tiny_architecture(), seed);
    let tokenizer = byte_tokenizer().to_bytes().unwrap();
    import_blobs(&model, StoredFormat::I8, &tokenizer, 1, import, &|_| true).unwrap()
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// An id that no package has.
pub(crate) fn no_id() -> PackageId {
    "00".repeat(32).parse().unwrap()
}
