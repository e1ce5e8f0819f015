//! Each parameter, and the distribution as a whole.

use super::*;

fn sampler(sampling: Sampling) -> Sampler {
    Sampler::new(sampling, None, &[])
}

fn ids(sampling: &Sampling, logits: &[f32], draws: u64) -> Vec<u32> {
    (0..draws)
        .map(|seed| {
            let sampler = sampler(Sampling { seed, ..sampling.clone() });
            sampler.sample(&mut logits.to_vec(), 5, None).id.0
        })
        .collect()
}

#[test]
fn temperature_zero_takes_the_first_largest() {
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    assert_eq!(ids(&sampling, &[1.0, 3.0, 3.0, 2.0], 1), [1]);
}

#[test]
fn frequencies_follow_the_softmax() {
    let logits = [0.0_f32, 1.0, 2.0, -1.0];
    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum();
    let draws = 40_000;
    let drawn = ids(&Sampling::default(), &logits, draws);
    for (id, &logit) in logits.iter().enumerate() {
        let share = drawn.iter().filter(|&&d| d as usize == id).count() as f64 / draws as f64;
        let expected = f64::from(logit).exp() / total;
        assert!((share - expected).abs() < 0.01, "{id}: {share} {expected}");
    }
}

#[test]
fn filters_keep_what_they_say() {
    let logits = [2.0_f32, 1.0, 2.0, 0.0, -5.0];
    let kept = |sampling: Sampling| {
        let mut kept = ids(&sampling, &logits, 3000);
        kept.sort_unstable();
        kept.dedup();
        kept
    };
    assert_eq!(kept(Sampling { top_k: 1, ..Sampling::default() }), [0]);
    assert_eq!(kept(Sampling { top_k: 3, ..Sampling::default() }), [0, 1, 2]);
    // Probabilities 0.390, 0.144, 0.390, 0.053, 0.000.
    assert_eq!(kept(Sampling { top_p: 0.39, ..Sampling::default() }), [0]);
    assert_eq!(kept(Sampling { top_p: 0.5, ..Sampling::default() }), [0, 2]);
    assert_eq!(kept(Sampling { top_p: 0.8, ..Sampling::default() }), [0, 1, 2]);
    assert_eq!(kept(Sampling { min_p: 0.3, ..Sampling::default() }), [0, 1, 2]);
    assert_eq!(kept(Sampling { min_p: 1.0, ..Sampling::default() }), [0, 2]);
    assert_eq!(kept(Sampling { top_k: 3, top_p: 0.8, min_p: 0.5, ..Sampling::default() }), [0, 2]);
}

#[test]
fn top_p_beyond_the_first_look_is_exact() {
    let logits = vec![0.0_f32; 3000];
    let kept = filter::keep(&logits, 0, 0.5, 0.0);
    assert_eq!(kept.len(), 1500);
    assert!(kept.iter().enumerate().all(|(i, (id, _))| id.index() == i));
}

#[test]
fn penalties_and_bias_change_the_logits_they_name() {
    let sampling = Sampling {
        temperature: 0.0,
        repetition_penalty: 2.0,
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        logit_bias: vec![(TokenId(3), 10.0)],
        ..Sampling::default()
    };
    let mut sampler = Sampler::new(sampling, None, &[TokenId(0), TokenId(2)]);
    sampler.commit(TokenId(1));
    sampler.commit(TokenId(1));
    let mut logits = [4.0, 4.0, -4.0, -8.0, 1.0];
    assert_eq!(sampler.sample(&mut logits, 0, None).id, TokenId(0));
    // Halved; halved, less 0.5 and 2 * 0.25; doubled; 10 more; as it was.
    assert_eq!(logits, [2.0, 1.0, -8.0, 2.0, 1.0]);
}

#[test]
fn masked_tokens_are_never_drawn_and_logprobs_see_the_whole_vocabulary() {
    let asked = Some(LogprobsRequest { top_count: 2 });
    let sampler = Sampler::new(Sampling::default(), asked, &[]);
    let logits = [5.0_f32, 1.0, 0.0];
    let sampled = sampler.sample(&mut logits.to_vec(), 0, Some(&[0b110]));
    assert_ne!(sampled.id, TokenId(0));
    assert_eq!(sampled.top.iter().map(|t| t.0).collect::<Vec<_>>(), [TokenId(0), TokenId(1)]);
    let total: f64 = logits.iter().map(|&l| f64::from(l).exp()).sum::<f64>().ln();
    let expected = f64::from(logits[sampled.id.index()]) - total;
    assert!((f64::from(sampled.logprob.expect("asked for")) - expected).abs() < 1e-5);
}

#[test]
fn the_draw_depends_on_seed_and_position_only() {
    let sampler = sampler(Sampling { seed: 3, ..Sampling::default() });
    let logits: Vec<f32> = (0..100).map(|i| (i % 7) as f32 * 0.1).collect();
    let at = |position| sampler.sample(&mut logits.clone(), position, None).id;
    assert_eq!(at(1), at(1));
    assert!((0..50).any(|p| at(p) != at(1)));
}
