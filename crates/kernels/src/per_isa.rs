//! One generic body compiled for each instruction set.
//!
//! The compiler may vectorise a body as it likes: element-wise f32 operations, maxima and integer
//! sums have the same bits in any order, and Rust never contracts a multiplication and an addition.

/// Defines `fn name(isa, args…)`, which runs `generic` compiled for `isa`.
///
/// `generic` is `#[inline(always)]`. The caller vouches that the machine has `isa`; inside the
/// crate that is `Kernels::new`.
macro_rules! per_isa {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? = $generic:path;
    ) => {
        $(#[$meta])*
        #[expect(clippy::allow_attributes, reason = "the lint fires for some argument counts only")]
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::Isa, $($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) $(-> $out)? { $generic($($arg),*) }
                #[allow(clippy::too_many_arguments)]
                #[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
                fn avx512($($arg: $type),*) $(-> $out)? { $generic($($arg),*) }
                match isa {
                    $crate::Isa::Portable => $generic($($arg),*),
                    // SAFETY: `Kernels::new` checked that the machine has this instruction set.
                    $crate::Isa::Avx2 => unsafe { avx2($($arg),*) },
                    // SAFETY: as above.
                    $crate::Isa::Avx512 | $crate::Isa::Avx512Vnni => unsafe { avx512($($arg),*) },
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            {
                let _ = isa;
                $generic($($arg),*)
            }
        }
    };
}

pub(crate) use per_isa;
