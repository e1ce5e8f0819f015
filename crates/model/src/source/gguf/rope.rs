//! Rotation scaling in GGUF files.
//!
//! Linear and `YaRN` scaling are keys. Llama 3 scaling is a tensor of one factor per rotated pair,
//! by which its frequency is divided. The factors follow from four numbers, of which two are the
//! same in every published model; the other two are found from the factors, and all factors are
//! compared with what the four give.

use std::collections::BTreeMap;
use std::f64::consts::TAU;

use super::super::blocks::decode;
use super::super::tensors::FileTensor;
use super::super::{ElementType, Input, SourceError, limits};
use super::metadata::{Metadata, wrong};
use super::names::ROPE_FACTORS;
use crate::architecture::RopeScaling;

/// Wavelengths from `original_context / 1` on are scaled fully, below `original_context / 4` not at
/// all: so in every model of the family.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;
/// Where no factor lies between the two, any context that separates them does.
const ORIGINAL_CONTEXT_DEFAULT: u32 = 8192;
/// The factors are written by 32-bit arithmetic.
const TOLERANCE: f64 = 1e-4;
const YARN_BETA_FAST: f64 = 32.0;
const YARN_BETA_SLOW: f64 = 1.0;

/// The values the scaling depends on.
pub(super) struct Rotation<'a> {
    pub(super) prefix: &'a str,
    pub(super) theta: f64,
    pub(super) dims: u32,
    pub(super) context_tokens: u32,
}

pub(super) fn scaling(
    metadata: &Metadata,
    inputs: &[Input],
    tensors: &BTreeMap<String, FileTensor>,
    rotation: &Rotation<'_>,
) -> Result<RopeScaling, SourceError> {
    let keyed = scaling_of_keys(metadata, &inputs[0], rotation)?;
    let Some(tensor) = tensors.get(ROPE_FACTORS) else {
        return Ok(keyed);
    };
    let input = &inputs[tensor.input];
    let factors = read_factors(input, tensor, rotation.dims)?;
    let key = format!("{}.rope.scaling.original_context_length", rotation.prefix);
    let hint = metadata.u32(&inputs[0], &key)?;
    let found = llama3(&factors, rotation, hint.unwrap_or(ORIGINAL_CONTEXT_DEFAULT));
    match (found, keyed) {
        (Some(RopeScaling::None), keyed) => Ok(keyed),
        (Some(scaling), RopeScaling::None) => Ok(scaling),
        (Some(_), _) => Err(wrong(input, ROPE_FACTORS, "the only scaling in a file")),
        (None, _) => {
            let rule = "factors of Llama 3 scaling with low_freq_factor 1 and high_freq_factor 4";
            Err(wrong(input, ROPE_FACTORS, rule))
        }
    }
}

fn scaling_of_keys(
    metadata: &Metadata,
    input: &Input,
    rotation: &Rotation<'_>,
) -> Result<RopeScaling, SourceError> {
    let key = |name: &str| format!("{}.rope.scaling.{name}", rotation.prefix);
    let float = |name: &str| metadata.float(input, &key(name));
    let unsupported = |name: &str, value: String| SourceError::Unsupported {
        file: input.file().to_path_buf(),
        key: key(name),
        value,
    };
    let kind = metadata.text(input, &key("type"), limits::SHORT_TEXT_BYTES_MAX)?;
    let old_key = format!("{}.rope.scale_linear", rotation.prefix);
    let factor = match float("factor")? {
        None => metadata.float(input, &old_key)?,
        some => some,
    };
    // Writers put 0 or 1 for "not scaled".
    let factor = factor.filter(|&factor| factor != 0.0).unwrap_or(1.0);
    let attention_factor = float("attn_factor")?.unwrap_or(1.0);
    // A file that has only a factor means linear scaling.
    let kind = kind.unwrap_or_else(|| "linear".to_owned());
    if kind != "yarn" && attention_factor != 1.0 {
        return Err(unsupported("attn_factor", attention_factor.to_string()));
    }
    match kind.as_str() {
        "none" => Ok(RopeScaling::None),
        "linear" if factor == 1.0 => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor }),
        "yarn" => {
            // Values with which these change nothing.
            for (name, neutral) in [
                ("yarn_ext_factor", [1.0, -1.0]),
                ("yarn_attn_factor", [1.0, 1.0]),
                ("yarn_log_multiplier", [0.0, 0.0]),
            ] {
                if let Some(value) = float(name)?.filter(|value| !neutral.contains(value)) {
                    return Err(unsupported(name, value.to_string()));
                }
            }
            let original_context = metadata.u32(input, &key("original_context_length"))?;
            Ok(RopeScaling::Yarn {
                factor,
                beta_fast: float("yarn_beta_fast")?.unwrap_or(YARN_BETA_FAST),
                beta_slow: float("yarn_beta_slow")?.unwrap_or(YARN_BETA_SLOW),
                attention_factor: attention_factor * (0.1 * factor.ln() + 1.0),
                original_context: original_context.unwrap_or(rotation.context_tokens),
            })
        }
        _ => Err(unsupported("type", format!("{kind:?}"))),
    }
}

