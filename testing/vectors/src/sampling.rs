//! From logits to a token. Spec 01 §9.

use serde::{Deserialize, Serialize};
use shoal_base::{LogprobsRequest, Sampling, TokenId};
use shoal_model::sampler::{Sampled, Sampler};

use crate::hex::Hex;
use crate::numbers::{Numbers, two};

/// One choice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingCase {
    /// What is special about it.
    pub name: String,
    /// The parameters.
    pub parameters: Parameters,
    /// Tokens of the prompt.
    pub prompt: Vec<u32>,
    /// Tokens of the answer so far.
    pub answer: Vec<u32>,
    /// Tokens that a grammar allows; `None`: all.
    pub allowed: Option<Vec<u32>>,
    /// Position of the new token.
    pub position: u32,
    /// The logits.
    pub logits: Hex<f32>,
    /// The token.
    pub token: u32,
    /// Its log-probability.
    pub logprob: Hex<f32>,
    /// The two most probable tokens.
    pub top_tokens: Vec<u32>,
    /// Their log-probabilities.
    pub top_logprobs: Hex<f32>,
}

/// What a request says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// 0: the largest logit.
    pub temperature: Hex<f32>,
    /// 0: all.
    pub top_k: u32,
    /// 1: all.
    pub top_p: Hex<f32>,
    /// 0: all.
    pub min_p: Hex<f32>,
    /// 1: none.
    pub repetition_penalty: Hex<f32>,
    /// 0: none.
    pub presence_penalty: Hex<f32>,
    /// 0: none.
    pub frequency_penalty: Hex<f32>,
    /// Tokens with a bias.
    pub bias_tokens: Vec<u32>,
    /// Their biases.
    pub biases: Hex<f32>,
    /// Seed of the noise.
    pub seed: u32,
}

impl Parameters {
    fn of(sampling: &Sampling) -> Self {
        let one = |x: f32| Hex(vec![x]);
        let (tokens, biases) = sampling.logit_bias.iter().map(|&(id, bias)| (id.0, bias)).unzip();
        Self {
            temperature: one(sampling.temperature),
            top_k: sampling.top_k,
            top_p: one(sampling.top_p),
            min_p: one(sampling.min_p),
            repetition_penalty: one(sampling.repetition_penalty),
            presence_penalty: one(sampling.presence_penalty),
            frequency_penalty: one(sampling.frequency_penalty),
            bias_tokens: tokens,
            biases: Hex(biases),
            seed: sampling.seed as u32,
        }
    }

    fn sampling(&self) -> Sampling {
        let biases = self.bias_tokens.iter().zip(&self.biases.0);
        Sampling {
            temperature: self.temperature.0[0],
            top_k: self.top_k,
            top_p: self.top_p.0[0],
            min_p: self.min_p.0[0],
            repetition_penalty: self.repetition_penalty.0[0],
            presence_penalty: self.presence_penalty.0[0],
            frequency_penalty: self.frequency_penalty.0[0],
            logit_bias: biases.map(|(&id, &bias)| (TokenId(id), bias)).collect(),
            seed: self.seed.into(),
            grammar: None,
        }
    }
}

impl SamplingCase {
    /// What the sampler chooses.
    #[must_use]
    pub fn sampled(&self) -> Sampled {
        let ids = |ids: &[u32]| ids.iter().copied().map(TokenId).collect::<Vec<_>>();
        let logprobs = Some(LogprobsRequest { top_count: 2 });
        let prompt = ids(&self.prompt);
        let mut sampler = Sampler::new(self.parameters.sampling(), logprobs, &prompt);
        ids(&self.answer).into_iter().for_each(|id| sampler.commit(id));
        let mask = self.allowed.as_ref().map(|allowed| {
            let mut mask = vec![0_u32; self.logits.0.len().div_ceil(32)];
            allowed.iter().for_each(|id| mask[*id as usize / 32] |= 1 << (id % 32));
            mask
        });
        sampler.sample(&mut self.logits.0.clone(), self.position, mask.as_deref())
    }

