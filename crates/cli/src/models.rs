//! What `--model` means: a name, an id, the beginning of an id, a model inside the program, or the
//! path of a model file.
//!
//! A path is imported once. The package gets a name made of the file's name and a digest of what
//! identifies its files, so the next run finds it, and a changed file is imported anew.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use shoal_base::Digest;
use shoal_engine::{EngineOptions, LocalEngine};
use shoal_model::package::{BlobKind, Package};
use shoal_model::tokenizer::{Tokenizer, TokenizerSpec};
use shoal_store::{PackageName, StoreError};

use crate::failure::{Code, Failure, at_path};
use crate::import::{ImportOptions, import_path, name_of};
use crate::session::Session;
use crate::{embedded, memory, output, progress};

const DOMAIN: &str = "shoal/imported-files/v1";
/// Digits of the digest in a name: enough to tell the files of one user apart.
const DIGEST_DIGITS: usize = 12;
/// Longest beginning of a file's name in the name of its package.
const STEM_BYTES_MAX: usize = 80;

/// The model of a command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ModelName {
    /// Name, id or beginning of an id of a package, or the path of a model file or folder
    #[arg(long, short, value_name = "MODEL", default_value = embedded::DEFAULT)]
    pub(crate) model: String,
}

/// The model of a command that answers.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ModelArgs {
    #[command(flatten)]
    pub(crate) name: ModelName,

    /// Memory for keys and values; the configuration or 1024 unless given
    #[arg(long, value_name = "MIB")]
    pub(crate) kv_cache_mib: Option<std::num::NonZeroU32>,
}

/// Finds a package, or imports the file that `what` is the path of.
pub(crate) fn find(session: &Session, what: &str) -> Result<Package, Failure> {
    let store = session.store()?;
    match store.find(what) {
        Ok(id) => Ok(store.package(id)?),
        Err(StoreError::NotFound { .. }) => match embedded::install(session, what)? {
            Some(id) => Ok(store.package(id)?),
            None if Path::new(what).exists() => from_path(session, Path::new(what)),
            None => Err(Failure::new(
                Code::NotFound,
                format!(
                    "{what:?} is neither a package nor a file; `shoal model list` shows packages"
                ),
            )),
        },
        Err(error) => Err(error.into()),
    }
}

fn from_path(session: &Session, path: &Path) -> Result<Package, Failure> {
    let store = session.store()?;
    let name = fingerprint(path)?;
    if let Ok(id) = store.find(name.as_str()) {
        return Ok(store.package(id)?);
    }
    let imported = import_path(session, path, None, ImportOptions::default(), name)?;
    if !session.json {
        output::note(&format!("imported {} as {}", path.display(), imported.name));
    }
    Ok(store.package(imported.id)?)
}

/// The name of the package made of a path.
fn fingerprint(path: &Path) -> Result<PackageName, Failure> {
    let mut text = String::new();
    for file in files(path)? {
        let metadata = fs::metadata(&file).map_err(|error| at_path(&file, &error))?;
        describe(&mut text, &file, &metadata);
    }
    let digest = Digest::tagged(DOMAIN, text.as_bytes()).to_string();
    let stem: String = name_of(path).as_str().chars().take(STEM_BYTES_MAX).collect();
    Ok(PackageName::like(&format!("{stem}-{}", &digest[..DIGEST_DIGITS])))
}

fn describe(text: &mut String, file: &Path, metadata: &Metadata) {
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    let bytes = metadata.len();
    writeln!(text, "{file:?} {bytes} {seconds}.{nanoseconds:09}").expect("a text takes any text");
}

/// The files that a model may be made of: those of its folder, or the file, its other parts, and
/// tokenizers beside it.
fn files(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let path = fs::canonicalize(path).map_err(|error| at_path(path, &error))?;
    let folder = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(&path) };
    let part_of = path.file_name().and_then(|name| {
        let (first, _) = name.to_str()?.split_once("-00001-of-")?;
        Some(format!("{first}-0"))
    });
    let is_checkpoint = path.extension().is_some_and(|extension| extension == "bin");
    let belongs = |file: &Path| {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        path.is_dir()
            || file == path
            || part_of.as_ref().is_some_and(|first| name.starts_with(first))
            || (is_checkpoint && name.starts_with("tok"))
    };
    let entries = fs::read_dir(folder).map_err(|error| at_path(folder, &error))?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(|error| at_path(folder, &error))?.path();
        if belongs(&file) && file.is_file() {
            files.push(file);
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// The tokenizer of a package.
pub(crate) fn tokenizer(package: &Package) -> Result<Tokenizer, Failure> {
    let bytes = package.bytes(BlobKind::Tokenizer)?;
    Ok(Tokenizer::new(TokenizerSpec::from_bytes(&bytes)?)?)
}

/// How an engine uses this machine.
pub(crate) fn engine_options(
    session: &Session,
    kv_cache_mib: Option<std::num::NonZeroU32>,
) -> Result<EngineOptions, Failure> {
    let defaults = EngineOptions::default();
    let kv_bytes = kv_cache_mib.map(|mib| u64::from(mib.get()) << 20);
    let kv_bytes = kv_bytes.or(session.config.kv_cache_bytes()).unwrap_or(defaults.kv_bytes);
    memory::check("the cache of keys and values", kv_bytes)?;
    let window = session.config.draft_window_tokens.map(std::num::NonZeroUsize::get);
    Ok(EngineOptions {
        threads: session.threads,
        kv_bytes,
        draft_window: window.unwrap_or(defaults.draft_window),
        ..defaults
    })
}

/// Loads a model, with a draft model if there is one.
pub(crate) fn load(
    session: &Session,
    model: &ModelArgs,
    draft: Option<&str>,
) -> Result<LocalEngine, Failure> {
    let name = model.name.model.as_str();
    let options = engine_options(session, model.kv_cache_mib)?;
    let package = find(session, name)?;
    let draft = draft.map(|draft| find(session, draft)).transpose()?;
    let busy = progress::busy(&format!("loading {name}"), session.json);
    let engine = LocalEngine::open(&package, name, draft.as_ref(), options)?;
    busy.finish_and_clear();
    Ok(engine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_has_another_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("story.bin");
        fs::write(&path, "one").unwrap();
        let first = fingerprint(&path).unwrap();
        assert!(first.as_str().starts_with("story-"), "{first}");
        assert_eq!(fingerprint(&path).unwrap(), first);
        fs::write(&path, "three").unwrap();
        let second = fingerprint(&path).unwrap();
        assert_ne!(second, first);
        fs::write(folder.path().join("tok512.bin"), "t").unwrap();
        let third = fingerprint(&path).unwrap();
        assert_ne!(third, second);
        fs::write(folder.path().join("other.bin"), "t").unwrap();
        assert_eq!(fingerprint(&path).unwrap(), third);
        assert_ne!(fingerprint(folder.path()).unwrap(), third);
    }

    #[test]
    fn all_parts_of_a_split_file_count() {
        let folder = tempfile::tempdir().unwrap();
        let first = folder.path().join("m-00001-of-00002.gguf");
        let second = folder.path().join("m-00002-of-00002.gguf");
        fs::write(&first, "one").unwrap();
        fs::write(&second, "two").unwrap();
        fs::write(folder.path().join("n.gguf"), "three").unwrap();
        let real = fs::canonicalize(folder.path()).unwrap();
        let names = [real.join("m-00001-of-00002.gguf"), real.join("m-00002-of-00002.gguf")];
        assert_eq!(files(&first).unwrap(), names);
    }
}
