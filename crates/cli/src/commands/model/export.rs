//! `shoal model export`.

use std::io::BufWriter;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::json;
use shoal_model::export::export_gguf;
use shoal_model::source::ElementType;

use super::keep::Chosen;
use crate::failure::{Failure, at_path};
use crate::progress::{self, STEPS};
use crate::session::Session;
use crate::{interrupt, output};

/// Arguments of `shoal model export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    chosen: Chosen,

    /// The GGUF file to write
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,

    /// Format of the matrices
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// Format of exported matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    #[default]
    F16,
    F32,
}

pub(super) fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    interrupt::watch();
    let store = session.store()?;
    let id = store.find(&args.chosen.model)?;
    let package = store.package(id)?;
    let name = store.names_of(id)?.first().map_or(id.to_string(), ToString::to_string);
    let element = match args.format {
        Format::F16 => ElementType::F16,
        Format::F32 => ElementType::F32,
    };
    if args.out.exists() && !args.force {
        let rule = format!("{} is there already; --force replaces it", args.out.display());
        return Err(Failure::usage(rule));
    }
    let bar = progress::parts("exporting", session.json);
    bar.set_length(STEPS);
    let told = |done: f64| {
        bar.set_position((done * STEPS as f64) as u64);
        !interrupt::is_asked()
    };
    let failed = |error: &std::io::Error| at_path(&args.out, error);
    let folder = args.out.parent().filter(|folder| *folder != Path::new(""));
    // The file has its name only once it is complete. It is as open to others as any new file.
    let file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o666))
        .tempfile_in(folder.unwrap_or(Path::new(".")));
    let file = file.map_err(|error| failed(&error))?;
    let file = export_gguf(&package, &name, element, BufWriter::new(file), &told)?;
    let file = file.into_inner().map_err(|error| failed(error.error()))?;
    file.as_file().sync_all().map_err(|error| failed(&error))?;
    let bytes = file.as_file().metadata().map_err(|error| failed(&error))?.len();
    let kept = match args.force {
        true => file.persist(&args.out),
        false => file.persist_noclobber(&args.out),
    };
    kept.map_err(|error| failed(&error.error))?;
    bar.finish_and_clear();
    if session.json {
        return output::json(&json!({ "package": id, "path": args.out, "bytes": bytes }));
    }
    output::line(&format!("{}: {}", args.out.display(), output::bytes(bytes)))
}
