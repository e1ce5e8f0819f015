//! `shoal model import`.

use std::path::PathBuf;

use serde_json::json;
use shoal_model::package::StoredFormat;
use shoal_store::PackageName;

use crate::failure::Failure;
use crate::import::{ImportOptions, Imported, import_path, name_of};
use crate::output;
use crate::session::Session;

/// Arguments of `shoal model import`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A GGUF file, a Hugging Face folder, a llama2.c checkpoint, or a package in one file
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
    let name = args.name.clone().unwrap_or_else(|| name_of(&args.source));
    let tokenizer = args.tokenizer.as_deref();
    let imported = import_path(session, &args.source, tokenizer, args.options, name)?;
    print(session, &imported)
}

/// Says what was imported.
pub(super) fn print(session: &Session, imported: &Imported) -> Result<(), Failure> {
    let Imported { id, name, bytes, converted, renamed_from } = imported;
    let path = session.store()?.manifest_path(*id);
    if session.json {
        return output::json(&json!({
            "package": id, "name": name, "path": path, "bytes": bytes,
        }));
    }
    let size = output::bytes(*bytes);
    let how = match converted {
        Some((weights, error)) => {
            let bits = if *weights == StoredFormat::I8 { 8 } else { 4 };
            format!("{bits} bits, weights differ by {:.3} %", error.relative() * 100.0)
        }
        None => "the package as it is".to_owned(),
    };
    output::line(&format!("{name}: {size}, {how}"))?;
    output::line(&format!("package {id}"))?;
    if let Some(before) = renamed_from {
        output::note(&format!("{name} was {before} before, which is still there"));
    }
    Ok(())
}
