//! The models inside the program, so that it answers on a bare machine without a network.
//!
//! One is put into the store the first time it is used, and is a package like any other from then
//! on. What they are: `crates/cli/embedded/README.md`.

use shoal_base::PackageId;
use shoal_model::bundle::Bundle;
use shoal_store::PackageName;

use crate::failure::Failure;
use crate::session::Session;
use crate::{interrupt, output};

/// The model of commands that are told none.
pub(crate) const DEFAULT: &str = "shoal-tiny";

const MODELS: [(&str, &[u8]); 2] = [
    (DEFAULT, include_bytes!("../embedded/shoal-tiny.shoal")),
    ("shoal-draft", include_bytes!("../embedded/shoal-draft.shoal")),
];

/// Puts the model called `name` into the store, if there is one.
pub(crate) fn install(session: &Session, name: &str) -> Result<Option<PackageId>, Failure> {
    let Some((_, bytes)) = MODELS.iter().find(|(known, _)| *known == name) else {
        return Ok(None);
    };
    let bundle = Bundle::open(*bytes, bytes.len() as u64)?;
    let staged = session.store()?.begin_import(bundle.manifest().blob_bytes())?;
    let manifest = bundle.unpack(&staged, &|_| !interrupt::is_asked())?;
    let id = staged.commit(&manifest, Some(&PackageName::like(name)))?.id;
    if !session.json {
        output::note(&format!("{name} is part of this program; it tells stories, and only that"));
    }
    Ok(Some(id))
}

#[cfg(test)]
mod tests {
    use shoal_model::package::MemoryBlobs;

    use super::*;

    #[test]
    fn they_are_whole_small_and_share_a_tokenizer() {
        let manifests = MODELS.map(|(_, bytes)| {
            let bundle = Bundle::open(bytes, bytes.len() as u64).unwrap();
            bundle.unpack(&MemoryBlobs::default(), &|_| true).unwrap()
        });
        let tokenizers = manifests.map(|manifest| manifest.blobs.last().unwrap().blake3);
        assert_eq!(tokenizers[0], tokenizers[1]);
        assert!(MODELS.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() <= 10 << 20);
    }
}
