//! Row-wise operations equal the reference on every instruction set.

use std::sync::atomic::AtomicBool;

use proptest::prelude::*;
use shoal_arith::reference;
use shoal_kernels::{Isa, Kernels};

fn any_finite() -> impl Strategy<Value = f32> {
    prop_oneof![
        -10.0f32..10.0,
        -1e-29f32..1e-29,
        -1e29f32..1e29,
        Just(0.0),
        Just(-0.0),
        any::<f32>(),
    ]
}

fn rows(width: usize) -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(any_finite(), width * 3)
}

fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// Runs a row operation on 3 rows and compares rows and fault flags with the reference.
fn check(
    width: usize,
    run: impl Fn(&Kernels, &mut [f32], &[AtomicBool]),
    expected: impl Fn(usize, &mut [f32]) -> bool,
) -> Result<(), TestCaseError> {
    for isa in Isa::available() {
        let kernels = Kernels::new(isa, 2).expect("available");
        let faults: [AtomicBool; 3] = Default::default();
        let mut y = vec![1.0; width * 3];
        run(&kernels, &mut y, &faults);
        for (t, y) in y.chunks_exact(width).enumerate() {
            let mut row = vec![0.0; width];
            let sound = expected(t, &mut row);
            if !sound {
                row.fill(0.0);
            }
            prop_assert_eq!(faults[t].load(std::sync::atomic::Ordering::Relaxed), !sound);
            prop_assert_eq!(bits(y), bits(&row));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn rms_norm_equals_the_reference(
        x in rows(70), weight in prop::collection::vec(-2f32..2.0, 70),
    ) {
        check(
            70,
            |kernels, y, faults| kernels.rms_norm(&x, &weight, 1e-5, y, faults),
            |t, y| reference::norm::rms_norm(&x[t * 70..(t + 1) * 70], &weight, 1e-5, y).is_ok(),
        )?;
    }

    #[test]
    fn silu_mul_equals_the_reference(gate in rows(37), up in rows(37)) {
        check(
            37,
            |kernels, y, faults| {
                y.copy_from_slice(&gate);
                kernels.silu_mul(y, &up, 37, faults);
            },
            |t, y| {
                let row = t * 37..(t + 1) * 37;
                reference::element::silu_mul(&gate[row.clone()], &up[row], y).is_ok()
            },
        )?;
    }

    #[test]
    fn additions_equal_the_reference(h in rows(33), x in rows(33)) {
        for isa in Isa::available() {
            let kernels = Kernels::new(isa, 2).expect("available");
            let (mut sum, mut expected) = (h.clone(), h.clone());
            kernels.add(&mut sum, &x);
            reference::element::add(&mut expected, &x);
            // The bits of a NaN are not defined; that it is one is.
            let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            prop_assert!(sum.iter().zip(&expected).all(|(a, b)| same(a, b)));
            let (mut rows, mut expected_rows) = (vec![0; h.len()], vec![0; h.len()]);
            kernels.add_to_bf16(&h, &x, &mut rows);
            reference::element::add_to_bf16(&h, &x, &mut expected_rows);
            prop_assert_eq!(&rows, &expected_rows);
            let (mut wide, mut expected_wide) = (vec![0.0; h.len()], vec![0.0; h.len()]);
            kernels.widen(&rows, &mut wide);
            reference::element::widen(&rows, &mut expected_wide);
            prop_assert_eq!(bits(&wide), bits(&expected_wide));
        }
    }
}
