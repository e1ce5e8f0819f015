//! Log-probabilities as chat and text completions show them.

use serde_json::{Map, Value, json};
use shoal_base::TokenLogprob;

/// JSON has no infinities; this stands for a probability of nothing, as elsewhere.
const LOGPROB_MIN: f32 = -9999.0;

/// A token with its alternatives.
#[derive(Clone, Debug)]
pub(crate) struct Scored {
    pub(crate) token: TokenLogprob,
    pub(crate) top: Vec<TokenLogprob>,
}

fn text(token: &TokenLogprob) -> String {
    String::from_utf8_lossy(&token.bytes).into_owned()
}

fn number(token: &TokenLogprob) -> f32 {
    token.logprob.max(LOGPROB_MIN)
}

/// As in chat completions.
pub(crate) fn chat(scored: &[Scored]) -> Value {
    let entry = |token: &TokenLogprob| {
        let (text, logprob) = (text(token), number(token));
        json!({ "token": text, "logprob": logprob, "bytes": token.bytes })
    };
    let content = scored.iter().map(|scored| {
        let mut whole = entry(&scored.token);
        whole["top_logprobs"] = scored.top.iter().map(entry).collect();
        whole
    });
    json!({ "content": content.collect::<Value>(), "refusal": null })
}

/// As in text completions; `offset` counts the characters before.
pub(crate) fn completion(scored: &[Scored], offset: &mut usize) -> Value {
    let mut offsets = Vec::with_capacity(scored.len());
    for scored in scored {
        offsets.push(*offset);
        *offset += text(&scored.token).chars().count();
    }
    let top = |scored: &Scored| -> Value {
        let tokens = scored.top.iter().chain([&scored.token]);
        tokens.map(|token| (text(token), json!(number(token)))).collect::<Map<_, _>>().into()
    };
    json!({
        "tokens": scored.iter().map(|scored| text(&scored.token)).collect::<Value>(),
        "token_logprobs": scored.iter().map(|scored| number(&scored.token)).collect::<Value>(),
        "top_logprobs": scored.iter().map(top).collect::<Value>(),
        "text_offset": offsets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use shoal_base::TokenId;

    #[test]
    fn offsets_count_characters_and_infinities_become_numbers() {
        let token = |text: &str, logprob| {
            let bytes = text.as_bytes().to_vec();
            TokenLogprob { id: TokenId(1), bytes, logprob }
        };
        let scored = [
            Scored { token: token("é", -0.5), top: vec![] },
            Scored { token: token("b", f32::NEG_INFINITY), top: vec![token("c", -0.25)] },
        ];
        let mut offset = 3;
        let value = completion(&scored, &mut offset);
        assert_eq!(offset, 5);
        assert_eq!(value["text_offset"], json!([3, 4]));
        assert_eq!(value["token_logprobs"], json!([-0.5, -9999.0]));
        assert_eq!(value["top_logprobs"][1], json!({"c": -0.25, "b": -9999.0}));
        let value = chat(&scored);
        assert_eq!(value["content"][0]["bytes"], json!([195, 169]));
        assert_eq!(value["content"][1]["top_logprobs"][0]["token"], "c");
    }
}
