//! Logits, parameters and a mask to a token. Parameters are in the ranges that requests are held
//! to; logits are any sound numbers.

use shoal_base::{LogprobsRequest, Sampling, TokenId};
use shoal_model::sampler::Sampler;

use crate::{MEMORY_BYTES, Target};

pub(super) const TARGET: Target = Target {
    name: "sampler",
    seeds,
    memory_bytes: MEMORY_BYTES,
    run,
};

/// Bytes before the logits.
const HEAD_BYTES: usize = 16;

fn seeds() -> Vec<Vec<u8>> {
    let logits: Vec<u8> =
        (0..50).flat_map(|i| ((i * 7 % 11) as f32 - 5.0).to_le_bytes()).collect();
    let heads: [[u8; HEAD_BYTES]; 3] = [
        [0; HEAD_BYTES],
        [10, 5, 200, 20, 120, 128, 128, 3, 1, 9, 1, 2, 255, 255, 255, 255],
        [1, 0, 255, 0, 40, 200, 60, 200, 0, 1, 5, 5, 15, 0, 128, 1],
    ];
    heads.map(|head| [&head[..], &logits].concat()).to_vec()
}

fn run(bytes: &[u8]) {
    let Some((head, logits)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
        return;
    };
    let logits: Vec<f32> = logits
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .map(|x| if x.abs() < 2_f32.powi(100) { x } else { 0.0 })
        .collect();
    let Some(last) = logits.len().checked_sub(1) else {
        return;
    };
    let [t, k, p, m, repeat, presence, frequency, bias, seed, position, a, b, mask @ ..] = *head;
    let id = |byte: u8| TokenId((usize::from(byte) % logits.len()) as u32);
    let signed = |byte: u8| (f32::from(byte) - 128.0) / 64.0;
    let sampling = Sampling {
        temperature: if t == 0 { 0.0 } else { (f32::from(t) * f32::from(t) / 650.0).max(1e-3) },
        top_k: k.into(),
        top_p: (f32::from(p) + 1.0) / 256.0,
        min_p: f32::from(m) / 255.0,
        repetition_penalty: ((f32::from(repeat) + 1.0) / 128.0).max(0.01),
        presence_penalty: signed(presence).clamp(-2.0, 2.0),
        frequency_penalty: signed(frequency).clamp(-2.0, 2.0),
        logit_bias: vec![(id(bias), signed(bias) * 50.0)],
        seed: seed.into(),
        grammar: None,
    };
    let mut sampler = Sampler::new(sampling, Some(LogprobsRequest { top_count: 3 }), &[id(a)]);
    sampler.commit(id(b));
    let words = u32::from_le_bytes(mask);
    let mut mask = vec![words; logits.len().div_ceil(32)];
    mask[last / 32] |= 1 << (last % 32);
    for mask in [None, Some(&mask[..])] {
        let sampled = sampler.sample(&mut logits.clone(), position.into(), mask);
        let index = sampled.id.index();
        assert!(index <= last, "the token is in the vocabulary");
        assert!(mask.is_none_or(|mask| mask[index / 32] >> (index % 32) & 1 == 1), "it is allowed");
        assert!(sampled.logprob.is_some_and(|logprob| logprob <= 0.0));
        assert_eq!(sampled.top.len(), logits.len().min(3));
    }
}
