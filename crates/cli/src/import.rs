//! From a model file to a package of the store.

use std::fs::File;
use std::io::{BufReader, Read, Seek as _};
use std::path::Path;

use shoal_base::{PackageId, TokenId};
use shoal_engine::Calibration;
use shoal_model::bundle::{BUNDLE_MAGIC, Bundle};
use shoal_model::import::{
    FormatChoice, ImportProgress, ImportedBlobs, MapReport, QuantizeError, import_blobs,
    import_tokenizer, planned_bytes,
};
use shoal_model::package::{InputFormat, Manifest, Package, StoredFormat};
use shoal_model::source::{self, WeightSource};
use shoal_model::tokenizer::{EncodeOptions, Tokenizer, TokenizerSpec};
use shoal_store::{Import, PackageName};

use crate::failure::{Failure, at_path};
use crate::progress::{self, STEPS};
use crate::session::Session;
use crate::{interrupt, measure};

/// Runs through a new package to see which inputs need 12 bits. Part of what decides the id of an
/// imported package: another text may choose otherwise.
const CALIBRATION_TEXT: &str = include_str!("calibration.txt");
/// Tokens of it that are used.
const CALIBRATION_TOKENS_MAX: usize = 256;
/// Distance of tokens that are taken from a vocabulary: a prime, so that they differ.
const CALIBRATION_STRIDE: u32 = 7919;

/// How to import.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub(crate) struct ImportOptions {
    /// Bits of the weights; `auto` takes 4 for sources of at most 4.5 bits per weight, else 8
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,

    /// `standard` gives 12 bits to the inputs that need them, `high` to all: slower, more exact
    #[arg(long, value_enum, default_value_t)]
    pub(crate) fidelity: Fidelity,
}

/// Bits of the weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    #[default]
    Auto,
    I8,
    I4,
}

/// How inputs of linear maps are quantized.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fidelity {
    #[default]
    Standard,
    High,
}

/// A package that was imported.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) id: PackageId,
    pub(crate) name: PackageName,
    /// What the name meant before.
    pub(crate) renamed_from: Option<PackageId>,
    pub(crate) bytes: u64,
    /// The format of its weights, and what quantization cost over all maps; `None` when a package
    /// was taken as it is.
    pub(crate) converted: Option<(StoredFormat, QuantizeError)>,
}

/// Imports a file or folder: a model, or a package in one file.
pub(crate) fn import_path(
    session: &Session,
    path: &Path,
    tokenizer: Option<&Path>,
    options: ImportOptions,
    name: PackageName,
) -> Result<Imported, Failure> {
    let Some((file, bytes)) = open_bundle(path)? else {
        return import(session, &*open_source(path, tokenizer)?, options, name);
    };
    if tokenizer.is_some() || options != ImportOptions::default() {
        let message = format!("{} is a package already and is taken as it is", path.display());
        return Err(Failure::usage(message));
    }
    interrupt::watch();
    let bundle = Bundle::open(BufReader::new(file), bytes)?;
    let bytes = bundle.manifest().blob_bytes();
    let staged = session.store()?.begin_import(bytes)?;
    let bar = progress::parts(&format!("importing {}", path.display()), session.json);
    bar.set_length(bytes);
    let told = |done| {
        bar.set_position(done);
        !interrupt::is_asked()
    };
    let manifest = bundle.unpack(&staged, &told)?;
    bar.finish_and_clear();
    let committed = staged.commit(&manifest, Some(&name))?;
    let (id, renamed_from) = (committed.id, committed.renamed_from);
    Ok(Imported { id, name, renamed_from, bytes, converted: None })
}

/// The file and its length, if it is a package in one file.
fn open_bundle(path: &Path) -> Result<Option<(File, u64)>, Failure> {
    if path.is_dir() {
        return Ok(None);
    }
    let failed = |error: &std::io::Error| at_path(path, error);
    let mut file = File::open(path).map_err(|error| failed(&error))?;
    let mut magic = Vec::new();
    let read = Read::by_ref(&mut file).take(BUNDLE_MAGIC.len() as u64).read_to_end(&mut magic);
    read.map_err(|error| failed(&error))?;
    if magic != BUNDLE_MAGIC {
        return Ok(None);
    }
    file.rewind().map_err(|error| failed(&error))?;
    let bytes = file.metadata().map_err(|error| failed(&error))?.len();
    Ok(Some((file, bytes)))
}

