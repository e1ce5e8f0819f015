//! Stored elements to f32, as ggml defines them: scales become f32 first, then products and sums
//! are f32 in the order written here. All products are exact, so contraction changes nothing.
//!
//! In blocks of 256, element `i` of sub-block `s` is described by formulas on `s`; see each type.

use super::ElementType;
use super::half::{bf16_to_f32, f16_to_f32};

/// 32 elements of a 4-bit source: element `i` is `scale * codes[i] - offset`, the product exact and
/// the difference rounded once.
///
/// - `Q4_0`: `offset = 8 * scale`. The decoded element as a number (a zero may differ in sign).
/// - `Q4_1`: `offset` is the negated minimum. The same bits as the decoded element.
/// - `Q4_K`: `scale` and `offset` are the exact products with the scales of the 256. The same bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CodeBlock {
    /// Each in `0..=15`.
    pub codes: [u8; 32],
    /// Multiplies the code.
    pub scale: f32,
    /// Subtracted afterwards.
    pub offset: f32,
}

impl CodeBlock {
    /// A block of zeros, to be overwritten.
    pub const ZERO: Self = Self { codes: [0; 32], scale: 0.0, offset: 0.0 };
}

/// Levels of `IQ4_NL`.
const IQ4_NL_LEVELS: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// Decodes whole blocks. `Int8Groups` has its scales elsewhere: its elements come out as integers.
///
/// - `bytes`: blocks of `element`, one after another
/// - `out`: their elements, overwritten
pub(super) fn decode(element: ElementType, bytes: &[u8], out: &mut [f32]) {
    match element {
        ElementType::F32 => each(bytes, out, |b: &[u8; 4], y: &mut [f32; 1]| {
            y[0] = f32::from_le_bytes(*b);
        }),
        ElementType::F16 => each(bytes, out, |b: &[u8; 2], y: &mut [f32; 1]| {
            y[0] = f16_to_f32(u16::from_le_bytes(*b));
        }),
        ElementType::Bf16 => each(bytes, out, |b: &[u8; 2], y: &mut [f32; 1]| {
            y[0] = bf16_to_f32(u16::from_le_bytes(*b));
        }),
        ElementType::Q8_0 => each(bytes, out, q8_0),
        ElementType::Q4_0 => each(bytes, out, q4_0),
        ElementType::Q4_1 => each(bytes, out, q4_1),
        ElementType::Q5_0 => each(bytes, out, q5_0),
        ElementType::Q5_1 => each(bytes, out, q5_1),
        ElementType::Q2K => each(bytes, out, q2_k),
        ElementType::Q3K => each(bytes, out, q3_k),
        ElementType::Q4K => each(bytes, out, q4_k),
        ElementType::Q5K => each(bytes, out, q5_k),
        ElementType::Q6K => each(bytes, out, q6_k),
        ElementType::Iq4Nl => each(bytes, out, iq4_nl),
        ElementType::Int8Groups { .. } => each(bytes, out, |b: &[u8; 1], y: &mut [f32; 1]| {
            y[0] = f32::from(b[0] as i8);
        }),
    }
}

/// Codes of whole blocks of a type for which [`ElementType::has_codes`] holds.
pub(super) fn decode_codes(element: ElementType, bytes: &[u8], out: &mut [CodeBlock]) {
    match element {
        ElementType::Q4_0 => each(bytes, out, |b: &[u8; 18], y: &mut [CodeBlock; 1]| {
            let scale = half(b, 0);
            y[0] = CodeBlock { codes: nibbles(&b[2..]), scale, offset: 8.0 * scale };
        }),
        ElementType::Q4_1 => each(bytes, out, |b: &[u8; 20], y: &mut [CodeBlock; 1]| {
            y[0] = CodeBlock { codes: nibbles(&b[4..]), scale: half(b, 0), offset: -half(b, 2) };
        }),
        ElementType::Q4K => each(bytes, out, q4_k_codes),
        _ => unreachable!("callers ask only for types that have codes"),
    }
}

