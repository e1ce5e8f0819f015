//! `shoal model verify`, `remove` and `export`: packages that are there already.

use std::io::BufWriter;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use shoal_base::PackageId;
use shoal_model::export::export_gguf;
use shoal_model::source::ElementType;

use crate::failure::{Failure, at_path};
use crate::progress::{self, STEPS};
use crate::session::Session;
use crate::{interrupt, output};

/// A package by any of its names.
#[derive(Debug, clap::Args)]
pub(crate) struct Chosen {
    /// Name, id or beginning of an id
    model: String,
}

/// Arguments of `shoal model verify`.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Name, id or beginning of an id
    #[arg(required_unless_present = "all")]
    model: Option<String>,

    /// Check every package
    #[arg(long, conflicts_with = "model")]
    all: bool,
}

/// Arguments of `shoal model export`.
#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    chosen: Chosen,

    /// The GGUF file to write
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,

    /// Format of the matrices
    #[arg(long, value_enum, default_value_t)]
    format: ExportFormat,

    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// Format of exported matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum ExportFormat {
    #[default]
    F16,
    F32,
}

/// Checks every byte; damage is told and gives the exit code for bad input.
pub(super) fn verify(session: &Session, args: &VerifyArgs) -> Result<(), Failure> {
    interrupt::watch();
    let store = session.store()?;
    let mut ids = Vec::new();
    let mut found = Vec::new();
    match &args.model {
        Some(model) => ids.push(store.find(model)?),
        None => {
            let listed = store.list()?;
            ids.extend(listed.packages.iter().map(|package| package.id));
            found.extend(listed.damaged.iter().map(ToString::to_string));
        }
    }
    let mut reports = Vec::new();
    for id in ids {
        let (report, damage) = verify_one(session, id)?;
        reports.push(report);
        found.extend(damage);
    }
    if session.json {
        output::json(&json!({ "packages": reports, "damage": found }))?;
    }
    match found.first() {
        None => Ok(()),
        Some(first) if session.json => Err(Failure::bad_input(first.clone())),
        Some(_) => Err(Failure::bad_input(found.join("\nerror: "))),
    }
}

fn verify_one(session: &Session, id: PackageId) -> Result<(Value, Vec<String>), Failure> {
    let store = session.store()?;
    let total = store.package(id)?.manifest().blob_bytes();
    let bar = progress::parts(&format!("checking {id:.12}"), session.json);
    bar.set_length(total);
    let told = |bytes| {
        bar.set_position(bytes);
        !interrupt::is_asked()
    };
    let verified = store.verify(id, session.threads, &told)?;
    bar.finish_and_clear();
    if verified.stopped {
        return Err(Failure::interrupted());
    }
    let damage: Vec<String> =
        verified.damage.iter().map(|damage| format!("package {id}: {}", damage.error)).collect();
    if !session.json && damage.is_empty() {
        let size = output::bytes(verified.bytes);
        output::line(&format!("{id}: sound, {size} in {} tiles", verified.leaves))?;
    }
    let (bytes, tiles) = (verified.bytes, verified.leaves);
    let sound = damage.is_empty();
    Ok((json!({ "package": id, "sound": sound, "bytes": bytes, "tiles": tiles }), damage))
}

pub(super) fn remove(session: &Session, chosen: &Chosen) -> Result<(), Failure> {
    let store = session.store()?;
    let removed = store.remove(store.find(&chosen.model)?)?;
    if session.json {
        let (package, names, bytes) = (removed.id, &removed.names, removed.bytes);
        return output::json(&json!({ "package": package, "names": names, "bytes": bytes }));
    }
    output::line(&format!("removed {}, {}", removed.id, output::bytes(removed.bytes)))
}

pub(super) fn export(session: &Session, args: &ExportArgs) -> Result<(), Failure> {
    interrupt::watch();
    let store = session.store()?;
    let id = store.find(&args.chosen.model)?;
    let package = store.package(id)?;
    let name = store.names_of(id)?.first().map_or(id.to_string(), ToString::to_string);
    let element = match args.format {
        ExportFormat::F16 => ElementType::F16,
        ExportFormat::F32 => ElementType::F32,
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
    // The file has its name only once it is complete.
    let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")));
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

/// Gives a package one more name.
pub(super) fn name(session: &Session, args: &NameArgs) -> Result<(), Failure> {
    let store = session.store()?;
    let id = store.find(&args.chosen.model)?;
    let before = store.name(&args.name, id)?;
    if session.json {
        return output::json(&json!({ "package": id, "name": args.name, "before": before }));
    }
    output::line(&format!("{} is {id}", args.name))
}

/// Arguments of `shoal model name`.
#[derive(Debug, clap::Args)]
pub(crate) struct NameArgs {
    #[command(flatten)]
    chosen: Chosen,

    /// The new name; it no longer means another package
    name: shoal_store::PackageName,
}
