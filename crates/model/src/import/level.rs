//! Channels whose weights are far smaller than those beside them get larger weights and smaller
//! activations, by powers of two: the function stays the same to the last bit.
//!
//! Columns that share a block share its multiplier, so a column of small weights keeps few bits of
//! its own, and what reads large activations often has small weights. No row's largest weight and
//! no activation grows, so no scale does. Owns the choice of powers. Spec 02 §9.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::each::each;
use super::{ImportError, ImportProgress, OnProgress};
use crate::architecture::{Architecture, LinearPart, NormPart, TensorRole};
use crate::package::StoredFormat;
use crate::source::{CodeBlock, SourceError, TensorInfo, TokenizerFiles, WeightSource};

/// Largest power: a channel that needs more carries nothing.
const SHIFT_MAX: u8 = 16;
/// Rows read at a time by a thread.
const ROWS_AT_ONCE: usize = 64;

/// Where activations lie between what makes them and what reads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    AttentionNorm,
    Value,
    MlpNorm,
    Hidden,
}

impl Place {
    const ALL: [Self; 4] = [Self::AttentionNorm, Self::Value, Self::MlpNorm, Self::Hidden];

    const fn readers(self) -> &'static [LinearPart] {
        match self {
            Self::AttentionNorm => &[LinearPart::Query, LinearPart::Key, LinearPart::Value],
            Self::Value => &[LinearPart::AttentionOutput],
            Self::MlpNorm => &[LinearPart::Gate, LinearPart::Up],
            Self::Hidden => &[LinearPart::Down],
        }
    }

    /// The place whose activations a map reads.
    const fn read_by(part: LinearPart) -> Self {
        match part {
            LinearPart::Query | LinearPart::Key | LinearPart::Value => Self::AttentionNorm,
            LinearPart::AttentionOutput => Self::Value,
            LinearPart::Gate | LinearPart::Up => Self::MlpNorm,
            LinearPart::Down => Self::Hidden,
        }
    }

    /// The place whose activations are the rows of a map, one by one.
    const fn made_by(part: LinearPart) -> Option<Self> {
        match part {
            LinearPart::Value => Some(Self::Value),
            LinearPart::Up => Some(Self::Hidden),
            _ => None,
        }
    }

    fn channels(self, architecture: &Architecture) -> usize {
        match self {
            Self::AttentionNorm | Self::MlpNorm => architecture.model_width as usize,
            Self::Value => architecture.linear_shape(LinearPart::Value).0,
            Self::Hidden => architecture.mlp_width as usize,
        }
    }

    /// The channel that `column` of a reader reads: query heads share the values of their group.
    fn channel(self, architecture: &Architecture, column: usize) -> usize {
        if self != Self::Value {
            return column;
        }
        let group = architecture.head_count / architecture.kv_head_count;
        value_of(column, architecture.head_width as usize, group as usize)
    }
}

/// The row of the value map that the heads' `column` comes from; `group` heads share one.
fn value_of(column: usize, head_width: usize, group: usize) -> usize {
    column / head_width / group * head_width + column % head_width
}

/// A source with leveled channels.
#[derive(Debug)]
pub(super) struct Leveled<'a> {
    inner: &'a dyn WeightSource,
    /// Per layer and place a power of two per channel.
    shifts: Vec<[Vec<u8>; 4]>,
    /// Weights that were read to choose them.
    pub(super) weights_read: u64,
}

/// What is read to choose the powers.
struct Part {
    layer: u32,
    place: Place,
    part: LinearPart,
    rows: Range<usize>,
}

