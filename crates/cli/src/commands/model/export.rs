//! `shoal model export`.

use std::path::PathBuf;

use serde_json::json;
use shoal_model::bundle::write_bundle;
use shoal_model::export::export_gguf;
use shoal_model::source::ElementType;

use super::keep::Chosen;
use crate::failure::Failure;
use crate::progress::{self, STEPS};
use crate::session::Session;
use crate::whole_file::write_whole;
use crate::{interrupt, output};

/// Arguments of `shoal model export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    chosen: Chosen,

    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,

    /// `f16`, `f32`: a GGUF file with such matrices; `package`: the package as it is, in one file
    #[arg(long, value_enum, default_value_t)]
    format: Format,

    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// What to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    #[default]
    F16,
    F32,
    Package,
}

pub(super) fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    interrupt::watch();
    let store = session.store()?;
    let id = store.find(&args.chosen.model)?;
    let package = store.package(id)?;
    let name = store.names_of(id)?.first().map_or(id.to_string(), ToString::to_string);
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
    let all = package.manifest().blob_bytes() as f64;
    let bytes = write_whole(&args.out, args.force, |file| {
        Ok(match args.format {
            Format::F16 => export_gguf(&package, &name, ElementType::F16, file, &told)?,
            Format::F32 => export_gguf(&package, &name, ElementType::F32, file, &told)?,
            Format::Package => write_bundle(&package, file, &|done| told(done as f64 / all))?,
        })
    })?;
    bar.finish_and_clear();
    if session.json {
        return output::json(&json!({ "package": id, "path": args.out, "bytes": bytes }));
    }
    output::line(&format!("{}: {}", args.out.display(), output::bytes(bytes)))
}
