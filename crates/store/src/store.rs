//! A store: opening it, finding and removing packages, naming them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use shoal_base::{Digest, PackageId, SharedBytes};
use shoal_model::package::{BlobSource, Package};

use crate::error::AtPath as _;
use crate::home::{Layout, blob_path};
use crate::index::{self, Names};
use crate::lock::Lock;
use crate::{
    Import, PackageName, StoreError, answers, files, key, list, map, node_folder, partial, sweep,
};

/// What the file `version` says. Another number is another layout.
const VERSION: &str = "shoal-store 1\n";
const VERSION_BYTES_MAX: u64 = 256;
/// Shortest beginning of an id that is looked up.
const PREFIX_DIGITS_MIN: usize = 4;
/// What may lie in a folder that is about to become a store.
const OWN_NAMES: [&str; 13] = [
    answers::FOLDER,
    "blobs",
    "chat_history",
    "config.toml",
    "downloads",
    "index.json",
    "index.key",
    "lock",
    node_folder::FOLDER,
    "packages",
    "partial",
    "staging",
    "unfinished",
];

/// One folder of packages. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    layout: Arc<Layout>,
}

/// What a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// The package.
    pub id: PackageId,
    /// Names that are free again.
    pub names: Vec<PackageName>,
    /// Bytes of blobs that no other package names.
    pub bytes: u64,
}

impl Store {
    /// Opens the store in `home`, makes one if the folder is empty or not there, and removes what
    /// interrupted processes left.
    ///
    /// # Errors
    /// The folder holds something else, or the system's answer.
    pub fn open(home: &Path) -> Result<Self, StoreError> {
        let home = std::path::absolute(home).at(home)?;
        let store = Self { layout: Arc::new(Layout { home }) };
        if !store.is_made()? {
            store.make()?;
        }
        let layout = store.layout();
        if sweep::is_needed(layout)? {
            // Whoever holds the lock is at work here and sweeps too. A store that cannot be
            // written is swept by somebody who can.
            if let Ok(Some(_guard)) = Lock::take(&layout.lock()) {
                sweep::all(layout)?;
            }
        }
        Ok(store)
    }

    /// Its folder.
    #[must_use]
    pub fn home(&self) -> &Path {
        &self.layout.home
    }

    /// The package that `what` names: a name, an id, or the only id that begins with it.
    ///
    /// # Errors
    /// There is none, there are several, or the index of names cannot be trusted.
    pub fn find(&self, what: &str) -> Result<PackageId, StoreError> {
        let not_found = || StoreError::NotFound { what: what.to_owned() };
        if let Ok(id) = what.parse::<PackageId>() {
            let there = self.layout.manifest(id).exists();
            return if there { Ok(id) } else { Err(not_found()) };
        }
        if let Ok(name) = what.parse::<PackageName>()
            && let Some(id) = self.names()?.get(&name)
        {
            return Ok(*id);
        }
        if what.len() < PREFIX_DIGITS_MIN {
            return Err(not_found());
        }
        let ids = list::ids(&self.layout)?.0;
        let mut found = ids.iter().filter(|id| id.to_string().starts_with(what));
        match (found.next(), found.count()) {
            (None, _) => Err(not_found()),
            (Some(id), 0) => Ok(*id),
            (_, more) => Err(StoreError::Ambiguous { prefix: what.to_owned(), count: more + 1 }),
        }
    }

    /// Opens a package.
    ///
    /// # Errors
    /// It is not there, or its manifest is damaged.
    pub fn package(&self, id: PackageId) -> Result<Package, StoreError> {
        let manifest = list::manifest_bytes(&self.layout, id)?;
        let blobs = Arc::new(Blobs { folder: self.layout.blobs() });
        Package::open(&manifest, blobs).map_err(|source| StoreError::Package { id, source })
    }

    /// The file with the manifest of a package.
    #[must_use]
    pub fn manifest_path(&self, id: PackageId) -> PathBuf {
        self.layout.manifest(id)
    }

    /// The names of a package, in order.
    ///
    /// # Errors
    /// The index of names cannot be trusted.
    pub fn names_of(&self, id: PackageId) -> Result<Vec<PackageName>, StoreError> {
        let names = self.names()?.into_iter();
        Ok(names.filter(|(_, found)| *found == id).map(|(name, _)| name).collect())
    }

    /// Begins a package that will take `bytes`.
    ///
    /// # Errors
    /// There is less room, the index of names cannot be trusted, or the system's answer.
    pub fn begin_import(&self, bytes: u64) -> Result<Import, StoreError> {
        Import::begin(self, bytes)
    }

    /// Lets `name` mean a package, and says which other one it meant before.
    ///
    /// # Errors
    /// There is no such package, the index of names cannot be trusted, or the system's answer.
    pub fn name(&self, name: &PackageName, id: PackageId) -> Result<Option<PackageId>, StoreError> {
        let guard = self.lock()?;
        list::manifest_bytes(&self.layout, id)?;
        self.set_name(&guard, name, id)
    }

