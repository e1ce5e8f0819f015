//! Rotary positions in `config.json`: `rope_scaling` beside `rope_theta`, or both in
//! `rope_parameters`.

use serde::Deserialize;

use super::super::SourceError;
use super::config::Reader;
use crate::architecture::RopeScaling;

const THETA_DEFAULT: f64 = 10_000.0;
const YARN_BETA_FAST: f64 = 32.0;
const YARN_BETA_SLOW: f64 = 1.0;

/// `rope_scaling` or `rope_parameters`. `type` is the old name of `rope_type`.
#[derive(Deserialize)]
pub(super) struct RopeSettings {
    rope_type: Option<String>,
    r#type: Option<String>,
    rope_theta: Option<f64>,
    partial_rotary_factor: Option<f64>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<u32>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    attention_factor: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    truncate: Option<bool>,
    /// Settings per kind of layer.
    full_attention: Option<serde::de::IgnoredAny>,
    sliding_attention: Option<serde::de::IgnoredAny>,
}

/// The name and the settings, of which a file has one.
fn settings<'a>(
    reader: &Reader<'a>,
) -> Result<(&'static str, Option<&'a RopeSettings>), SourceError> {
    let config = reader.config;
    let (name, settings) = match (&config.rope_parameters, &config.rope_scaling) {
        (Some(_), Some(_)) => {
            let value = "beside rope_parameters".to_owned();
            return Err(reader.unsupported("rope_scaling", value));
        }
        (Some(settings), None) => ("rope_parameters", Some(settings)),
        (None, settings) => ("rope_scaling", settings.as_ref()),
    };
    let per_kind = |s: &RopeSettings| s.full_attention.is_some() || s.sliding_attention.is_some();
    if settings.is_some_and(per_kind) {
        return Err(reader.unsupported(name, "settings per kind of layer".to_owned()));
    }
    Ok((name, settings))
}

/// Base of the frequencies.
pub(super) fn theta(reader: &Reader<'_>) -> Result<f64, SourceError> {
    let (_, settings) = settings(reader)?;
    let inner = settings.and_then(|settings| settings.rope_theta);
    Ok(inner.or(reader.config.rope_theta).unwrap_or(THETA_DEFAULT))
}

/// Rotated elements of a head; a part of them is rounded down.
pub(super) fn dims(reader: &Reader<'_>, head_width: u32) -> Result<u32, SourceError> {
    let (_, settings) = settings(reader)?;
    let inner = settings.and_then(|settings| settings.partial_rotary_factor);
    let part = inner.or(reader.config.partial_rotary_factor);
    // A hostile factor saturates, and the check of the architecture refuses the result.
    Ok(part.map_or(head_width, |part| (f64::from(head_width) * part) as u32))
}

/// Change of the frequencies.
pub(super) fn scaling(
    reader: &Reader<'_>,
    context_tokens: u32,
) -> Result<RopeScaling, SourceError> {
    let (name, Some(settings)) = settings(reader)? else {
        return Ok(RopeScaling::None);
    };
    let inner = |key: &str| format!("{name}.{key}");
    let kind = match (&settings.rope_type, &settings.r#type) {
        (Some(new), Some(old)) if new != old => {
            return Err(reader.unsupported(&inner("type"), format!("{old:?} beside {new:?}")));
        }
        (Some(kind), _) | (None, Some(kind)) => kind.as_str(),
        (None, None) => "default",
    };
    let factor = || reader.required(&inner("factor"), settings.factor);
    let original_key = "original_max_position_embeddings";
    let original = settings.original_max_position_embeddings;
    match kind {
        "default" => Ok(RopeScaling::None),
        "linear" => Ok(RopeScaling::Linear { factor: factor()? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: factor()?,
            low_freq_factor: reader
                .required(&inner("low_freq_factor"), settings.low_freq_factor)?,
            high_freq_factor: reader
                .required(&inner("high_freq_factor"), settings.high_freq_factor)?,
            original_context: reader.required(&inner(original_key), original)?,
        }),
        "yarn" => {
            if settings.truncate == Some(false) {
                return Err(reader.unsupported(&inner("truncate"), "false".to_owned()));
            }
            let factor = factor()?;
            Ok(RopeScaling::Yarn {
                factor,
                beta_fast: settings.beta_fast.unwrap_or(YARN_BETA_FAST),
                beta_slow: settings.beta_slow.unwrap_or(YARN_BETA_SLOW),
                attention_factor: attention_factor(settings, factor),
                original_context: original.unwrap_or(context_tokens),
            })
        }
        other => Err(reader.unsupported(&inner("rope_type"), format!("{other:?}"))),
    }
}

/// What multiplies cosine and sine under `YaRN`.
fn attention_factor(settings: &RopeSettings, factor: f64) -> f64 {
    let scale = |weight: f64| {
        if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 }
    };
    // A weight of 0 counts as absent.
    let weight = |value: Option<f64>| value.filter(|&weight| weight != 0.0);
    match (settings.attention_factor, weight(settings.mscale), weight(settings.mscale_all_dim)) {
        (Some(given), ..) => given,
        (None, Some(mscale), Some(all)) => scale(mscale) / scale(all),
        _ => scale(1.0),
    }
}
