//! Any machine. `mul_add` is exact everywhere; without an instruction for it, it is slow.

use super::Micro;

pub(super) struct Portable;

impl Micro for Portable {
    const ROWS: usize = 4;
    const COLUMNS: usize = 4;

    unsafe fn tile(depth: usize, a: *const f32, b: *const f32, c: *mut f32, stride: usize) {
        // SAFETY: the caller's promise.
        let (a, b) = unsafe {
            (
                std::slice::from_raw_parts(a, depth * Self::ROWS),
                std::slice::from_raw_parts(b, depth * Self::COLUMNS),
            )
        };
        for r in 0..Self::ROWS {
            // SAFETY: the caller's promise; rows do not overlap.
            let c = unsafe { std::slice::from_raw_parts_mut(c.add(r * stride), Self::COLUMNS) };
            for (a, b) in a.chunks_exact(Self::ROWS).zip(b.chunks_exact(Self::COLUMNS)) {
                for (c, &b) in c.iter_mut().zip(b) {
                    *c = a[r].mul_add(b, *c);
                }
            }
        }
    }
}
