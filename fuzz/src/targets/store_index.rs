//! The signed index of a store, from a folder that others can write.

use shoal_store::fuzz;

use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "store_index",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    vec![fuzz::index_bytes(&[]), fuzz::index_bytes(&["a", "Llama-3.2-1B:i4", "0"])]
}

fn run(bytes: &[u8]) {
    if let Some(names) = fuzz::index_names(bytes) {
        // Nobody else has the key, so the bytes are one of the seeds.
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(fuzz::index_bytes(&names), bytes, "an index has one form");
    }
}
