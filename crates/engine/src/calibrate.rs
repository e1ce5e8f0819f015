//! Which inputs of a package need 12 bits: those whose outliers 8 bits with multipliers cannot
//! hold, and what the first layer reads.
//!
//! Text runs through a provisional package; every map is computed with its inputs in a8 and in a12,
//! and the relative difference of the outputs decides. Owns the measure and the threshold; the
//! importer writes the choice into the manifest. Spec 01 §4.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use shoal_arith::ActivationFormat;
use shoal_base::TokenId;
use shoal_kernels::{Kernels, Quantized};
use shoal_model::LinearPart;
use shoal_model::package::{BlobKind, InputFormat, LinearSlot, Package};

use crate::weights::Map;
use crate::{Head, LoadError, Segment, SegmentKind, SequenceId, Stage};

/// Relative error of a map's outputs above which its inputs get 12 bits.
///
/// On the 3 M story model, 256 tokens of `TinyStories`, the errors of its 43 maps have a median of
/// 0.0066 and reach 0.020, in the values of one layer. With one channel in a hundred scaled by 10
/// they have a median of 0.014 and reach 0.043 (`cargo bench -p shoal-engine --bench quality`).
pub const ERROR_MAX: f64 = 0.02;

/// Rows per step.
const ROWS: usize = 64;
/// Rows whose logits are compared: the output head is as large as several layers.
const HEAD_ROWS: usize = 32;

/// What 8-bit inputs cost each map.
#[derive(Debug)]
pub struct Calibration {
    errors: Vec<(BlobKind, LinearSlot, f64)>,
}

impl Calibration {
    /// Runs `tokens` through `package`, whose inputs are all in a8.
    ///
    /// `progress` is told the share that is done and says whether to go on; `None` comes back when
    /// it says no.
    ///
    /// # Errors
    /// The package is damaged.
    pub fn measure(
        package: &Package,
        kernels: &Arc<Kernels>,
        tokens: &[TokenId],
        progress: &dyn Fn(f64) -> bool,
    ) -> Result<Option<Self>, LoadError> {
        let mut head = Head::load(Arc::clone(kernels), package)?;
        let probe = Probe::default();
        let mut rows: Vec<Vec<u16>> = tokens.chunks(ROWS).map(|part| head.embed(part)).collect();
        let layers = package.manifest().architecture.layer_count;
        for layer in 0..layers {
            if !progress(f64::from(layer) / f64::from(layers)) {
                return Ok(None);
            }
            let pages = tokens.len().div_ceil(shoal_arith::limits::CHUNK);
            let mut stage = Stage::load(Arc::clone(kernels), package, layer..layer + 1, pages)?;
            let sequence = SequenceId(0);
            stage.cache_mut().begin(sequence, &[]);
            stage.cache_mut().reserve(sequence, tokens.len()).expect("pages for all tokens");
            for (i, rows) in rows.iter_mut().enumerate() {
                let count = rows.len() / head.width();
                let kind = SegmentKind::Chain { rows: count };
                let segment = Segment { sequence, position: i * ROWS, kind };
                stage.forward_probed(&[segment], rows, &probe).expect("pages for all tokens");
            }
        }
        if let Some(rows) = rows.last() {
            let first = rows.len().saturating_sub(HEAD_ROWS * head.width());
            head.probe(&rows[first..], &probe);
        }
        Ok(Some(Self { errors: probe.finish() }))
    }

    /// Relative error of the outputs of every map, root mean square over rows.
    pub fn errors(&self) -> impl Iterator<Item = (BlobKind, LinearSlot, f64)> {
        self.errors.iter().copied()
    }

    /// The format for the inputs of a map. Maps that read the same inputs get the same format, so
    /// that these are quantized once.
    ///
    /// What the first layer reads follows from a token alone, so its error is the same whenever the
    /// token occurs and does not average out. 12 bits there cost next to nothing, and recover 0.7
    /// of the 0.9 % that a trained model of width 64 loses with 8.
    #[must_use]
    pub fn choose(&self, kind: BlobKind, slot: LinearSlot) -> InputFormat {
        let shared = shared_inputs(slot);
        if (kind, shared) == (BlobKind::Layer(0), LinearSlot::Part(LinearPart::Query)) {
            return InputFormat::A12;
        }
        let errors =
            self.errors.iter().filter(|(k, s, _)| *k == kind && shared_inputs(*s) == shared);
        match errors.map(|(.., error)| *error).fold(0.0, f64::max) > ERROR_MAX {
            true => InputFormat::A12,
            false => InputFormat::A8,
        }
    }
}

/// The first of the maps that read the same inputs.
fn shared_inputs(slot: LinearSlot) -> LinearSlot {
    match slot {
        LinearSlot::Part(LinearPart::Key | LinearPart::Value) => {
            LinearSlot::Part(LinearPart::Query)
        }
        LinearSlot::Part(LinearPart::Up) => LinearSlot::Part(LinearPart::Gate),
        other => other,
    }
}

/// Collects errors while a stage computes.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// Map, sum of squared relative errors, rows.
    sums: Mutex<Vec<(BlobKind, LinearSlot, f64, usize)>>,
}

impl Probe {
    /// Compares outputs of `map` on rows `x` with inputs in a8 and in a12.
    pub(crate) fn compare(
        &self,
        kernels: &Kernels,
        (kind, slot): (BlobKind, LinearSlot),
        map: &Map,
        x: &[f32],
    ) {
        let shape = map.linear.shape();
        let count = x.len() / shape.columns;
        let outputs = [ActivationFormat::A8, ActivationFormat::A12].map(|format| {
            let faults: Vec<AtomicBool> = (0..count).map(|_| AtomicBool::new(false)).collect();
            let mut quantized = Quantized::default();
            let needs = shoal_kernels::QuantizeNeeds::of(kernels.isa(), shape.format, format);
            kernels.quantize(x, shape.columns, format, needs, &mut quantized, &faults);
            let mut out = vec![0.0; count * shape.rows];
            kernels.matmul(&map.linear, &quantized, &mut out);
            out
        });
        let [a8, a12] = &outputs;
        let square = |y: f32| f64::from(y) * f64::from(y);
        let mut sum = 0.0;
        for (a8, a12) in a8.chunks_exact(shape.rows).zip(a12.chunks_exact(shape.rows)) {
            let error: f64 = a8.iter().zip(a12).map(|(a, b)| square(a - b)).sum();
            let energy: f64 = a12.iter().map(|&y| square(y)).sum();
            sum += error / energy.max(f64::MIN_POSITIVE);
        }
        let mut sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner);
        match sums.iter_mut().find(|(k, s, ..)| (*k, *s) == (kind, slot)) {
            Some((.., total, rows)) => {
                *total += sum;
                *rows += count;
            }
            None => sums.push((kind, slot, sum, count)),
        }
    }

    fn finish(self) -> Vec<(BlobKind, LinearSlot, f64)> {
        let sums = self.sums.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mean = |sum: f64, rows: usize| (sum / rows as f64).sqrt();
        sums.into_iter().map(|(kind, slot, sum, rows)| (kind, slot, mean(sum, rows))).collect()
    }
}
