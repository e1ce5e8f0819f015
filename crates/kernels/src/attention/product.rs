//! Products of 16-bit pairs: the inner loop of scores and of outputs.
//!
//! `out[q, i] = sum over p of a[p, i, 0] * x[q, p, 0] + a[p, i, 1] * x[q, p, 1]`, exact in i32
//! (spec 01 §7 bounds both uses).

use crate::Isa;

/// Operands of one product.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    /// `[pairs, lanes, 2]`, lanes a multiple of 16.
    pub(super) a: &'a [i16],
    /// What will be read after `a`: asked for meanwhile, as one block after another lies too far
    /// away for the machine to guess. Empty when nothing follows.
    pub(super) next: &'a [i16],
    pub(super) lanes: usize,
    pub(super) pairs: usize,
    /// Rows of `2 * pairs`, `x_stride` apart.
    pub(super) x: &'a [i16],
    pub(super) x_stride: usize,
    pub(super) rows: usize,
}

/// Writes, or with `ADD` adds, the product to `out`, `[rows, lanes]`.
///
/// # Panics
/// When an operand is shorter than its shape.
pub(super) fn product<const ADD: bool>(isa: Isa, task: Product<'_>, out: &mut [i32]) {
    assert!(task.lanes.is_multiple_of(16) && task.a.len() >= task.pairs * task.lanes * 2);
    assert!(task.rows == 0 || task.x.len() >= (task.rows - 1) * task.x_stride + task.pairs * 2);
    assert!(out.len() >= task.rows * task.lanes);
    match isa {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: `Kernels::new` checked the instruction set; the shapes were checked above.
        Isa::Avx2 => unsafe { vector::avx2::<ADD>(task, out) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above.
        Isa::Avx512 | Isa::Avx512Vnni => unsafe { vector::avx512::<ADD>(task, out) },
        _ => portable::<ADD>(task, out),
    }
}

fn portable<const ADD: bool>(task: Product<'_>, out: &mut [i32]) {
    for (q, out) in out.chunks_exact_mut(task.lanes).take(task.rows).enumerate() {
        if !ADD {
            out.fill(0);
        }
        let x = &task.x[q * task.x_stride..][..task.pairs * 2];
        for (a, x) in task.a.chunks_exact(task.lanes * 2).zip(x.chunks_exact(2)) {
            let (x0, x1) = (i32::from(x[0]), i32::from(x[1]));
            for (out, a) in out.iter_mut().zip(a.chunks_exact(2)) {
                *out += i32::from(a[0]) * x0 + i32::from(a[1]) * x1;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[expect(clippy::needless_range_loop, reason = "indices name rows and vectors of several arrays")]
mod vector {
    use super::Product;
    use crate::lanes::{Avx2, Avx512, Lanes, prefetch};

    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn avx2<const ADD: bool>(task: Product<'_>, out: &mut [i32]) {
        // SAFETY: this function has AVX2; the caller checked the shapes.
        unsafe { run::<Avx2, 2, ADD>(task, out) }
    }

    #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
    pub(super) unsafe fn avx512<const ADD: bool>(task: Product<'_>, out: &mut [i32]) {
        // SAFETY: this function has AVX-512; the caller checked the shapes.
        unsafe { run::<Avx512, 1, ADD>(task, out) }
    }

    /// Rows taken at once.
    const ROWS: usize = 4;

    /// `C` vectors of lanes at once.
    ///
    /// # Safety
    /// The machine has the instruction set of `L`; the shapes fit; lanes are a multiple of `C`
    /// vectors.
    #[inline(always)]
    unsafe fn run<L: Lanes, const C: usize, const ADD: bool>(task: Product<'_>, out: &mut [i32]) {
        let out = out.as_mut_ptr();
        for first in (0..task.rows).step_by(ROWS) {
            // SAFETY: rows `first ..` exist; see `tile`.
            unsafe {
                match task.rows - first {
                    1 => rows::<L, C, 1, ADD>(task, first, out),
                    2 => rows::<L, C, 2, ADD>(task, first, out),
                    3 => rows::<L, C, 3, ADD>(task, first, out),
                    _ => rows::<L, C, ROWS, ADD>(task, first, out),
                }
            }
        }
    }

    /// # Safety
    /// As for `run`; rows `first .. first + T` exist.
    #[inline(always)]
    unsafe fn rows<L: Lanes, const C: usize, const T: usize, const ADD: bool>(
        task: Product<'_>,
        first: usize,
        out: *mut i32,
    ) {
        for lane in (0..task.lanes).step_by(C * L::ROWS) {
            // SAFETY: lanes `lane .. lane + C * ROWS` exist.
            unsafe {
                let at = |t: usize, c: usize| {
                    out.add((first + t) * task.lanes + lane + c * L::ROWS).cast::<u8>()
                };
                let mut sums = [[L::zero(); C]; T];
                if ADD {
                    for t in 0..T {
                        for c in 0..C {
                            sums[t][c] = L::load(at(t, c));
                        }
                    }
                }
                let mut a = task.a.as_ptr().add(lane * 2).cast::<u8>();
                // Each step reads one line of `a` and asks for one of what follows.
                let line = C * L::ROWS * 4;
                let mut ahead = match task.next {
                    [] => task.a.as_ptr(),
                    next => next.as_ptr(),
                };
                ahead = ahead.wrapping_add(lane * 2 * task.pairs);
                let mut x: [*const u8; T] = std::array::from_fn(|t| {
                    task.x.as_ptr().add((first + t) * task.x_stride).cast()
                });
                for _ in 0..task.pairs {
                    prefetch(ahead.cast());
                    ahead = ahead.wrapping_byte_add(line);
                    let v: [L::V; C] = std::array::from_fn(|c| L::load(a.add(c * L::ROWS * 4)));
                    for t in 0..T {
                        let pair = L::broadcast(x[t]);
                        for c in 0..C {
                            sums[t][c] = L::add32(sums[t][c], L::dot_i16(v[c], pair));
                        }
                        x[t] = x[t].add(4);
                    }
                    a = a.wrapping_add(task.lanes * 4);
                }
                for t in 0..T {
                    for c in 0..C {
                        L::store(at(t, c), sums[t][c]);
                    }
                }
            }
        }
    }
}
