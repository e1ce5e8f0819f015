//! `shoal train tokenizer`: a folder with a tokenizer made from texts.

use std::path::{Path, PathBuf};

use serde_json::json;
use shoal_train::tokenizer::{MakeTokenizerError, TEXT_BYTES_MAX, make_tokenizer};

use crate::failure::{Failure, at_path};
use crate::session::Session;
use crate::train::data::read_text;
use crate::whole_file::replace_whole;
use crate::{interrupt, output, progress};

/// Arguments of `shoal train tokenizer`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// UTF-8 files to learn from
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    text: Vec<PathBuf>,

    /// Tokens of the vocabulary: 3 of control, 256 bytes, then the most frequent pairs
    #[arg(long, value_name = "N")]
    vocab: usize,

    /// Folder to make, with `tokenizer.json` in it
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
}

pub(super) fn tokenizer(session: &Session, args: &Args) -> Result<(), Failure> {
    let out = &args.out;
    if out.exists() {
        return Err(Failure::usage(format!("{} is there already", out.display())));
    }
    interrupt::watch();
    let read = |path: &PathBuf| read_text(path, TEXT_BYTES_MAX);
    let texts = args.text.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    let bytes: u64 = texts.iter().map(|text| text.len() as u64).sum();
    let bar = progress::parts("counting pairs", session.json);
    bar.set_length(bytes);
    let told = |done| {
        bar.set_position(done);
        if done == bytes {
            bar.set_message("merging pairs");
        }
        !interrupt::is_asked()
    };
    let made = make_tokenizer(&texts, args.vocab, &told).map_err(|error| match error {
        MakeTokenizerError::Stopped => Failure::interrupted(),
        MakeTokenizerError::Vocabulary { .. } => Failure::usage(format!("--vocab: {error}")),
        _ => Failure::bad_input(format!("--text: {error}")),
    });
    bar.finish_and_clear();
    interrupt::check()?;
    let spec = made?;
    let files = spec.to_hf()?;
    let id = shoal_base::Digest::of(&spec.to_bytes()?);
    write(
        out,
        &[("tokenizer.json", &files.tokenizer), ("tokenizer_config.json", &files.tokenizer_config)],
    )?;
    let tokens = spec.vocabulary.len();
    if session.json {
        let event = json!({ "path": out, "tokens": tokens, "text_bytes": bytes, "digest": id });
        return output::json(&event);
    }
    let path = out.display();
    output::line(&format!("{path}: {tokens} tokens from {bytes} bytes of text, digest {id:.12}"))
}

/// Makes the folder whole, or not at all.
fn write(folder: &Path, files: &[(&str, &String)]) -> Result<(), Failure> {
    let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made = tempfile::Builder::new().prefix(crate::whole_file::PART_PREFIX).tempdir_in(parent);
    let made = made.map_err(|error| at_path(parent, &error))?;
    for (name, text) in files {
        replace_whole(&made.path().join(name), text.as_bytes())?;
    }
    std::fs::rename(made.path(), folder).map_err(|error| at_path(folder, &error))?;
    // It has another name now.
    let _ = made.keep();
    Ok(())
}
