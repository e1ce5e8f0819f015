//! `shoal model verify`, `name` and `remove`: packages that are there already.

use serde_json::{Value, json};
use shoal_base::PackageId;

use crate::failure::Failure;
use crate::session::Session;
use crate::{interrupt, output, progress};

/// A package by any of its names.
#[derive(Debug, clap::Args)]
pub(crate) struct Chosen {
    /// Name, id or beginning of an id
    pub(super) model: String,
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
    let Some((first, more)) = found.split_first() else { return Ok(()) };
    if !session.json {
        more.iter().for_each(|damage| output::note(&format!("error: {damage}")));
    }
    Err(Failure::bad_input(first.clone()))
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
        let absent = match verified.absent.len() {
            0 => String::new(),
            count => format!("; {count} blobs were not fetched"),
        };
        output::line(&format!("{id}: sound, {size} in {} tiles{absent}", verified.leaves))?;
    }
    let (bytes, tiles) = (verified.bytes, verified.leaves);
    let sound = damage.is_empty();
    let absent = super::list::words(&verified.absent);
    let report = json!({
        "package": id, "sound": sound, "bytes": bytes, "tiles": tiles, "absent": absent,
    });
    Ok((report, damage))
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
