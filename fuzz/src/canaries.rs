//! Targets that must fail. They show that the machinery finds what it is there to find: if one of
//! them passes, a pass of the others means nothing.

use std::hint::black_box;
use std::time::Duration;

use crate::{MEMORY_BYTES, Target};

/// Panics on a byte that no seed holds.
pub const PANICS: Target = Target {
    name: "canary_panics",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run: |bytes| assert!(bytes.first() != Some(&0xff), "the canary sings"),
};

/// Believes the length in its input and allocates it.
pub const ALLOCATES: Target = Target {
    name: "canary_allocates",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run: |bytes| {
        if let Some(length) = bytes.first_chunk() {
            let length = u32::from_le_bytes(*length) as usize;
            black_box(Vec::<u8>::with_capacity(length));
        }
    },
};

/// Takes too long for a length that no seed has.
pub const STALLS: Target = Target {
    name: "canary_stalls",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run: |bytes| {
        if bytes.len() > 8 {
            std::thread::sleep(STALL);
        }
    },
};

/// How long [`STALLS`] stalls; longer than the limit its test sets.
pub const STALL: Duration = Duration::from_millis(300);

fn seeds() -> Vec<Vec<u8>> {
    vec![b"\x04\0\0\0fish".to_vec()]
}
