//! `shoal train export`: the model of the newest checkpoint as a package or a GGUF file.

use std::path::{Path, PathBuf};

use serde_json::json;
use shoal_model::source::ElementType;
use shoal_store::PackageName;
use shoal_train::{ExportedModel, export_model};

use super::run::check_folder;
use crate::failure::{Failure, at_path};
use crate::import::{ImportOptions, import, open_source};
use crate::output;
use crate::session::Session;
use crate::train::{RunFolder, open};
use crate::whole_file::write_whole;

/// Arguments of `shoal train export`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of the run
    #[arg(value_name = "RUN")]
    folder: PathBuf,

    /// Make a package of this name
    #[arg(long, value_name = "NAME", required_unless_present = "gguf")]
    name: Option<PackageName>,

    /// Write this GGUF file
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,

    /// Format of the matrices in the GGUF file
    #[arg(long, value_enum, default_value_t)]
    gguf_format: GgufFormat,

    /// Replace the GGUF file if it is there
    #[arg(long)]
    force: bool,

    #[command(flatten)]
    options: ImportOptions,
}

/// Format of exported matrices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
enum GgufFormat {
    F16,
    #[default]
    F32,
}

pub(super) fn export(session: &Session, args: &Args) -> Result<(), Failure> {
    check_folder(&args.folder)?;
    if let Some(path) = args.gguf.as_ref().filter(|path| path.exists() && !args.force) {
        let rule = format!("{} is there already; --force replaces it", path.display());
        return Err(Failure::usage(rule));
    }
    let folder = RunFolder::open(&args.folder)?;
    let mut opened = open(session, &args.folder)?;
    folder.pin(&opened.run)?;
    let step = folder.checkpoints()?.last().copied();
    let step = step.ok_or_else(|| Failure::usage("the run has no checkpoint yet"))?;
    folder.restore(&mut opened.run, step)?;
    let kernels = shoal_kernels::Kernels::new(shoal_kernels::Isa::choose()?, session.threads)?;
    let mut model = opened.run.into_model();
    model.merge(&kernels);
    let name = args.name.as_ref().map_or_else(|| name_of(&args.folder), ToString::to_string);
    let described = ExportedModel {
        name: &name,
        tokenizer: &opened.tokenizer,
        chat_template: opened.chat_template.as_deref(),
    };
    let element = match args.gguf_format {
        GgufFormat::F16 => ElementType::F16,
        GgufFormat::F32 => ElementType::F32,
    };
    let write = |path: &Path, element, force| -> Result<(), Failure> {
        write_whole(path, force, |file| Ok(export_model(&model, &described, element, file)?))?;
        Ok(())
    };
    if let Some(path) = &args.gguf {
        write(path, element, args.force)?;
    }
    let mut package = None;
    if let Some(name) = &args.name {
        // A package is made of a file, as any other, so that both are equal.
        let space = tempfile::tempdir().map_err(|error| at_path(&args.folder, &error))?;
        let path = space.path().join("model.gguf");
        write(&path, ElementType::F32, false)?;
        let source = open_source(&path, None)?;
        package = Some(import(session, &*source, args.options, name.clone())?.id);
    }
    if session.json {
        return output::json(&json!({ "step": step, "package": package, "gguf": args.gguf }));
    }
    if let Some(path) = &args.gguf {
        output::line(&format!("{}: the model after step {step}", path.display()))?;
    }
    match (package, &args.name) {
        (Some(id), Some(name)) => output::line(&format!("{name}: package {id}, step {step}")),
        _ => Ok(()),
    }
}

fn name_of(folder: &Path) -> String {
    crate::import::name_of(folder).to_string()
}
