//! Parameters that shape an answer, as words.

use std::path::Path;

use clap::ArgGroup;
use shoal_base::{Grammar, LogprobsRequest, Request, RequestLimits, Sampling, StopRules, TokenId};

use crate::failure::{Failure, at_path};

/// How tokens are chosen and when the answer ends.
#[derive(Clone, Debug, clap::Args)]
#[command(group(ArgGroup::new("constraint").multiple(false)))]
pub(crate) struct SamplingArgs {
    /// Tokens to generate at most; as many as the context holds unless given
    #[arg(long, short = 'n', value_name = "N")]
    pub(crate) max_tokens: Option<u32>,

    /// 0 always takes the most probable token
    #[arg(long, short, value_name = "T", default_value_t = 1.0, allow_negative_numbers = true)]
    temperature: f32,

    /// Keep the K most probable tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    top_k: u32,

    /// Keep the most probable tokens that together have this probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    top_p: f32,

    /// Keep tokens with at least this fraction of the largest probability
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    min_p: f32,

    /// Make tokens that occurred less probable; 1 is off
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    repetition_penalty: f32,

    /// Subtracted once from tokens of the answer
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    presence_penalty: f32,

    /// Subtracted for each time a token is in the answer
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    frequency_penalty: f32,

    /// Added to the logit of a token; may be repeated
    #[arg(long, value_name = "ID=X", value_parser = parse_bias)]
    logit_bias: Vec<(TokenId, f32)>,

    /// The same seed gives the same answer
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// End before this text; may be repeated
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,

    /// End at this token; may be repeated
    #[arg(long, value_name = "ID")]
    stop_id: Vec<u32>,

    /// Go on after the model ends its turn
    #[arg(long)]
    ignore_end: bool,

    /// The answer is a JSON object
    #[arg(long, group = "constraint")]
    json_object: bool,

    /// The answer is JSON of this schema: a file, or the schema itself
    #[arg(long, value_name = "FILE|TEXT", group = "constraint")]
    json_schema: Option<String>,

    /// The whole answer matches this expression
    #[arg(long, value_name = "EXPRESSION", group = "constraint")]
    regex: Option<String>,

    /// The answer follows the grammar in this file, in Lark syntax
    #[arg(long, value_name = "FILE", group = "constraint")]
    grammar: Option<std::path::PathBuf>,
}

/// Log-probabilities of an answer.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct LogprobsArgs {
    /// Report the log-probability of each token, with `--json`
    #[arg(long)]
    logprobs: bool,

    /// Report this many alternatives for each token, with `--json`
    #[arg(long, value_name = "N")]
    top_logprobs: Option<u8>,
}

impl SamplingArgs {
    /// Puts the parameters into a request.
    pub(crate) fn apply(&self, request: &mut Request) -> Result<(), Failure> {
        request.sampling = Sampling {
            temperature: self.temperature,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            repetition_penalty: self.repetition_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            logit_bias: self.logit_bias.clone(),
            seed: self.seed,
            grammar: self.grammar()?,
        };
        request.stop = StopRules {
            tokens_max: self.max_tokens,
            strings: self.stop.clone(),
            ids: self.stop_id.iter().copied().map(TokenId).collect(),
            ignore_end_of_turn: self.ignore_end,
        };
        Ok(())
    }

    fn grammar(&self) -> Result<Option<Grammar>, Failure> {
        if self.json_object {
            return Ok(Some(Grammar::JsonObject));
        }
        if let Some(schema) = &self.json_schema {
            return schema_of(schema).map(Grammar::JsonSchema).map(Some);
        }
        if let Some(path) = &self.grammar {
            return read_grammar(path).map(Grammar::Lark).map(Some);
        }
        Ok(self.regex.clone().map(Grammar::Regex))
    }
}

impl LogprobsArgs {
    /// What to report, which only JSON output has a place for.
    pub(crate) fn request(self, json: bool) -> Result<Option<LogprobsRequest>, Failure> {
        let wanted = self.logprobs || self.top_logprobs.is_some();
        if wanted && !json {
            return Err(Failure::usage("--logprobs and --top-logprobs need --json"));
        }
        let top_count = self.top_logprobs.unwrap_or(0);
        Ok(wanted.then_some(LogprobsRequest { top_count }))
    }
}

fn parse_bias(text: &str) -> Result<(TokenId, f32), String> {
    let parse = || {
        let (id, bias) = text.split_once('=')?;
        Some((TokenId(id.trim().parse().ok()?), bias.trim().parse().ok()?))
    };
    parse().ok_or_else(|| "expected ID=X, such as 42=-100".to_owned())
}

/// Schemas are objects or booleans, and no file is called so.
fn schema_of(text: &str) -> Result<serde_json::Value, Failure> {
    let is_text = text.trim_start().starts_with('{') || matches!(text.trim(), "true" | "false");
    let (schema, place) = match is_text {
        true => (text.to_owned(), "--json-schema".to_owned()),
        false => (read_grammar(Path::new(text))?, text.to_owned()),
    };
    serde_json::from_str(&schema).map_err(|error| Failure::usage(format!("{place}: {error}")))
}

fn read_grammar(path: &Path) -> Result<String, Failure> {
    use std::io::Read as _;

    let limit = RequestLimits::GRAMMAR_BYTES_MAX;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| at_path(path, &error))?;
    let shown = path.display();
    if bytes.len() > limit {
        return Err(Failure::usage(format!("{shown}: more than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| Failure::bad_input(format!("{shown}: not UTF-8")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_are_an_id_and_a_number() {
        assert_eq!(parse_bias("42=-1.5"), Ok((TokenId(42), -1.5)));
        for wrong in ["", "42", "x=1", "42=", "-1=2"] {
            assert!(parse_bias(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_schema_is_text_or_a_file() {
        assert_eq!(schema_of(" {\"type\": \"object\"}").unwrap()["type"], "object");
        assert!(schema_of("{").is_err());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("schema.json");
        assert!(schema_of(&path.to_string_lossy()).is_err());
        std::fs::write(&path, "{\"type\": \"array\"}").unwrap();
        assert_eq!(schema_of(&path.to_string_lossy()).unwrap()["type"], "array");
    }
}
