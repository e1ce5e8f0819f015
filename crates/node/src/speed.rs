//! How fast a node computes its layers: measured on the layers themselves, once they are loaded.

use std::time::{Duration, Instant};

use shoal_engine::{Segment, SegmentKind, SequenceId, Stage};

/// No request has this number.
const SEQUENCE: SequenceId = SequenceId(u64::MAX);
/// Steps of one row, of which the median counts.
const STEPS: usize = 7;
/// Rows of a chunk.
const CHUNK_ROWS: usize = 32;
/// 1.0 and -1.0: sound in every layer of any model.
const ELEMENTS: [u16; 2] = [0x3f80, 0xbf80];

/// What a row costs in one layer, in nanoseconds; 0: not measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Speed {
    /// A row alone.
    pub(crate) decode_ns: u32,
    /// Each further row of a chunk.
    pub(crate) prefill_ns: u32,
}

/// Measures a stage of `layer_count` layers and leaves its caches empty.
pub(crate) fn measure(stage: &mut Stage, width: u32, layer_count: u16) -> Speed {
    stage.cache_mut().begin(SEQUENCE, &[]);
    let speed = try_measure(stage, width as usize, u32::from(layer_count.max(1)));
    stage.cache_mut().end(SEQUENCE);
    speed.unwrap_or_default()
}

fn try_measure(stage: &mut Stage, width: usize, layer_count: u32) -> Option<Speed> {
    stage.cache_mut().reserve(SEQUENCE, STEPS + 1 + CHUNK_ROWS).ok()?;
    // The first step takes memory for its buffers.
    step(stage, width, 0, 1)?;
    let mut alone = Vec::new();
    for position in 1..=STEPS {
        alone.push(step(stage, width, position, 1)?);
    }
    alone.sort_unstable();
    let alone = alone[STEPS / 2];
    let chunk = step(stage, width, STEPS + 1, CHUNK_ROWS)?;
    let per_layer = |time: Duration, rows: u32| {
        let nanos = time.as_nanos() / u128::from(layer_count * rows);
        u32::try_from(nanos).unwrap_or(u32::MAX).max(1)
    };
    let further = CHUNK_ROWS as u32 - 1;
    Some(Speed {
        decode_ns: per_layer(alone, 1),
        prefill_ns: per_layer(chunk.saturating_sub(alone), further),
    })
}

fn step(stage: &mut Stage, width: usize, position: usize, rows: usize) -> Option<Duration> {
    let mut elements: Vec<u16> = ELEMENTS.into_iter().cycle().take(width * rows).collect();
    let kind = SegmentKind::Chain { rows };
    let started = Instant::now();
    stage.forward(&[Segment { sequence: SEQUENCE, position, kind }], &mut elements).ok()?;
    Some(started.elapsed())
}
