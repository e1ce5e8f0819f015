//! The sampler chooses what the golden vectors say. Spec 01 §9.

use shoal_vectors::hex::bits;
use shoal_vectors::sampling::SamplingCase;

#[test]
fn the_sampler_chooses_the_committed_tokens() {
    let cases: Vec<SamplingCase> = shoal_vectors::read("sampling.json");
    assert!(cases.len() > 40);
    for case in cases {
        let sampled = case.sampled();
        assert_eq!(sampled.id.0, case.token, "{}", case.name);
        let logprob: Vec<f32> = sampled.logprob.into_iter().collect();
        assert_eq!(bits(&logprob), bits(&case.logprob.0), "{}", case.name);
        let (tokens, logprobs): (Vec<u32>, Vec<f32>) =
            sampled.top.iter().map(|&(id, logprob)| (id.0, logprob)).unzip();
        assert_eq!(tokens, case.top_tokens, "{}", case.name);
        assert_eq!(bits(&logprobs), bits(&case.top_logprobs.0), "{}", case.name);
    }
}
