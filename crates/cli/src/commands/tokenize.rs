//! `shoal tokenize`.

use std::process::ExitCode;

use serde_json::json;
use shoal_base::TokenId;
use shoal_model::tokenizer::{ControlTokens, DecodeFrom, EncodeOptions, Tokenizer};

use crate::failure::Failure;
use crate::input::TextArgs;
use crate::models::ModelName;
use crate::session::Session;
use crate::{models, output};

/// Arguments of `shoal tokenize`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    model: ModelName,

    #[command(flatten)]
    text: TextArgs,

    /// Turn ids, separated by spaces or commas, into text
    #[arg(long)]
    decode: bool,

    /// Names of control tokens in the text are these tokens
    #[arg(long, conflicts_with = "decode")]
    special: bool,

    /// Add no beginning and no end token
    #[arg(long, conflicts_with = "decode")]
    bare: bool,
}

/// Runs the command.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    let text = args.text.read()?;
    let package = models::find(session, &args.model.model)?;
    let tokenizer = models::tokenizer(&package)?;
    match args.decode {
        true => decode(session, &tokenizer, &text),
        false => encode(session, args, &tokenizer, &text),
    }?;
    Ok(ExitCode::SUCCESS)
}

fn encode(
    session: &Session,
    args: &Args,
    tokenizer: &Tokenizer,
    text: &str,
) -> Result<(), Failure> {
    let add = args.bare.then_some(false);
    let options = EncodeOptions { parse_special: args.special, add_bos: add, add_eos: add };
    let ids = tokenizer.encode(text, options);
    let ids = ids.map_err(|error| Failure::usage(format!("text: {error}")))?;
    let piece = |id: &TokenId| {
        let name = tokenizer.token_bytes(*id).filter(|bytes| !bytes.is_empty());
        let name = name.or_else(|| tokenizer.token_name(*id)).unwrap_or_default();
        String::from_utf8_lossy(name).into_owned()
    };
    let pieces: Vec<String> = ids.iter().map(piece).collect();
    if session.json {
        let ids: Vec<u32> = ids.iter().map(|id| id.0).collect();
        return output::json(&json!({ "token_ids": ids, "pieces": pieces }));
    }
    let mut lines = String::new();
    for (id, piece) in ids.iter().zip(pieces) {
        lines.push_str(&format!("{id:>7}  {piece:?}\n"));
    }
    output::text(&lines)
}

fn decode(session: &Session, tokenizer: &Tokenizer, ids: &str) -> Result<(), Failure> {
    let words = ids.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty());
    let parse = |word: &str| match word.parse() {
        Ok(id) => Ok(TokenId(id)),
        Err(_) => Err(Failure::usage(format!("{word:?} is no token id"))),
    };
    let ids: Vec<TokenId> = words.map(parse).collect::<Result<_, _>>()?;
    let text = tokenizer.decode(&ids, DecodeFrom::Start, ControlTokens::Show);
    let text = text.map_err(|error| Failure::usage(error.to_string()))?;
    match session.json {
        true => output::json(&json!({ "text": text })),
        false => output::line(&text),
    }
}
