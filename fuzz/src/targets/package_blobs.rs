//! Blobs of a package whose manifest is sound: what a peer sends.

use std::io;
use std::sync::{Arc, LazyLock};

use shoal_arith::tile::check_tile;
use shoal_base::{Digest, SharedBytes};
use shoal_model::Family;
use shoal_model::package::{
    BlobKind, BlobSource, InputFormat, LinearWeights, Package, StoredFormat, verify_blob,
};
use shoal_testkit::import;

use crate::{MEMORY_BYTES, Target, seeds};

pub(super) const TARGET: Target = Target {
    name: "package_blobs",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

/// One of each format.
static PACKAGES: LazyLock<[Package; 3]> = LazyLock::new(|| {
    let model = seeds::model(Family::Qwen3);
    [StoredFormat::I8, StoredFormat::I4, StoredFormat::I4Offset]
        .map(|format| import(&model, format, InputFormat::A8))
});

/// The layer, the embedding and the head of each package, with the number of the package before
/// them.
fn seeds() -> Vec<Vec<u8>> {
    let kinds = [BlobKind::Layer(0), BlobKind::Embedding, BlobKind::Head, BlobKind::Tables];
    let numbered = PACKAGES.iter().enumerate().flat_map(|(number, package)| {
        kinds.map(|kind| {
            let bytes = package.bytes(kind).expect("it is in memory");
            [&[number as u8], &bytes[..]].concat()
        })
    });
    numbered.collect()
}

/// Gives the same bytes as any blob.
struct Same(Vec<u8>);

impl BlobSource for Same {
    fn blob(&self, _: Digest) -> io::Result<SharedBytes> {
        Ok(SharedBytes::aligned(&self.0))
    }
}

fn run(bytes: &[u8]) {
    let Some((&number, bytes)) = bytes.split_first() else {
        return;
    };
    let package = &PACKAGES[usize::from(number) % PACKAGES.len()];
    let manifest = package.manifest();
    for entry in &manifest.blobs {
        // The length is known to the reader, so a wrong one ends at once.
        let mut blob = bytes.to_vec();
        assert!(blob.len() as u64 == entry.bytes || open(package, &blob, entry.kind).is_err());
        blob.resize(entry.bytes as usize, 0);
        let _ = open(package, &blob, entry.kind);
        let whole = verify_blob(manifest, entry, &blob, &[]).is_ok();
        assert!(!whole, "without its leaves no blob is whole");
    }
}

/// Opens a blob as the engine does.
fn open(package: &Package, blob: &[u8], kind: BlobKind) -> Result<(), ()> {
    let manifest = package.manifest().to_bytes();
    let package = Package::open(&manifest, Arc::new(Same(blob.to_vec()))).expect("it is sound");
    let linears = match kind {
        BlobKind::Tables => return package.tables().map(drop).map_err(drop),
        BlobKind::Tokenizer => return package.bytes(kind).map(drop).map_err(drop),
        BlobKind::Embedding => vec![package.embedding().map_err(drop)?],
        BlobKind::Layer(index) => package.layer(index).map_err(drop)?.linears,
        BlobKind::Head => package.head().map_err(drop)?.1.into_iter().collect(),
    };
    linears.iter().try_for_each(tiles)
}

/// Checks every tile; rows of accepted ones are in range.
fn tiles(map: &LinearWeights) -> Result<(), ()> {
    let shape = map.shape;
    for g in 0..shape.row_groups() {
        for c in 0..shape.tile_columns() {
            let tile = &map.section[shape.tile_at(g, c)..][..shape.tile(c).bytes];
            check_tile(shape, g, c, tile).map_err(drop)?;
        }
    }
    for row in 0..shape.rows {
        assert!(map.row(row).is_valid(shape.format), "accepted rows are in range");
    }
    Ok(())
}