fn read_factors(input: &Input, tensor: &FileTensor, dims: u32) -> Result<Vec<f32>, SourceError> {
    let count = dims as usize / 2;
    if tensor.element != ElementType::F32 || tensor.shape != [count as u64] {
        let rule = "one 32-bit float per rotated pair";
        return Err(wrong(input, ROPE_FACTORS, rule));
    }
    let bytes = input.read(tensor.offset, count as u64 * 4)?;
    let mut factors = vec![0.0; count];
    decode(ElementType::F32, &bytes, &mut factors);
    Ok(factors)
}

/// The four numbers of Llama 3 scaling.
#[derive(Clone, Copy)]
struct Llama3 {
    factor: f64,
    low_freq_factor: f64,
    high_freq_factor: f64,
    original_context: u32,
}

impl Llama3 {
    /// By what the frequency of a wavelength (in tokens) is divided.
    fn divisor(self, wavelength: f64) -> f64 {
        let turns = f64::from(self.original_context) / wavelength;
        let range = self.high_freq_factor - self.low_freq_factor;
        let smooth = ((turns - self.low_freq_factor) / range).clamp(0.0, 1.0);
        1.0 / ((1.0 - smooth) / self.factor + smooth)
    }
}

/// Wavelengths of the rotated pairs, in tokens.
fn wavelengths(theta: f64, dims: u32) -> impl Iterator<Item = f64> {
    (0..dims / 2).map(move |i| TAU * theta.powf(f64::from(2 * i) / f64::from(dims)))
}

/// The scaling that has these factors, if one does.
fn llama3(factors: &[f32], rotation: &Rotation<'_>, context_hint: u32) -> Option<RopeScaling> {
    if factors.iter().all(|&factor| factor == 1.0) {
        return Some(RopeScaling::None);
    }
    let pairs = || {
        let factors = factors.iter().copied().map(f64::from);
        factors.zip(wavelengths(rotation.theta, rotation.dims))
    };
    let mut found = Llama3 {
        factor: pairs().map(|(factor, _)| factor).fold(0.0, f64::max),
        low_freq_factor: LOW_FREQ_FACTOR,
        high_freq_factor: HIGH_FREQ_FACTOR,
        original_context: context_hint,
    };
    // The first factor on the slope is the least sensitive to rounding.
    let on_slope = pairs().find(|&(factor, _)| factor > 1.0 && factor < found.factor);
    if let Some((factor, wavelength)) = on_slope {
        let smooth = (1.0 / factor - 1.0 / found.factor) / (1.0 - 1.0 / found.factor);
        let turns = LOW_FREQ_FACTOR + smooth * (HIGH_FREQ_FACTOR - LOW_FREQ_FACTOR);
        // A hostile value saturates; the comparison or the architecture check refuses it.
        found.original_context = (turns * wavelength).round() as u32;
    }
    let agrees = |(factor, wavelength): (f64, f64)| {
        (factor / found.divisor(wavelength) - 1.0).abs() <= TOLERANCE
    };
    pairs().all(agrees).then_some(RopeScaling::Llama3 {
        factor: found.factor,
        low_freq_factor: found.low_freq_factor,
        high_freq_factor: found.high_freq_factor,
        original_context: found.original_context,
    })
}

/// The factors of a scaling, to be written as a tensor; `None` when it needs none.
pub(super) fn factors(scaling: RopeScaling, theta: f64, dims: u32) -> Option<Vec<f32>> {
    let RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_context } =
        scaling
    else {
        return None;
    };
    let rule = Llama3 { factor, low_freq_factor, high_freq_factor, original_context };
    let pairs = wavelengths(theta, dims);
    Some(pairs.map(|wavelength| rule.divisor(wavelength) as f32).collect())
}
