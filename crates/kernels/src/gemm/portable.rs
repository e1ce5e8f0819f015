//! Any machine. `mul_add` is exact everywhere; without an instruction for it, it is slow.

use super::Start;
use super::tile::{Left, Micro, Output};

pub(super) struct Portable;

const COLUMNS: usize = 4;

impl Micro for Portable {
    const ROWS: usize = 4;
    const COLUMNS: usize = COLUMNS;

    unsafe fn tile(rows: usize, depth: usize, a: Left, b: *const f32, c: Output, start: Start) {
        // SAFETY: the caller's promise.
        let b = unsafe { std::slice::from_raw_parts(b, depth * COLUMNS) };
        for r in 0..rows {
            // SAFETY: the caller's promise; rows do not overlap.
            let c = unsafe { std::slice::from_raw_parts_mut(c.start.add(r * c.stride), COLUMNS) };
            if start == Start::Zero {
                c.fill(0.0);
            }
            for (k, b) in b.chunks_exact(COLUMNS).enumerate() {
                // SAFETY: the caller's promise.
                let a = unsafe { *a.start.add(r * a.row + k * a.step) };
                for (c, &b) in c.iter_mut().zip(b) {
                    *c = a.mul_add(b, *c);
                }
            }
        }
    }
}
