//! Requests against their ranges: what cannot be honoured is refused by name.

use shoal_base::{GenerateError, Prompt, Request, RequestLimits, Sampling};

fn refuse(name: &'static str, rule: &str) -> GenerateError {
    GenerateError::Parameter { name, rule: rule.to_owned() }
}

/// Checks every parameter of a request.
pub(crate) fn check(request: &Request, vocab_count: u32) -> Result<(), GenerateError> {
    check_prompt(&request.prompt, vocab_count)?;
    check_sampling(&request.sampling, vocab_count)?;
    let stop = &request.stop;
    if stop.tokens_max == Some(0) {
        return Err(refuse("tokens_max", "is at least 1"));
    }
    if stop.strings.len() > RequestLimits::STOP_STRINGS_MAX {
        return Err(refuse("stop", "has at most 16 strings"));
    }
    if stop.strings.iter().any(|s| s.is_empty() || s.len() > RequestLimits::STOP_STRING_BYTES_MAX) {
        return Err(refuse("stop", "strings have 1 to 256 bytes"));
    }
    if stop.ids.len() > RequestLimits::STOP_IDS_MAX {
        return Err(refuse("stop_token_ids", "has at most 64 ids"));
    }
    if stop.ids.iter().any(|id| id.0 >= vocab_count) {
        return Err(refuse("stop_token_ids", "are in the vocabulary"));
    }
    if request.logprobs.is_some_and(|l| l.top_count > RequestLimits::TOP_LOGPROBS_MAX) {
        return Err(refuse("top_logprobs", "is at most 20"));
    }
    Ok(())
}

/// Checks the size of a prompt, before it is tokenized.
pub(crate) fn check_prompt(prompt: &Prompt, vocab_count: u32) -> Result<(), GenerateError> {
    let got = match prompt {
        Prompt::Text(text) => text.len(),
        Prompt::Tokens(ids) => {
            if ids.iter().any(|id| id.0 >= vocab_count) {
                return Err(refuse("prompt", "token ids are in the vocabulary"));
            }
            ids.len()
        }
        // The rendered text is checked when it is tokenized.
        Prompt::Chat { .. } => 0,
    };
    let limit = RequestLimits::PROMPT_BYTES_MAX;
    match got > limit {
        true => Err(GenerateError::PromptBytes { got: got as u64, limit: limit as u64 }),
        false => Ok(()),
    }
}

fn check_sampling(sampling: &Sampling, vocab_count: u32) -> Result<(), GenerateError> {
    let within = |x: f32, low: f32, high: f32| (low..=high).contains(&x);
    let penalty = sampling.repetition_penalty;
    let rules = [
        (within(sampling.temperature, 0.0, 100.0), "temperature", "is in 0..=100"),
        (sampling.top_p > 0.0 && sampling.top_p <= 1.0, "top_p", "is above 0 and at most 1"),
        (within(sampling.min_p, 0.0, 1.0), "min_p", "is in 0..=1"),
        (within(penalty, 0.01, 100.0), "repetition_penalty", "is in 0.01..=100"),
        (within(sampling.presence_penalty, -2.0, 2.0), "presence_penalty", "is in -2..=2"),
        (within(sampling.frequency_penalty, -2.0, 2.0), "frequency_penalty", "is in -2..=2"),
        (
            sampling.logit_bias.len() <= RequestLimits::LOGIT_BIAS_MAX,
            "logit_bias",
            "has at most 1024 entries",
        ),
        (
            sampling
                .logit_bias
                .iter()
                .all(|&(id, bias)| id.0 < vocab_count && within(bias, -100.0, 100.0)),
            "logit_bias",
            "names ids of the vocabulary, with values in -100..=100",
        ),
        (distinct(sampling), "logit_bias", "names each id once"),
    ];
    // A temperature so small that logits divided by it overflow would end every answer in a fault.
    let rules = rules.into_iter().chain([(
        sampling.temperature == 0.0 || sampling.temperature >= 1e-3,
        "temperature",
        "is 0 or at least 0.001",
    )]);
    match { rules }.find(|(holds, ..)| !holds) {
        Some((_, name, rule)) => Err(refuse(name, rule)),
        None => Ok(()),
    }
}

fn distinct(sampling: &Sampling) -> bool {
    let mut ids: Vec<u32> = sampling.logit_bias.iter().map(|(id, _)| id.0).collect();
    ids.sort_unstable();
    ids.windows(2).all(|pair| pair[0] != pair[1])
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_base::{LogprobsRequest, TokenId};

    fn name_of(change: impl Fn(&mut Request)) -> Option<&'static str> {
        let mut request = Request::new(Prompt::Text("x".to_owned()));
        change(&mut request);
        match check(&request, 100) {
            Ok(()) => None,
            Err(GenerateError::Parameter { name, .. }) => Some(name),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn every_parameter_out_of_range_is_named() {
        assert_eq!(name_of(|_| ()), None);
        assert_eq!(name_of(|r| r.sampling.temperature = -0.1), Some("temperature"));
        assert_eq!(name_of(|r| r.sampling.temperature = f32::NAN), Some("temperature"));
        assert_eq!(name_of(|r| r.sampling.temperature = 1e-9), Some("temperature"));
        assert_eq!(name_of(|r| r.sampling.top_p = 0.0), Some("top_p"));
        assert_eq!(name_of(|r| r.sampling.min_p = 1.5), Some("min_p"));
        // A tiny one would turn logits into infinities.
        assert_eq!(name_of(|r| r.sampling.repetition_penalty = 1e-30), Some("repetition_penalty"));
        assert_eq!(name_of(|r| r.sampling.presence_penalty = 3.0), Some("presence_penalty"));
        assert_eq!(name_of(|r| r.sampling.frequency_penalty = -3.0), Some("frequency_penalty"));
        let bias = |pairs: &[(u32, f32)]| {
            let pairs: Vec<_> = pairs.iter().map(|&(id, b)| (TokenId(id), b)).collect();
            name_of(|r| r.sampling.logit_bias = pairs.clone())
        };
        assert_eq!(bias(&[(100, 1.0)]), Some("logit_bias"));
        assert_eq!(bias(&[(1, 101.0)]), Some("logit_bias"));
        assert_eq!(bias(&[(1, 1.0), (1, 2.0)]), Some("logit_bias"));
        assert_eq!(name_of(|r| r.stop.tokens_max = Some(0)), Some("tokens_max"));
        assert_eq!(name_of(|r| r.stop.strings = vec![String::new()]), Some("stop"));
        assert_eq!(name_of(|r| r.stop.strings = vec!["x".repeat(257)]), Some("stop"));
        assert_eq!(name_of(|r| r.stop.strings = vec!["x".to_owned(); 17]), Some("stop"));
        assert_eq!(name_of(|r| r.stop.ids = vec![TokenId(100)]), Some("stop_token_ids"));
        let asked = Some(LogprobsRequest { top_count: 21 });
        assert_eq!(name_of(|r| r.logprobs = asked), Some("top_logprobs"));
        assert_eq!(name_of(|r| r.prompt = Prompt::Tokens(vec![TokenId(100)])), Some("prompt"));
    }

    #[test]
    fn a_prompt_too_long_is_refused_before_it_is_tokenized() {
        let request = Request::new(Prompt::Text("x".repeat((8 << 20) + 1)));
        let limit = 8 << 20;
        assert_eq!(check(&request, 100), Err(GenerateError::PromptBytes { got: limit + 1, limit }));
    }
}
