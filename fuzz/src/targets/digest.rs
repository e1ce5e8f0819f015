//! Text to `Digest`. What is accepted prints as it was read.

use shoal_base::Digest;

use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "digest",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

fn seeds() -> Vec<Vec<u8>> {
    let digest = Digest::of(b"shoal").to_string();
    vec![digest.clone().into_bytes(), digest.to_uppercase().into_bytes(), vec![b'0'; 63]]
}

fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text, "one digest has one text");
    }
}