impl<'a> Leveled<'a> {
    /// Reads the maps of all layers once, but for those whose codes an import to `weights` keeps.
    pub(super) fn measure(
        inner: &'a dyn WeightSource,
        weights: StoredFormat,
        threads: usize,
        progress: &OnProgress<'_>,
    ) -> Result<Self, ImportError> {
        let architecture = inner.architecture();
        let keeps_codes = |role| {
            let codes = inner.tensor(role).is_some_and(|info| info.element.has_codes());
            codes && weights != StoredFormat::I8
        };
        let parts = parts(architecture, &keeps_codes);
        let size = |part: &Part| (part.rows.len() * architecture.linear_shape(part.part).1) as u64;
        let weights_read = parts.iter().map(size).sum();
        let tensors: u64 = architecture.tensors().map(|(_, (r, c))| (r * c) as u64).sum();
        let weights_total = tensors + weights_read;
        let zeros = || Place::ALL.map(|place| vec![0.0_f32; place.channels(architecture)]);
        let largest: Vec<_> = (0..architecture.layer_count).map(|_| zeros()).collect();
        let (largest, done) = (Mutex::new(largest), AtomicU64::new(0));
        each(threads, parts.len(), &|index| {
            let part = &parts[index];
            let found = column_largest(inner, part)?;
            let mut largest = largest.lock().unwrap_or_else(PoisonError::into_inner);
            let all = &mut largest[part.layer as usize][part.place as usize];
            for (column, w) in found.into_iter().enumerate() {
                let channel = &mut all[part.place.channel(architecture, column)];
                *channel = channel.max(w);
            }
            drop(largest);
            let weights = done.fetch_add(size(part), Ordering::Relaxed) + size(part);
            let go_on = progress(ImportProgress { weights, weights_total });
            if go_on { Ok(()) } else { Err(ImportError::Stopped) }
        })?;
        let largest = largest.into_inner().unwrap_or_else(PoisonError::into_inner);
        let shifts = largest.iter().map(|places| places.each_ref().map(|all| shifts(all)));
        Ok(Self { inner, shifts: shifts.collect(), weights_read })
    }

    /// What the channels of a place are multiplied with where they are read.
    fn factors(&self, layer: u32, place: Place) -> impl Fn(usize) -> f32 + '_ {
        let shifts = &self.shifts[layer as usize][place as usize];
        |channel| power(shifts[channel])
    }

    /// Norm weights or biases that make the channels of a place.
    fn divide(&self, layer: u32, place: Place, elements: &mut [f32]) {
        let factor = self.factors(layer, place);
        for (channel, x) in elements.iter_mut().enumerate() {
            *x /= factor(channel);
        }
    }
}

/// All that is read: the readers of every place that can be leveled, in pieces.
fn parts(architecture: &Architecture, keeps_codes: &dyn Fn(TensorRole) -> bool) -> Vec<Part> {
    let mut parts = Vec::new();
    for layer in 0..architecture.layer_count {
        let kept = |part: &LinearPart| keeps_codes(TensorRole::Linear(layer, *part));
        for place in Place::ALL {
            let makers = LinearPart::ALL.iter().filter(|p| Place::made_by(**p) == Some(place));
            if place.readers().iter().chain(makers).any(kept) {
                continue;
            }
            for &part in place.readers() {
                let (count, _) = architecture.linear_shape(part);
                for first in (0..count).step_by(ROWS_AT_ONCE) {
                    let rows = first..count.min(first + ROWS_AT_ONCE);
                    parts.push(Part { layer, place, part, rows });
                }
            }
        }
    }
    parts
}

/// The largest magnitude in every column of some rows, as a share of the largest of its row: rows
/// have scales of their own.
fn column_largest(source: &dyn WeightSource, part: &Part) -> Result<Vec<f32>, SourceError> {
    let (_, columns) = source.architecture().linear_shape(part.part);
    let mut rows = vec![0.0; part.rows.len() * columns];
    let role = TensorRole::Linear(part.layer, part.part);
    source.read_rows(role, part.rows.start, &mut rows)?;
    let mut largest = vec![0.0_f32; columns];
    for row in rows.chunks_exact(columns) {
        let of_row = row.iter().fold(0.0, |largest: f32, w| largest.max(w.abs()));
        if of_row > 0.0 {
            for (largest, w) in largest.iter_mut().zip(row) {
                *largest = largest.max(w.abs() / of_row);
            }
        }
    }
    Ok(largest)
}