/// Opens a model file or folder, with the tokenizer from elsewhere if one is given.
pub(crate) fn open_source(
    path: &Path,
    tokenizer: Option<&Path>,
) -> Result<Box<dyn WeightSource>, Failure> {
    Ok(match tokenizer {
        Some(tokenizer) => source::open_with_tokenizer(path, tokenizer)?,
        None => source::open(path)?,
    })
}

/// Imports a source into the store under a name.
pub(crate) fn import(
    session: &Session,
    source: &dyn WeightSource,
    options: ImportOptions,
    name: PackageName,
) -> Result<Imported, Failure> {
    interrupt::watch();
    let weights = match options.format {
        Format::Auto => FormatChoice::Auto,
        Format::I8 => FormatChoice::I8,
        Format::I4 => FormatChoice::I4,
    };
    let weights = weights.resolve(source);
    let spec = import_tokenizer(source)?;
    let tokenizer = spec.to_bytes()?;
    let bytes = planned_bytes(source, weights, tokenizer.len());
    let staged = session.store()?.begin_import(bytes)?;
    let bar = progress::parts(&format!("importing {}", source.name()), session.json);
    let told = |progress: ImportProgress| {
        bar.set_length(progress.weights_total);
        bar.set_position(progress.weights);
        !interrupt::is_asked()
    };
    let blobs = import_blobs(source, weights, &tokenizer, session.threads, &staged, &told)?;
    let error = total(&blobs.report);
    bar.finish_and_clear();
    let manifest = match options.fidelity {
        Fidelity::High => blobs.finish(|_, _| InputFormat::A12),
        Fidelity::Standard => calibrate(session, &staged, blobs, spec)?,
    };
    interrupt::check()?;
    let committed = staged.commit(&manifest, Some(&name))?;
    Ok(Imported {
        id: committed.id,
        name,
        renamed_from: committed.renamed_from,
        bytes: manifest.blob_bytes(),
        converted: Some((weights, error)),
    })
}

/// Lets the package compute a text and gives 12 bits to the inputs that need them.
fn calibrate(
    session: &Session,
    staged: &Import,
    blobs: ImportedBlobs,
    spec: TokenizerSpec,
) -> Result<Manifest, Failure> {
    let provisional = Package::open(&blobs.provisional().to_bytes(), staged.blobs())?;
    let tokenizer = Tokenizer::new(spec)?;
    let tokens = tokenizer.encode(CALIBRATION_TEXT, EncodeOptions::default());
    // A vocabulary that cannot write this text is measured with tokens from all of it.
    let spread = |i: u32| TokenId(i * CALIBRATION_STRIDE % tokenizer.vocab_count());
    let mut tokens =
        tokens.unwrap_or_else(|_| (0..CALIBRATION_TOKENS_MAX as u32).map(spread).collect());
    let context = provisional.manifest().architecture.context_tokens as usize;
    tokens.truncate(CALIBRATION_TOKENS_MAX.min(context));
    let kernels = measure::kernels(session.threads)?;
    let bar = progress::parts("measuring inputs", session.json);
    bar.set_length(STEPS);
    let told = |done: f64| {
        bar.set_position((done * STEPS as f64) as u64);
        !interrupt::is_asked()
    };
    let measured = Calibration::measure(&provisional, &kernels, &tokens, &told)?;
    bar.finish_and_clear();
    match measured {
        Some(measured) => Ok(blobs.finish(|kind, slot| measured.choose(kind, slot))),
        None => Err(Failure::interrupted()),
    }
}

fn total(report: &[MapReport]) -> QuantizeError {
    let mut total = QuantizeError::default();
    report.iter().for_each(|map| total.add(map.error));
    total
}

/// The name a file or folder suggests for its package.
pub(crate) fn name_of(path: &Path) -> PackageName {
    // `.` and `..` have no name of their own.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
    PackageName::like(&name.unwrap_or_default().to_string_lossy())
}
