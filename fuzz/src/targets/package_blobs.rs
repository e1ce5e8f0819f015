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
struct Same {
    bytes: Vec<u8>,
    /// The length of each blob; `None` leaves the bytes as they are.
    lengths: Option<Vec<(Digest, u64)>>,
}

impl BlobSource for Same {
    fn blob(&self, digest: Digest) -> io::Result<SharedBytes> {
        let mut bytes = self.bytes.clone();
        if let Some(lengths) = &self.lengths {
            let found = lengths.iter().find(|(found, _)| *found == digest);
            let (_, length) = found.ok_or(io::ErrorKind::NotFound)?;
            bytes.resize(*length as usize, 0);
        }
        Ok(SharedBytes::aligned(&bytes))
    }
}

fn run(bytes: &[u8]) {
    let Some((&number, bytes)) = bytes.split_first() else {
        return;
    };
    let original = &PACKAGES[usize::from(number) % PACKAGES.len()];
    let manifest = original.manifest();
    let blobs = &manifest.blobs;
    let lengths = Some(blobs.iter().map(|entry| (entry.blake3, entry.bytes)).collect());
    let package = |lengths| {
        let source = Same { bytes: bytes.to_vec(), lengths };
        Package::open(&manifest.to_bytes(), Arc::new(source)).expect("the manifest is sound")
    };
    let package_of_any = package(lengths);
    for entry in blobs {
        let _ = open(&package_of_any, entry.kind);
        let whole = verify_blob(manifest, entry, bytes, &[]).is_ok();
        assert!(!whole, "without its leaves no blob is whole");
    }
    // The length is known to the reader, so a wrong one ends at once.
    let entry = &blobs[bytes.len() % blobs.len()];
    let fits = bytes.len() as u64 == entry.bytes;
    assert!(fits || open(&package(None), entry.kind).is_err());
}

/// Opens a blob as the engine does.
fn open(package: &Package, kind: BlobKind) -> Result<(), ()> {
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
