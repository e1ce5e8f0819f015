//! The record of a download, from a folder that others can write.

use shoal_store::fuzz;

use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "store_record",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    [0, 1, 1 << 20, (9 << 20) + 5, 40 << 20].map(fuzz::record_bytes).into()
}

fn run(bytes: &[u8]) {
    if let Some(again) = fuzz::record_again(bytes) {
        assert_eq!(again, bytes, "a record has one form");
    }
}
