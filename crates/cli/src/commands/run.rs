//! `shoal run`: one prompt, one answer.

use std::io::{self, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use shoal_base::{FinishReason, Generate, GenerateError, Prompt, Request, RequestLimits};

use crate::failure::{Code, Failure, at_path};
use crate::models::{self, ModelArgs};
use crate::sampling::{LogprobsArgs, SamplingArgs};
use crate::session::Session;
use crate::{generation, output};

/// Arguments of `shoal run`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelArgs,

    /// A smaller model with the same tokenizer that guesses ahead; changes speed only
    #[arg(long, value_name = "MODEL")]
    draft: Option<String>,

    /// The prompt; standard input unless given
    prompt: Option<String>,

    /// Read the prompt from a file; a line break at its end is dropped
    #[arg(long, short, value_name = "FILE", conflicts_with = "prompt")]
    file: Option<PathBuf>,

    /// What the model is told before the prompt
    #[arg(long, value_name = "TEXT", conflicts_with = "raw")]
    system: Option<String>,

    /// Continue the prompt as plain text even if the model has a chat template
    #[arg(long)]
    raw: bool,

    #[command(flatten)]
    sampling: SamplingArgs,

    #[command(flatten)]
    logprobs: LogprobsArgs,
}

/// Runs the command.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    let mut request = Request::new(Prompt::Text(String::new()));
    args.sampling.apply(&mut request)?;
    request.logprobs = args.logprobs.request(session.json)?;
    let prompt = read_prompt(args)?;
    let engine = models::load(session, &args.model, args.draft.as_deref())?;
    request.prompt = shape(args, prompt, engine.card().chat)?;
    let answer = match session.json {
        true => generation::run(&engine, request, |_| Ok(()))?,
        false => generation::run(&engine, request, output::text)?,
    };
    match session.json {
        true => output::json(&answer)?,
        false => output::line("")?,
    }
    Ok(match answer.reason {
        FinishReason::Cancelled => ExitCode::from(Code::Interrupted as u8),
        FinishReason::Stop | FinishReason::Length => ExitCode::SUCCESS,
    })
}

/// The prompt as the model takes it: a chat, if the model has a template for chats.
fn shape(args: &Args, prompt: String, has_template: bool) -> Result<Prompt, Failure> {
    if args.raw || (!has_template && args.system.is_none()) {
        return Ok(Prompt::Text(prompt));
    }
    if !has_template {
        return Err(GenerateError::NoChatTemplate.into());
    }
    let system = args.system.iter().map(|text| json!({ "role": "system", "content": text }));
    let user = json!({ "role": "user", "content": prompt });
    Ok(Prompt::Chat {
        messages: system.chain([user]).collect(),
        tools: Vec::new(),
        variables: serde_json::Map::new(),
        add_generation_prompt: true,
    })
}

fn read_prompt(args: &Args) -> Result<String, Failure> {
    match (&args.prompt, &args.file) {
        (Some(prompt), _) => Ok(prompt.clone()),
        (None, Some(path)) => {
            let file = std::fs::File::open(path).map_err(|error| at_path(path, &error))?;
            read_text(file, path)
        }
        (None, None) if io::stdin().is_terminal() => {
            Err(Failure::usage("a prompt is missing: give it as an argument, with --file or piped"))
        }
        (None, None) => read_text(io::stdin().lock(), Path::new("standard input")),
    }
}

/// Text of at most the length of a prompt, without the line break that editors put at its end.
pub(super) fn read_text(input: impl Read, path: &Path) -> Result<String, Failure> {
    let limit = RequestLimits::PROMPT_BYTES_MAX as u64;
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes).map_err(|error| at_path(path, &error))?;
    if bytes.len() as u64 > limit {
        let rule = format!("{}: a prompt has at most {limit} bytes", path.display());
        return Err(Failure::usage(rule));
    }
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::bad_input(format!("{}: byte {at} is not UTF-8", path.display()))
    })?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<String, Failure> {
        read_text(bytes, Path::new("p"))
    }

    #[test]
    fn one_line_break_at_the_end_is_dropped() {
        assert_eq!(read(b"a\n\n").unwrap(), "a\n");
        assert_eq!(read(b"a\r\n").unwrap(), "a");
        assert_eq!(read(b"a\r").unwrap(), "a\r");
        assert_eq!(read(b"").unwrap(), "");
    }

    #[test]
    fn what_is_no_prompt_is_refused() {
        assert_eq!(read(b"ab\xff").unwrap_err().message, "p: byte 2 is not UTF-8");
        let long = vec![b'a'; RequestLimits::PROMPT_BYTES_MAX + 1];
        assert_eq!(read(&long).unwrap_err().code, Code::Usage);
    }
}
