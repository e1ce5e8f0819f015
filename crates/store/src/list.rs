//! Which packages there are.

use std::collections::BTreeMap;

use shoal_base::PackageId;
use shoal_model::package::{Manifest, Package, PackageError};

use crate::home::{Layout, blob_path};
use crate::partial::holding;
use crate::{Holding, PackageName, Store, StoreError, files};

/// As long as a manifest may be, and a byte more.
const MANIFEST_BYTES_MAX: u64 = (8 << 20) + 1;

/// A package in a list.
#[derive(Clone, Debug)]
pub struct PackageSummary {
    /// Its id.
    pub id: PackageId,
    /// Its names, in order; may be empty.
    pub names: Vec<PackageName>,
    /// What it is made of.
    pub manifest: Manifest,
    /// Which of its blobs are here.
    pub holding: Holding,
}

/// All packages.
#[derive(Debug, Default)]
pub struct Listed {
    /// Those that can be opened, by first name, then by id.
    pub packages: Vec<PackageSummary>,
    /// Those whose manifest cannot be read.
    pub damaged: Vec<StoreError>,
}

impl Store {
    /// All packages with their names.
    ///
    /// # Errors
    /// The index of names cannot be trusted, or the system's answer.
    pub fn list(&self) -> Result<Listed, StoreError> {
        let mut names: BTreeMap<PackageId, Vec<PackageName>> = BTreeMap::new();
        for (name, id) in self.names()? {
            names.entry(id).or_default().push(name);
        }
        let mut listed = Listed::default();
        for id in ids(self.layout())?.0 {
            let names = names.remove(&id).unwrap_or_default();
            match manifest(self.layout(), id) {
                Ok(manifest) => {
                    let holding = holding(self.layout(), id, &manifest);
                    listed.packages.push(PackageSummary { id, names, manifest, holding });
                }
                Err(error) => listed.damaged.push(error),
            }
        }
        listed.packages.sort_by(|a, b| {
            let key = |summary: &PackageSummary| (summary.names.is_empty(), summary.names.clone());
            key(a).cmp(&key(b)).then(a.id.cmp(&b.id))
        });
        Ok(listed)
    }

    /// The blobs of a package that are not there in full length.
    pub(crate) fn missing(&self, package: &Package) -> Vec<StoreError> {
        let folder = self.layout().blobs();
        let mut missing = Vec::new();
        for blob in &package.manifest().blobs {
            if files::length(&blob_path(&folder, blob.blake3)) != blob.bytes {
                let (kind, digest) = (blob.kind, blob.blake3);
                let source = PackageError::Missing { kind, digest };
                missing.push(StoreError::Package { id: package.id(), source });
            }
        }
        missing
    }
}

/// The ids under which there are manifests, in order, and whether there are files of other names.
pub(crate) fn ids(layout: &Layout) -> Result<(Vec<PackageId>, bool), StoreError> {
    let names = files::names(&layout.packages())?;
    let of_name = |name: &String| name.strip_suffix(".json")?.parse().ok();
    let ids: Vec<PackageId> = names.iter().filter_map(of_name).collect();
    let others = ids.len() != names.len();
    Ok((ids, others))
}

/// Reads a manifest and checks that it is the one with this id.
pub(crate) fn manifest(layout: &Layout, id: PackageId) -> Result<Manifest, StoreError> {
    let bytes = manifest_bytes(layout, id)?;
    Manifest::parse(&bytes).map_err(|source| StoreError::Package { id, source })
}

pub(crate) fn manifest_bytes(layout: &Layout, id: PackageId) -> Result<Vec<u8>, StoreError> {
    let bytes = files::read_at_most(&layout.manifest(id), MANIFEST_BYTES_MAX)?;
    let bytes = bytes.ok_or_else(|| StoreError::NotFound { what: id.to_string() })?;
    match PackageId(shoal_base::Digest::of(&bytes)) == id {
        true => Ok(bytes),
        false => Err(StoreError::Manifest { id }),
    }
}
