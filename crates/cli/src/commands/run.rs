//! `shoal run`: one prompt, one answer.

use std::process::ExitCode;

use serde_json::json;
use shoal_base::{FinishReason, Generate, GenerateError, Prompt, Request};

use crate::failure::{Code, Failure};
use crate::input::TextArgs;
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

    #[command(flatten)]
    prompt: TextArgs,

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
    let prompt = args.prompt.read()?;
    let engine = models::load(session, &args.model, args.draft.as_deref())?;
    request.prompt = shape(args, prompt, engine.card().chat)?;
    let mut answer = match session.json {
        true => generation::run(&engine, request, |_| Ok(()))?,
        false => generation::run(&engine, request, output::text)?,
    };
    answer.set_guesses(engine.stats());
    match session.json {
        true => output::json(&answer)?,
        false => output::line("")?,
    }
    Ok(match answer.reason {
        FinishReason::Cancelled => ExitCode::from(Code::Interrupted as u8),
        FinishReason::Stop(_) | FinishReason::Length => ExitCode::SUCCESS,
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
