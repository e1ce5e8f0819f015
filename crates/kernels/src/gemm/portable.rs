//! Any machine. `mul_add` is exact everywhere; without an instruction for it, it is slow.

use super::Start;
use super::tile::{Left, Micro, Output};

pub(super) struct Portable;

const COLUMNS: usize = 4;

impl Micro for Portable {
    const ROWS: usize = 4;
    const COLUMNS: usize = COLUMNS;

    unsafe fn tile(rows: usize, depth: usize, a: Left, b: *const f32, c: Output, start: Start) {
        for r in 0..rows {
            // SAFETY: the caller's promise; rows do not overlap.
            let c = unsafe { &mut *c.start.add(r * c.stride).cast::<[f32; COLUMNS]>() };
            let mut sums = if start == Start::Zero { [0.0; COLUMNS] } else { *c };
            // The last steps go past the end, where nothing is read.
            let (mut a_at, mut b_at) = (a.start.wrapping_add(r * a.row), b);
            let (step, mut left) = (a.step, depth);
            // Without iterators: a build without optimisation computes here too, in `replay`.
            while left > 0 {
                // SAFETY: the caller's promise.
                let (a, b) = unsafe { (*a_at, *b_at.cast::<[f32; COLUMNS]>()) };
                sums[0] = a.mul_add(b[0], sums[0]);
                sums[1] = a.mul_add(b[1], sums[1]);
                sums[2] = a.mul_add(b[2], sums[2]);
                sums[3] = a.mul_add(b[3], sums[3]);
                (a_at, b_at) = (a_at.wrapping_add(step), b_at.wrapping_add(COLUMNS));
                left -= 1;
            }
            *c = sums;
        }
    }
}
