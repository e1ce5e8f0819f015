//! `shoal train pack`: what a run learns as one file of tokens, for another run or machine.

use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;
use shoal_train::Examples;
use shoal_train::data::encode_shard;

use super::run::check_folder;
use crate::failure::{Failure, at_path};
use crate::output;
use crate::session::Session;
use crate::train::open;
use crate::whole_file::write_whole;

/// Arguments of `shoal train pack`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the run
    #[arg(value_name = "RUN")]
    folder: PathBuf,

    /// File to write, for `[[data]]` with `format = "tokens"`
    #[arg(long, value_name = "FILE")]
    out: PathBuf,

    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

pub(super) fn pack(session: &Session, args: &Args) -> Result<(), Failure> {
    check_folder(&args.folder)?;
    let out = &args.out;
    if out.exists() && !args.force {
        let rule = format!("{} is there already; --force replaces it", out.display());
        return Err(Failure::usage(rule));
    }
    let opened = open(session, &args.folder)?;
    let Examples::Documents(documents) = opened.run.examples() else {
        return Err(Failure::usage("pairs of answers are not packed, documents are"));
    };
    let vocab_count = opened.run.definition().architecture.vocab_count;
    let bytes = encode_shard(vocab_count, documents);
    write_whole(out, args.force, |mut file| {
        file.write_all(&bytes).map_err(|error| at_path(out, &error))?;
        Ok(file)
    })?;
    let tokens: usize = documents.iter().map(|document| document.tokens.len()).sum();
    let root = opened.run.definition().data;
    if session.json {
        return output::json(&json!({
            "path": out, "documents": documents.len(), "tokens": tokens, "root": root,
        }));
    }
    let (path, count) = (out.display(), documents.len());
    output::line(&format!("{path}: {count} documents, {tokens} tokens, root {root}"))
}
