//! `shoal model list` and `show`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shoal_base::PackageId;
use shoal_model::package::{BlobKind, InputFormat, Manifest, StoredFormat};
use shoal_store::{Holding, PackageName, PackageSummary};

use crate::failure::Failure;
use crate::output;
use crate::session::Session;

/// Digits of an id in a list.
const ID_DIGITS: usize = 12;

/// Arguments of `shoal model show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Name, id or beginning of an id
    model: String,
}

pub(super) fn list(session: &Session) -> Result<(), Failure> {
    let listed = session.store()?.list()?;
    if session.json {
        let packages: Vec<Value> = listed.packages.iter().map(summary).collect();
        let damaged: Vec<String> = listed.damaged.iter().map(ToString::to_string).collect();
        return output::json(&json!({ "packages": packages, "damaged": damaged }));
    }
    if listed.packages.is_empty() {
        output::note("no packages; `shoal model import FILE` makes one");
    }
    for PackageSummary { id, names, manifest, holding } in &listed.packages {
        let id = id.to_string();
        let size = output::bytes(manifest.blob_bytes());
        let names = if names.is_empty() { "-".to_owned() } else { join(names) };
        let part =
            if holding.is_partial { format!("  ({})", here(holding)) } else { String::new() };
        let formats = formats(manifest);
        output::line(&format!("{}  {size:>10}  {formats:>9}  {names}{part}", &id[..ID_DIGITS]))?;
    }
    listed.damaged.iter().for_each(|error| output::note(&format!("damaged: {error}")));
    Ok(())
}

pub(super) fn show(session: &Session, args: &ShowArgs) -> Result<(), Failure> {
    let store = session.store()?;
    let id = store.find(&args.model)?;
    let package = store.package(id)?;
    let (names, path) = (store.names_of(id)?, store.manifest_path(id));
    let manifest = package.manifest();
    let holding = store.holding(id)?;
    if session.json {
        let mut value = describe(id, &names, manifest, &holding);
        value["absent"] = json!(words(&holding.absent));
        value["path"] = json!(path);
        value["architecture"] = json!(manifest.architecture);
        value["chat_template"] = json!(manifest.chat_template);
        return output::json(&value);
    }
    let a = &manifest.architecture;
    let bytes = output::bytes(manifest.blob_bytes());
    let template = if manifest.chat_template.is_some() { "yes" } else { "no" };
    let lines = [
        ("package", id.to_string()),
        ("names", join(&names)),
        ("manifest", path.display().to_string()),
        ("size", format!("{bytes} in {} blobs", manifest.blobs.len())),
        ("here", if holding.absent.is_empty() { "all of it".to_owned() } else { here(&holding) }),
        ("family", word(a.family)),
        ("weights", format!("{}, {}", parameters(manifest), formats(manifest))),
        ("inputs", inputs(manifest)),
        ("layers", format!("{} of width {}", a.layer_count, a.model_width)),
        ("heads", format!("{}, {} for keys and values", a.head_count, a.kv_head_count)),
        ("vocabulary", format!("{} tokens", a.vocab_count)),
        ("context", format!("{} tokens", a.context_tokens)),
        ("chat template", template.to_owned()),
    ];
    lines.iter().try_for_each(|(what, value)| output::line(&format!("{what:<14} {value}")))
}

fn summary(summary: &PackageSummary) -> Value {
    describe(summary.id, &summary.names, &summary.manifest, &summary.holding)
}

/// The blobs that are here, runs of layers as one.
fn here(holding: &Holding) -> String {
    let mut all: Vec<String> = Vec::new();
    let mut run: Option<(u32, u32)> = None;
    let text = |(first, last): (u32, u32)| match first == last {
        true => format!("layer {first}"),
        false => format!("layers {first}-{last}"),
    };
    for kind in &holding.held {
        run = match (*kind, run) {
            (BlobKind::Layer(layer), Some((first, last))) if layer == last + 1 => {
                Some((first, layer))
            }
            (BlobKind::Layer(layer), before) => {
                all.extend(before.map(text));
                Some((layer, layer))
            }
            (other, before) => {
                all.extend(before.map(text));
                all.push(other.to_string());
                None
            }
        };
    }
    all.extend(run.map(text));
    let bytes = output::bytes(holding.bytes);
    if all.is_empty() {
        "nothing here".to_owned()
    } else {
        format!("{bytes} here: {}", all.join(", "))
    }
}

/// Blobs by name.
pub(super) fn words(kinds: &[BlobKind]) -> Vec<String> {
    kinds.iter().map(ToString::to_string).collect()
}

fn describe(id: PackageId, names: &[PackageName], manifest: &Manifest, holding: &Holding) -> Value {
    let a = &manifest.architecture;
    json!({
        "package": id,
        "names": names,
        "bytes": manifest.blob_bytes(),
        "bytes_here": holding.bytes,
        "partial": holding.is_partial,
        "family": a.family,
        "parameters": parameter_count(manifest),
        "context_tokens": a.context_tokens,
        "weights": weight_formats(manifest),
        "inputs": input_formats(manifest),
        "chat": manifest.chat_template.is_some(),
    })
}

fn join(names: &[PackageName]) -> String {
    names.iter().map(PackageName::as_str).collect::<Vec<_>>().join(" ")
}

/// The word that JSON has for a value.
fn word(value: impl serde::Serialize) -> String {
    let value = serde_json::to_value(value).expect("formats and families are plain JSON");
    value.as_str().unwrap_or_default().to_owned()
}

fn parameter_count(manifest: &Manifest) -> u64 {
    manifest.architecture.tensors().map(|(_, (rows, columns))| (rows * columns) as u64).sum()
}

/// Such as `1.24 B`.
fn parameters(manifest: &Manifest) -> String {
    let count = parameter_count(manifest) as f64;
    match count {
        c if c >= 1e9 => format!("{:.2} B", c / 1e9),
        c if c >= 1e6 => format!("{:.1} M", c / 1e6),
        c => format!("{:.0} k", c / 1e3),
    }
}

/// How many maps have their weights in each format.
fn weight_formats(manifest: &Manifest) -> BTreeMap<String, usize> {
    count(manifest, |linear: StoredFormat, _| word(linear))
}

/// How many maps have their inputs in each format.
fn input_formats(manifest: &Manifest) -> BTreeMap<String, usize> {
    count(manifest, |_, inputs: InputFormat| word(inputs))
}

fn count(
    manifest: &Manifest,
    format: impl Fn(StoredFormat, InputFormat) -> String,
) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for linear in manifest.blobs.iter().flat_map(|blob| &blob.linears) {
        *counts.entry(format(linear.weights, linear.inputs)).or_default() += 1;
    }
    counts
}

fn formats(manifest: &Manifest) -> String {
    weight_formats(manifest).into_keys().collect::<Vec<_>>().join("+")
}

fn inputs(manifest: &Manifest) -> String {
    let counts = input_formats(manifest).into_iter();
    counts.map(|(format, count)| format!("{count} in {format}")).collect::<Vec<_>>().join(", ")
}