    fn solved(mut self) -> Self {
        let sampled = self.sampled();
        self.token = sampled.id.0;
        self.logprob = Hex(sampled.logprob.into_iter().collect());
        self.top_tokens = sampled.top.iter().map(|(id, _)| id.0).collect();
        self.top_logprobs = Hex(sampled.top.iter().map(|&(_, logprob)| logprob).collect());
        self
    }
}

/// Every case: each rule alone and all together, over several seeds.
#[must_use]
pub fn cases() -> Vec<SamplingCase> {
    let plain = Sampling::default;
    let bias = |pairs: &[(u32, f32)]| pairs.iter().map(|&(id, x)| (TokenId(id), x)).collect();
    let rules: Vec<(&str, Sampling)> = vec![
        ("largest", Sampling { temperature: 0.0, ..plain() }),
        ("plain", plain()),
        ("hot", Sampling { temperature: 3.5, ..plain() }),
        ("cold", Sampling { temperature: 0.1, ..plain() }),
        ("top-k", Sampling { top_k: 5, ..plain() }),
        ("top-k of one", Sampling { top_k: 1, ..plain() }),
        ("top-p", Sampling { top_p: 0.6, ..plain() }),
        ("top-p, small", Sampling { top_p: 1e-6, ..plain() }),
        ("min-p", Sampling { min_p: 0.3, ..plain() }),
        ("repetition", Sampling { repetition_penalty: 1.7, temperature: 0.0, ..plain() }),
        ("presence", Sampling { presence_penalty: 2.0, temperature: 0.0, ..plain() }),
        ("frequency", Sampling { frequency_penalty: 0.8, temperature: 0.0, ..plain() }),
        (
            "bias",
            Sampling { logit_bias: bias(&[(3, 100.0), (7, -100.0)]), temperature: 0.0, ..plain() },
        ),
        (
            "everything",
            Sampling {
                temperature: 0.9,
                top_k: 12,
                top_p: 0.9,
                min_p: 0.05,
                repetition_penalty: 1.2,
                presence_penalty: 0.4,
                frequency_penalty: 0.3,
                logit_bias: bias(&[(1, 2.5), (30, -1.0)]),
                seed: 0,
                grammar: None,
            },
        ),
    ];
    let mut cases = Vec::new();
    for (name, sampling) in &rules {
        for seed in 0..3 {
            let drawn = sampling.temperature > 0.0;
            if seed == 0 || drawn {
                let sampling = Sampling { seed, ..sampling.clone() };
                cases.push(make(name, &sampling, logits(seed), None));
            }
        }
    }
    let mut ties = vec![1.0; 70];
    ties[66] = 1.25;
    ties[3] = 1.25;
    for (name, sampling) in &rules[..8] {
        cases.push(make(&format!("ties, {name}"), sampling, ties.clone(), None));
        let allowed = Some(vec![2, 5, 33, 64, 69]);
        cases.push(make(&format!("grammar, {name}"), sampling, logits(9), allowed));
    }
    let mut far = vec![-two(99); 70];
    (far[11], far[20]) = (two(99), 0.0);
    cases.push(make("far apart", &plain(), far, None));
    cases.into_iter().map(SamplingCase::solved).collect()
}

fn logits(seed: u64) -> Vec<f32> {
    Numbers(seed + 70).floats(70, 4.0)
}

fn make(
    name: &str,
    sampling: &Sampling,
    logits: Vec<f32>,
    allowed: Option<Vec<u32>>,
) -> SamplingCase {
    SamplingCase {
        name: name.to_owned(),
        parameters: Parameters::of(sampling),
        prompt: vec![1, 2, 3, 3, 3, 40],
        answer: vec![3, 5, 5, 5, 69],
        allowed,
        position: 11,
        logits: Hex(logits),
        token: 0,
        logprob: Hex::default(),
        top_tokens: Vec::new(),
        top_logprobs: Hex::default(),
    }
}