    /// Removes a package, its names, and the blobs that no other package names.
    ///
    /// Processes that have it open keep it until they end.
    ///
    /// # Errors
    /// There is no such package, the index of names cannot be trusted, or the system's answer.
    pub fn remove(&self, id: PackageId) -> Result<Removed, StoreError> {
        let _guard = self.lock()?;
        let layout = &self.layout;
        let path = layout.manifest(id);
        if !path.exists() {
            return Err(StoreError::NotFound { what: id.to_string() });
        }
        // Whoever fetches blobs of it would put them where nobody names them.
        let fetching = partial::remove(layout, id)?;
        let (key, mut all) = self.key_and_names()?;
        let names: Vec<PackageName> =
            all.iter().filter(|(_, found)| **found == id).map(|(name, _)| name.clone()).collect();
        // Until the end, the next start knows that blobs may be left over.
        files::replace(&layout.unfinished(), b"", files::FIXED_MODE)?;
        if !names.is_empty() {
            all.retain(|_, found| *found != id);
            index::write(&layout.index(), &key, all)?;
        }
        files::remove(&path)?;
        files::sync_folder(&layout.packages()).at(&layout.packages())?;
        let (_, bytes) = sweep::orphans(layout)?;
        files::remove(&layout.unfinished())?;
        Ok(Removed { id, names, bytes: bytes + fetching })
    }

    /// Makes the index anew, with a new key if the old one is unusable. Names of the old index are
    /// kept only if the caller vouches for them. Returns the names there are now.
    ///
    /// # Errors
    /// The system's answer.
    pub fn rebuild_index(&self, keep_names: bool) -> Result<Vec<PackageName>, StoreError> {
        let _guard = self.lock()?;
        let layout = &self.layout;
        let key = match key::read(&layout.key()) {
            Ok(Some(key)) => key,
            Ok(None) => key::create(&layout.key())?,
            Err(StoreError::Index { .. }) => {
                files::remove(&layout.key())?;
                key::create(&layout.key())?
            }
            Err(error) => return Err(error),
        };
        let ids = list::ids(layout)?.0;
        let mut names = match keep_names {
            true => index::read_unchecked(&layout.index()),
            false => Names::new(),
        };
        names.retain(|_, id| ids.contains(id));
        let kept = names.keys().cloned().collect();
        index::write(&layout.index(), &key, names)?;
        Ok(kept)
    }

    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Keeps other processes from changing the store.
    pub(crate) fn lock(&self) -> Result<Lock, StoreError> {
        Lock::wait(&self.layout.lock())
    }

    /// Every name whose package is there.
    pub(crate) fn names(&self) -> Result<Names, StoreError> {
        Ok(self.key_and_names()?.1)
    }

    pub(crate) fn set_name(
        &self,
        _guard: &Lock,
        name: &PackageName,
        id: PackageId,
    ) -> Result<Option<PackageId>, StoreError> {
        let (key, mut names) = self.key_and_names()?;
        let before = names.insert(name.clone(), id).filter(|before| *before != id);
        index::write(&self.layout.index(), &key, names)?;
        Ok(before)
    }

    fn key_and_names(&self) -> Result<(SigningKey, Names), StoreError> {
        let path = self.layout.key();
        let Some(key) = key::read(&path)? else {
            return Err(StoreError::Index { path, rule: "the key of the index is missing" });
        };
        let mut names = index::read(&self.layout.index(), &key)?;
        names.retain(|_, id| self.layout.manifest(*id).exists());
        Ok((key, names))
    }

    /// Whether the folder is a complete store.
    fn is_made(&self) -> Result<bool, StoreError> {
        let path = self.layout.version();
        let Some(found) = files::read_at_most(&path, VERSION_BYTES_MAX)? else {
            return Ok(false);
        };
        if found == VERSION.as_bytes() {
            return Ok(true);
        }
        let found = String::from_utf8_lossy(&found).trim_end().to_owned();
        Err(StoreError::Version { path, found, ours: VERSION.trim_end() })
    }

    fn make(&self) -> Result<(), StoreError> {
        let layout = &self.layout;
        files::make_folder(&layout.home)?;
        let known = |name: &String| OWN_NAMES.contains(&name.as_str()) || name.starts_with(".new-");
        if let Some(found) = files::names(&layout.home)?.into_iter().find(|name| !known(name)) {
            let path = layout.home.clone();
            return Err(StoreError::Version { path, found, ours: VERSION.trim_end() });
        }
        let _guard = self.lock()?;
        // Another process may have been faster.
        if self.is_made()? {
            return Ok(());
        }
        for folder in [layout.packages(), layout.blobs(), layout.staging(), layout.downloads()] {
            files::make_folder(&folder)?;
        }
        // With packages in it, a missing index is damage and no beginning.
        if !layout.index().exists() && files::names(&layout.packages())?.is_empty() {
            let key = match key::read(&layout.key())? {
                Some(key) => key,
                None => key::create(&layout.key())?,
            };
            index::write(&layout.index(), &key, Names::new())?;
        }
        files::replace(&layout.version(), VERSION.as_bytes(), files::FIXED_MODE)
    }
}

/// Where opened packages find their blobs.
#[derive(Debug)]
struct Blobs {
    folder: PathBuf,
}

impl BlobSource for Blobs {
    fn blob(&self, digest: Digest) -> io::Result<SharedBytes> {
        map::map(&File::open(blob_path(&self.folder, digest))?)
    }
}
