//! Every constant of the arithmetic, and the proof that no sum overflows. Spec 01 §2.

/// Version of the arithmetic; part of every package manifest.
pub const ARITHMETIC_VERSION: u32 = 1;

/// Elements that share one weight multiplier and one activation multiplier `r`.
pub const BLOCK: usize = 32;
/// Elements that share one activation multiplier `n`.
pub const GROUP: usize = 256;
/// Rows of a weight tile.
pub const TILE_ROWS: usize = 16;
/// Columns of a weight tile.
pub const TILE_COLUMNS: usize = 1024;

/// Largest magnitude of an 8-bit weight code.
pub const I8_CODE_MAX: i32 = 127;
/// Largest block multiplier of 8-bit weights; the smallest is 0.
pub const I8_MULTIPLIER_MAX: i32 = 31;
/// Smallest 4-bit weight code.
pub const I4_CODE_MIN: i32 = -8;
/// Largest 4-bit weight code.
pub const I4_CODE_MAX: i32 = 7;
/// Largest magnitude of a block multiplier of 4-bit weights. It has a sign, so that the code -8,
/// which has no opposite, can stand for the largest weight of a block whatever that one's sign.
pub const I4_MULTIPLIER_MAX: i32 = 127;
/// Largest magnitude of a block offset.
pub const I4_OFFSET_MAX: i32 = 2040;
/// Smallest magnitude of a non-zero row scale `D`.
pub const ROW_SCALE_MIN: f32 = f32::from_bits((127 - 60) << 23);
/// Largest magnitude of a row scale `D`.
pub const ROW_SCALE_MAX: f32 = f32::from_bits((127 + 40) << 23);

/// Largest magnitude of an a8 code.
pub const A8_CODE_MAX: i32 = 127;
/// Largest multiplier `r` of a block.
pub const A8_BLOCK_MULTIPLIER_MAX: i32 = 15;
/// Largest multiplier `n` of a group.
pub const A8_GROUP_MULTIPLIER_MAX: i32 = 4095;
/// Largest magnitude of an a12 code, and of Q, K and V codes.
pub const A12_CODE_MAX: i32 = 2047;
/// Largest magnitude of the codes that RMS norms square.
pub const NORM_CODE_MAX: i32 = 32767;

/// Magnitudes below this become +0: 2^-100.
pub const SMALLEST: f32 = f32::from_bits((127 - 100) << 23);
/// Magnitudes from this on, and NaN, are faults: 2^100.
pub const LARGEST: f32 = f32::from_bits((127 + 100) << 23);
/// Q, K and V elements from this magnitude on are faults: 2^40, so that no score can overflow.
pub const ATTENTION_INPUT_LARGEST: f32 = f32::from_bits((127 + 40) << 23);

/// Positions of an attention chunk; also the positions of a KV page.
pub const CHUNK: usize = 64;
/// Softmax weights of scores this far (in powers of two) below the maximum are 0.
pub const SCORE_RANGE: f32 = 40.0;
/// Fraction bits of the softmax denominator's terms; at most 22, so that rounding is two additions.
pub const DENOMINATOR_BITS: i32 = 22;
/// Bits of the integer weights of a chunk.
pub const CHUNK_WEIGHT_BITS: i32 = 14;
/// Extra bits kept when chunks are added.
pub const CHUNK_SUM_BITS: i32 = 8;
/// Longest sequence.
pub const CONTEXT_MAX: usize = 1 << 20;
/// Widest head.
pub const HEAD_WIDTH_MAX: usize = 512;
/// Widest input of a linear map; keeps every sum below 2^53.
pub const COLUMNS_MAX: usize = 1 << 17;

/// Fraction bits of the probabilities that log-probabilities, top-p and min-p are made of.
pub const PROBABILITY_BITS: i32 = 30;
/// Fraction bits of the states that an embedding averages.
pub const POOL_BITS: i32 = 20;

// The proofs. `inner` bounds the sum over one group before `n`, which every kernel holds in i32.
const _: () = {
    let blocks = (GROUP / BLOCK) as i64;
    let i32_max = i32::MAX as i64;
    let block = BLOCK as i64;

    let a8 = A8_CODE_MAX as i64 * A8_BLOCK_MULTIPLIER_MAX as i64;
    let a12 = A12_CODE_MAX as i64;
    let i8_weight = I8_CODE_MAX as i64 * I8_MULTIPLIER_MAX as i64;
    let i4_weight = -(I4_CODE_MIN as i64) * I4_MULTIPLIER_MAX as i64 + I4_OFFSET_MAX as i64;
    assert!(blocks * block * a8 * i8_weight <= i32_max);
    assert!(blocks * block * a8 * i4_weight <= i32_max);
    assert!(blocks * block * a12 * i8_weight <= i32_max);
    assert!(blocks * block * a12 * i4_weight <= i32_max);

    let groups = COLUMNS_MAX.div_ceil(GROUP) as i64;
    let outer = groups * A8_GROUP_MULTIPLIER_MAX as i64 * i32_max;
    assert!(outer < 1 << 53);

    let score = A12_CODE_MAX as i64 * A12_CODE_MAX as i64 * HEAD_WIDTH_MAX as i64;
    assert!(score <= i32_max);
    let value = (1i64 << CHUNK_WEIGHT_BITS) * A12_CODE_MAX as i64 * CHUNK as i64;
    assert!(value <= i32_max);
    let chunks = (CONTEXT_MAX / CHUNK) as i64;
    assert!(chunks << (31 + CHUNK_SUM_BITS) <= 1 << 53);
    assert!((CONTEXT_MAX as i64) << (DENOMINATOR_BITS + 1) <= 1 << 53);
};