/// The powers of two that bring the largest share of each channel up to the median of all, or as
/// near below it as they can.
fn shifts(largest: &[f32]) -> Vec<u8> {
    let mut sorted = largest.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    let median = sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default();
    let shift = |&largest: &f32| {
        let fits = |&shift: &u8| largest * power(shift) <= median;
        if largest > 0.0 { (1..=SHIFT_MAX).take_while(fits).last().unwrap_or(0) } else { 0 }
    };
    largest.iter().map(shift).collect()
}

const fn power(shift: u8) -> f32 {
    (1_u32 << shift) as f32
}

impl WeightSource for Leveled<'_> {
    fn architecture(&self) -> &Architecture {
        self.inner.architecture()
    }

    fn name(&self) -> &str {
        self.inner.name()
    }

    fn tokenizer_files(&self) -> Result<TokenizerFiles, SourceError> {
        self.inner.tokenizer_files()
    }

    fn chat_template(&self) -> Option<&str> {
        self.inner.chat_template()
    }

    fn ignored_tensors(&self) -> &[String] {
        self.inner.ignored_tensors()
    }

    fn tensor(&self, role: TensorRole) -> Option<&TensorInfo> {
        self.inner.tensor(role)
    }

    fn read_rows(
        &self,
        role: TensorRole,
        first_row: usize,
        out: &mut [f32],
    ) -> Result<(), SourceError> {
        self.inner.read_rows(role, first_row, out)?;
        match role {
            TensorRole::Linear(layer, part) => {
                let architecture = self.architecture();
                let (_, columns) = architecture.linear_shape(part);
                let place = Place::read_by(part);
                let factor = self.factors(layer, place);
                let channel = |column| place.channel(architecture, column);
                let factors: Vec<f32> = (0..columns).map(|c| factor(channel(c))).collect();
                let made = Place::made_by(part).map(|place| self.factors(layer, place));
                for (i, row) in out.chunks_exact_mut(columns).enumerate() {
                    let made = made.as_ref().map_or(1.0, |factor| factor(first_row + i));
                    for (w, factor) in row.iter_mut().zip(&factors) {
                        *w *= factor / made;
                    }
                }
            }
            TensorRole::Bias(layer, part) => {
                if let Some(place) = Place::made_by(part) {
                    self.divide(layer, place, out);
                }
            }
            TensorRole::Norm(layer, NormPart::Attention) => {
                self.divide(layer, Place::AttentionNorm, out);
            }
            TensorRole::Norm(layer, NormPart::Mlp) => self.divide(layer, Place::MlpNorm, out),
            TensorRole::Norm(_, NormPart::QueryHead | NormPart::KeyHead)
            | TensorRole::Embedding
            | TensorRole::OutputHead
            | TensorRole::FinalNorm => {}
        }
        Ok(())
    }

    fn read_codes(
        &self,
        role: TensorRole,
        first_row: usize,
        out: &mut [CodeBlock],
    ) -> Result<(), SourceError> {
        self.inner.read_codes(role, first_row, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_channels_are_raised_up_to_the_median_and_no_other_changes() {
        let largest = [1.0, 1.5, 0.5, 0.51, 1.0 / 64.0, 0.0, 40.0, 1.0, 1.0];
        assert_eq!(shifts(&largest), [0, 0, 1, 0, 6, 0, 0, 0, 0]);
        assert_eq!(shifts(&[1.0, 1.0, 1e-20]), [0, 0, SHIFT_MAX]);
        assert_eq!(shifts(&[0.0, 0.0, 1.0]), [0; 3]);
        assert_eq!(shifts(&[]), [0; 0]);
    }

    #[test]
    fn query_heads_read_the_values_of_their_group() {
        // Four heads of width 18 over two of keys and values.
        let channel = |column| value_of(column, 18, 2);
        assert_eq!([0, 17, 18, 36, 53, 71].map(channel), [0, 17, 0, 18, 35, 35]);
    }
}
