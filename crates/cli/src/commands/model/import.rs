//! `shoal model import`.

use std::path::PathBuf;

use serde_json::json;
use shoal_model::package::StoredFormat;
use shoal_store::PackageName;

use crate::failure::Failure;
use crate::import::{ImportOptions, Imported, import, name_of, open_source};
use crate::output;
use crate::session::Session;

/// Arguments of `shoal model import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A GGUF file, a Hugging Face folder, or a llama2.c checkpoint
    source: PathBuf,

    /// The name of the package; that of the file unless given
    #[arg(long, value_name = "NAME")]
    name: Option<PackageName>,

    /// Take the tokenizer from this file
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,

    #[command(flatten)]
    options: ImportOptions,
}

pub(super) fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    let source = open_source(&args.source, args.tokenizer.as_deref())?;
    let name = args.name.clone().unwrap_or_else(|| name_of(&args.source));
    let imported = import(session, &*source, args.options, name)?;
    print(session, &imported)
}

/// Says what was imported.
pub(super) fn print(session: &Session, imported: &Imported) -> Result<(), Failure> {
    let Imported { id, name, bytes, weights, error, renamed_from } = imported;
    let path = session.store()?.manifest_path(*id);
    if session.json {
        return output::json(&json!({
            "package": id, "name": name, "path": path, "bytes": bytes,
        }));
    }
    let size = output::bytes(*bytes);
    let weights = match weights {
        StoredFormat::I8 => "8 bits",
        StoredFormat::I4 | StoredFormat::I4Offset => "4 bits",
    };
    let percent = error.relative() * 100.0;
    output::line(&format!("{name}: {size}, {weights}, weights differ by {percent:.3} %"))?;
    output::line(&format!("package {id}"))?;
    if let Some(before) = renamed_from {
        output::note(&format!("{name} was {before} before, which is still there"));
    }
    Ok(())
}
