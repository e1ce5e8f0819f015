//! Which instruction set the kernels use: the best one the machine has, or the one `SHOAL_ISA`
//! names.

use std::fmt;

/// Environment variable that forces an instruction set.
const FORCE_VARIABLE: &str = "SHOAL_ISA";

/// An instruction set with kernels of its own.
///
/// All of them return the same bits; they differ in speed only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// Plain Rust, any machine.
    Portable,
    /// x86-64 with AVX2 and FMA.
    Avx2,
    /// x86-64 with AVX-512 F, BW, DQ and VL.
    Avx512,
    /// As [`Self::Avx512`], with VNNI.
    Avx512Vnni,
}

/// `SHOAL_ISA` asks for something that cannot be had.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IsaError {
    /// Not a name of an instruction set.
    #[error("{FORCE_VARIABLE} is {got:?}, expected portable, avx2, avx512 or avx512vnni")]
    Unknown {
        /// What it said.
        got: String,
    },
    /// This machine lacks it.
    #[error("{FORCE_VARIABLE} asks for {isa}, which this machine does not have")]
    Missing {
        /// What it asked for.
        isa: Isa,
    },
}

impl Isa {
    /// Every instruction set, slowest first.
    pub const ALL: [Self; 4] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Vnni];

    /// The name used in `SHOAL_ISA` and in output.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Vnni => "avx512vnni",
        }
    }

    /// Whether this machine can run it.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match self {
                Self::Portable => true,
                Self::Avx2 => avx2,
                Self::Avx512 => avx512,
                Self::Avx512Vnni => avx512 && is_x86_feature_detected!("avx512vnni"),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// Every instruction set this machine can run.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The one `SHOAL_ISA` names, or the best this machine has.
    ///
    /// # Errors
    /// The variable is set to something unknown or missing; it is never replaced by something else.
    pub fn choose() -> Result<Self, IsaError> {
        match std::env::var(FORCE_VARIABLE) {
            Ok(name) => Self::forced(&name),
            Err(_) => Ok(Self::available().last().unwrap_or(Self::Portable)),
        }
    }

    fn forced(name: &str) -> Result<Self, IsaError> {
        let isa = Self::ALL
            .into_iter()
            .find(|isa| isa.name() == name)
            .ok_or_else(|| IsaError::Unknown { got: name.to_owned() })?;
        if isa.is_available() { Ok(isa) } else { Err(IsaError::Missing { isa }) }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_and_missing_instruction_sets_are_refused() {
        assert_eq!(Isa::forced("sse9"), Err(IsaError::Unknown { got: "sse9".to_owned() }));
        assert_eq!(Isa::forced("portable"), Ok(Isa::Portable));
        for isa in Isa::ALL {
            let expected =
                if isa.is_available() { Ok(isa) } else { Err(IsaError::Missing { isa }) };
            assert_eq!(Isa::forced(isa.name()), expected);
        }
    }
}
