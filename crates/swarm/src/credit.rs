//! Credit: what may be on the way on one edge. Spec 03, 6.4.

use shoal_wire::{Admission, Frame};

/// Frames and bytes of payload.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) frames: u32,
    pub(crate) bytes: u64,
}

impl Amount {
    pub(crate) fn of(frame: &Frame) -> Self {
        Self { frames: 1, bytes: frame.header.payload_bytes.into() }
    }

    pub(crate) fn full(admission: &Admission) -> Self {
        let (frames, bytes) = (admission.credit_frames.into(), admission.credit_bytes.into());
        Self { frames, bytes }
    }

    /// What a shadow gets.
    pub(crate) fn of_shadow(admission: &Admission) -> Self {
        let full = Self::full(admission);
        let times = shoal_wire::limits::SHADOW_CREDIT;
        Self { frames: full.frames * times, bytes: full.bytes * u64::from(times) }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.bytes += other.bytes;
    }

    /// Takes an amount away, if it is there.
    pub(crate) fn take(&mut self, other: Self) -> bool {
        let fits = other.frames <= self.frames && other.bytes <= self.bytes;
        if fits {
            self.frames -= other.frames;
            self.bytes -= other.bytes;
        }
        fits
    }

    /// Returns what was used. More than was ever granted would let a peer make this node send
    /// without end.
    pub(crate) fn give_back(&mut self, amount: Self, full: Self) {
        self.add(amount);
        self.frames = self.frames.min(full.frames);
        self.bytes = self.bytes.min(full.bytes);
    }
}
