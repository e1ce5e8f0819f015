//! What every kernel runs on: an instruction set the machine has, and a team of threads.

use std::ops::Range;

use shoal_arith::WeightFormat;

use crate::ahead::Ahead;
use crate::{Isa, IsaError, Team};

/// Elements below which a row-wise operation is not worth waking the team.
const SERIAL_ELEMENTS: usize = 16 << 10;

/// The entry to all kernels.
#[derive(Debug)]
pub struct Kernels {
    isa: Isa,
    team: Team,
    /// One for each format of weights.
    ahead: [Ahead; 3],
}

impl Kernels {
    /// Kernels for `isa` on `threads` threads.
    ///
    /// # Errors
    /// The machine does not have `isa`.
    pub fn new(isa: Isa, threads: usize) -> Result<Self, IsaError> {
        if !isa.is_available() {
            return Err(IsaError::Missing { isa });
        }
        Ok(Self { isa, team: Team::new(threads), ahead: Default::default() })
    }

    /// The instruction set in use.
    #[must_use]
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// The threads in use.
    #[must_use]
    pub const fn team(&self) -> &Team {
        &self.team
    }

    /// How far ahead weights of a format are asked for.
    pub(crate) const fn ahead(&self, format: WeightFormat) -> &Ahead {
        &self.ahead[match format {
            WeightFormat::I8 => 0,
            WeightFormat::I4 => 1,
            WeightFormat::I4Offset => 2,
        }]
    }

    /// Splits `rows` of `width` elements over the team when there is enough to do.
    pub(crate) fn rows(&self, rows: usize, width: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        if rows * width < SERIAL_ELEMENTS {
            job(0..rows);
        } else {
            self.team.split(rows, job);
        }
    }
}