/// Applies `decode` to each block of `N` bytes and the `M` elements it stands for.
fn each<T, const N: usize, const M: usize>(
    bytes: &[u8],
    out: &mut [T],
    decode: impl Fn(&[u8; N], &mut [T; M]),
) {
    let (blocks, rest) = bytes.as_chunks::<N>();
    let (elements, tail) = out.as_chunks_mut::<M>();
    assert!(
        rest.is_empty() && tail.is_empty() && blocks.len() == elements.len(),
        "callers pass whole blocks and room for exactly their elements"
    );
    for (block, elements) in blocks.iter().zip(elements) {
        decode(block, elements);
    }
}

/// The binary16 at a byte of a block.
fn half(block: &[u8], at: usize) -> f32 {
    f16_to_f32(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// 32 codes in 16 bytes: the low halves first, then the high halves.
fn nibbles(bytes: &[u8]) -> [u8; 32] {
    std::array::from_fn(|i| (bytes[i % 16] >> (i / 16 * 4)) & 15)
}

/// 32 codes of 5 bits: the fifth bits are the bits of a little-endian word.
fn nibbles_and_high(bytes: &[u8], high: &[u8]) -> [u8; 32] {
    let mut codes = nibbles(bytes);
    for (i, code) in codes.iter_mut().enumerate() {
        *code |= (high[i / 8] >> (i % 8) & 1) << 4;
    }
    codes
}

/// d:2, q:32
fn q8_0(b: &[u8; 34], y: &mut [f32; 32]) {
    let d = half(b, 0);
    for (y, &q) in y.iter_mut().zip(&b[2..]) {
        *y = f32::from(q as i8) * d;
    }
}

/// d:2, codes:16
fn q4_0(b: &[u8; 18], y: &mut [f32; 32]) {
    let d = half(b, 0);
    for (y, q) in y.iter_mut().zip(nibbles(&b[2..])) {
        *y = f32::from(q as i8 - 8) * d;
    }
}

/// d:2, min:2, codes:16
fn q4_1(b: &[u8; 20], y: &mut [f32; 32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    for (y, q) in y.iter_mut().zip(nibbles(&b[4..])) {
        *y = f32::from(q) * d + m;
    }
}

/// d:2, high:4, codes:16
fn q5_0(b: &[u8; 22], y: &mut [f32; 32]) {
    let d = half(b, 0);
    for (y, q) in y.iter_mut().zip(nibbles_and_high(&b[6..], &b[2..6])) {
        *y = f32::from(q as i8 - 16) * d;
    }
}

/// d:2, min:2, high:4, codes:16
fn q5_1(b: &[u8; 24], y: &mut [f32; 32]) {
    let (d, m) = (half(b, 0), half(b, 2));
    for (y, q) in y.iter_mut().zip(nibbles_and_high(&b[8..], &b[4..8])) {
        *y = f32::from(q) * d + m;
    }
}

/// d:2, codes:16
fn iq4_nl(b: &[u8; 18], y: &mut [f32; 32]) {
    let d = half(b, 0);
    for (y, q) in y.iter_mut().zip(nibbles(&b[2..])) {
        *y = d * f32::from(IQ4_NL_LEVELS[usize::from(q)]);
    }
}

/// Two bits of 16 elements in sub-block `s`: byte `32 (s/8) + 16 (s%2) + i`, from bit
/// `2 (s%8 / 2)`.
fn two_bits(bytes: &[u8], s: usize) -> [u8; 16] {
    let start = 32 * (s / 8) + 16 * (s % 2);
    let shift = s % 8 / 2 * 2;
    std::array::from_fn(|i| bytes[start + i] >> shift & 3)
}

/// scales:16 (low half scale, high half minimum), codes:64, d:2, dmin:2
fn q2_k(b: &[u8; 84], y: &mut [f32; 256]) {
    let (d, min) = (half(b, 80), half(b, 82));
    for (s, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let scale = d * f32::from(b[s] & 15);
        let offset = min * f32::from(b[s] >> 4);
        for (y, q) in y.iter_mut().zip(two_bits(&b[16..80], s)) {
            *y = scale * f32::from(q) - offset;
        }
    }
}

/// high:32 (bit `i/32` of byte `i%32`), codes:64, scales:12, d:2
///
/// Scale `s` of 16: four low bits in byte `s%8`, half `s/8`; two high bits in byte `8 + s%4`, from
/// bit `2 (s/4)`.
fn q3_k(b: &[u8; 110], y: &mut [f32; 256]) {
    let d = half(b, 108);
    for (s, y) in y.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let low = b[96 + s % 8] >> (s / 8 * 4) & 15;
        let high = b[104 + s % 4] >> (s / 4 * 2) & 3;
        let scale = d * f32::from((low | high << 4) as i8 - 32);
        for (i, (y, q)) in y.iter_mut().zip(two_bits(&b[32..96], s)).enumerate() {
            let kept = b[16 * (s % 2) + i] >> (s / 2) & 1;
            *y = scale * f32::from((q | kept << 2) as i8 - 4);
        }
    }
}

/// Scale and minimum of sub-block `s` of 8, from 12 bytes.
fn six_bit_pair(b: &[u8], s: usize) -> (u8, u8) {
    if s < 4 {
        (b[s] & 63, b[s + 4] & 63)
    } else {
        (b[s + 4] & 15 | b[s - 4] >> 6 << 4, b[s + 4] >> 4 | b[s] >> 6 << 4)
    }
}

/// d:2, dmin:2, scales:12, codes:128 (sub-block `s`: 32 bytes from `32 (s/2)`, half `s%2`)
fn q4_k_codes(b: &[u8; 144], y: &mut [CodeBlock; 8]) {
    let (d, min) = (half(b, 0), half(b, 2));
    for (s, y) in y.iter_mut().enumerate() {
        let (scale, offset) = six_bit_pair(&b[4..16], s);
        let bytes = &b[16 + 32 * (s / 2)..];
        *y = CodeBlock {
            codes: std::array::from_fn(|i| bytes[i] >> (s % 2 * 4) & 15),
            scale: d * f32::from(scale),
            offset: min * f32::from(offset),
        };
    }
}

fn q4_k(b: &[u8; 144], y: &mut [f32; 256]) {
    let mut blocks = [CodeBlock::ZERO; 8];
    q4_k_codes(b, &mut blocks);
    for (y, block) in y.as_chunks_mut::<32>().0.iter_mut().zip(&blocks) {
        for (y, &q) in y.iter_mut().zip(&block.codes) {
            *y = block.scale * f32::from(q) - block.offset;
        }
    }
}

/// d:2, dmin:2, scales:12, high:32 (bit `s` of byte `i`), codes:128 as in `Q4_K`
fn q5_k(b: &[u8; 176], y: &mut [f32; 256]) {
    let (d, min) = (half(b, 0), half(b, 2));
    for (s, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (scale, offset) = six_bit_pair(&b[4..16], s);
        let scale = d * f32::from(scale);
        let offset = min * f32::from(offset);
        for (i, y) in y.iter_mut().enumerate() {
            let low = b[48 + 32 * (s / 2) + i] >> (s % 2 * 4) & 15;
            let high = b[16 + i] >> s & 1;
            *y = scale * f32::from(low | high << 4) - offset;
        }
    }
}

/// low:128, high:64, scales:16, d:2
///
/// Quarter `g` (0 to 3) of half `h`: low bits in byte `64 h + 32 (g%2) + i`, half `g/2`; high bits
/// in byte `32 h + i`, from bit `2 g`. Scale `e/16` for element `e`.
fn q6_k(b: &[u8; 210], y: &mut [f32; 256]) {
    let d = half(b, 208);
    for (quarter, y) in y.as_chunks_mut::<32>().0.iter_mut().enumerate() {
        let (h, g) = (quarter / 4, quarter % 4);
        for (i, y) in y.iter_mut().enumerate() {
            let low = b[64 * h + 32 * (g % 2) + i] >> (g / 2 * 4) & 15;
            let high = b[128 + 32 * h + i] >> (2 * g) & 3;
            let scale = b[192 + 2 * quarter + i / 16] as i8;
            *y = d * f32::from(scale) * f32::from((low | high << 4) as i8 - 32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCKS: usize = 512;

    /// Positions of the binary16 fields, and the digest of what ggml makes of the blocks. Printed
    /// by `bench/fixtures/ggml_blocks.py`.
    const BY_GGML: [(ElementType, &[usize], &str); 11] = [
        (ElementType::Q8_0, &[0], "bb58c76f319a75b62e1700facacc75ba"),
        (ElementType::Q4_0, &[0], "9250ab6341a5292a685555c954a64677"),
        (ElementType::Q4_1, &[0, 2], "248c86a99d6cb0c7618fcc5a32ddc2e5"),
        (ElementType::Q5_0, &[0], "f5143566b189f84b1fd71b7167a45290"),
        (ElementType::Q5_1, &[0, 2], "04fb5f81ebf740e375d9f72b1cdaa22b"),
        (ElementType::Q2K, &[80, 82], "9a56ba56519661aa35d14e0b9e6e0fdb"),
        (ElementType::Q3K, &[108], "fc51f0e1df7f396afcf063e94e1b551f"),
        (ElementType::Q4K, &[0, 2], "fee5db8acd0ff9313f705fa26f780b87"),
        (ElementType::Q5K, &[0, 2], "1967767e61caca68a38adc9c06d0b521"),
        (ElementType::Q6K, &[208], "7c44368e5eb7ca0ed6419613fdb9d17f"),
        (ElementType::Iq4Nl, &[0], "c1a57dca643c4e123cffe16c69284198"),
    ];

    /// Random blocks whose scales are finite.
    fn blocks(element: ElementType, halves: &[usize]) -> Vec<u8> {
        let (_, size) = element.block();
        let mut bytes = vec![0; BLOCKS * size];
        let mut hasher = blake3::Hasher::new();
        hasher.update(format!("shoal/test-blocks/{element}").as_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        for block in bytes.chunks_mut(size) {
            for &at in halves {
                block[at + 1] &= 0xbf;
            }
        }
        bytes
    }

    fn decoded(element: ElementType, bytes: &[u8]) -> Vec<f32> {
        let (elements, size) = element.block();
        let mut out = vec![f32::NAN; bytes.len() / size * elements];
        decode(element, bytes, &mut out);
        out
    }

    #[test]
    fn every_block_type_decodes_to_the_bits_ggml_has() {
        for (element, halves, expected) in BY_GGML {
            let out = decoded(element, &blocks(element, halves));
            let bytes: Vec<u8> = out.iter().flat_map(|value| value.to_le_bytes()).collect();
            let digest = blake3::hash(&bytes).to_hex();
            assert_eq!(digest.as_str()[..32], *expected, "{element}");
        }
    }

    #[test]
    fn codes_scales_and_offsets_give_the_decoded_elements() {
        let coded = BY_GGML.iter().filter(|(element, ..)| element.has_codes());
        assert_eq!(coded.clone().count(), 3);
        for &(element, halves, _) in coded {
            let bytes = blocks(element, halves);
            let expected = decoded(element, &bytes);
            let mut codes = vec![CodeBlock::ZERO; expected.len() / 32];
            decode_codes(element, &bytes, &mut codes);
            for (block, expected) in codes.iter().zip(expected.chunks(32)) {
                for (&code, &expected) in block.codes.iter().zip(expected) {
                    assert!(code <= 15);
                    let got = block.scale * f32::from(code) - block.offset;
                    assert_eq!(got, expected, "{element}");
                    if element != ElementType::Q4_0 {
                        assert_eq!(got.to_bits(), expected.to_bits(), "{element}");
                    }
                }
            }
        }
    }

    #[test]
    fn plain_formats_decode_to_the_value_of_their_bits() {
        let f32s = [1.5_f32, -0.0, 1e-40, f32::MAX];
        let bytes: Vec<u8> = f32s.iter().flat_map(|value| value.to_le_bytes()).collect();
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&decoded(ElementType::F32, &bytes)), bits(&f32s));
        assert_eq!(decoded(ElementType::F16, &[0x00, 0x3c, 0x01, 0x80]), [1.0, -2f32.powi(-24)]);
        assert_eq!(decoded(ElementType::Bf16, &[0x80, 0x3f, 0x49, 0xc0]), [1.0, -3.140625]);
        let group = ElementType::Int8Groups { group: 2 };
        assert_eq!(decoded(group, &[0x80, 0x7f]), [-128.0, 127.0]);
    }
}
