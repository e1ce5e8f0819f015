//! `shoal tokenize`.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;
use shoal_base::TokenId;
use shoal_model::tokenizer::{ControlTokens, DecodeFrom, EncodeOptions, Tokenizer};

use super::run::read_text;
use crate::failure::{Failure, at_path};
use crate::session::Session;
use crate::{models, output};

/// Arguments of `shoal tokenize`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name, id or beginning of an id of a package, or the path of a model file or folder
    #[arg(long, short, value_name = "MODEL")]
    model: String,

    /// The text, or the ids with `--decode`; standard input unless given
    text: Option<String>,

    /// Read the text from a file; a line break at its end is dropped
    #[arg(long, short, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,

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
    let text = match (&args.text, &args.file) {
        (Some(text), _) => text.clone(),
        (None, Some(path)) => {
            let file = std::fs::File::open(path).map_err(|error| at_path(path, &error))?;
            read_text(file, path)?
        }
        (None, None) if io::stdin().is_terminal() => {
            let rule = "a text is missing: give it as an argument, with --file or piped";
            return Err(Failure::usage(rule));
        }
        (None, None) => read_text(io::stdin().lock(), Path::new("standard input"))?,
    };
    let package = models::find(session, &args.model)?;
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
