//! `shoal model pull`.

use std::time::Duration;

use indicatif::ProgressBar;
use shoal_base::Digest;
use shoal_store::PackageName;
use shoal_store::fetch::{FetchError, FetchOptions, FetchProgress, ModelReference, Watch};

use crate::config::Config;
use crate::failure::Failure;
use crate::import::{ImportOptions, import_path};
use crate::session::Session;
use crate::{interrupt, output, progress};

/// Arguments of `shoal model pull`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// `hf:OWNER/REPO[@REVISION][/FILE]` or a URL
    reference: ModelReference,

    /// The name of the package; that of the repository or file unless given
    #[arg(long, value_name = "NAME")]
    name: Option<PackageName>,

    /// What the file of a URL must hash to
    #[arg(long, value_name = "HEX")]
    sha256: Option<Digest>,

    /// Keep the downloaded files
    #[arg(long)]
    keep: bool,

    #[command(flatten)]
    options: ImportOptions,
}

pub(super) fn run(session: &Session, args: &Args) -> Result<(), Failure> {
    interrupt::watch();
    if args.sha256.is_some() && matches!(args.reference, ModelReference::Hub(_)) {
        return Err(Failure::usage("--sha256 is for URLs; the hub says what its files hash to"));
    }
    let mut options = options(&session.config)?;
    options.sha256 = args.sha256.map(|digest| digest.0);
    let bar = progress::bytes(session.json);
    let follow = Follow { bar: &bar, quiet: session.json };
    let fetched = session.store()?.fetch(&args.reference, &options, &follow)?;
    bar.finish_and_clear();
    let name = args.name.clone().unwrap_or_else(|| fetched.name.clone());
    let imported = import_path(session, &fetched.path, None, args.options, name)?;
    match args.keep {
        true => output::note(&format!("files: {}", fetched.path.display())),
        false => fetched.remove()?,
    }
    super::import::print(session, &imported)
}

fn options(config: &Config) -> Result<FetchOptions, Failure> {
    let mut options = FetchOptions::default();
    if let Some(hub) = &config.hub_url {
        options.hub = hub.clone();
    }
    options.token = config.hub_token.as_ref().map(|place| place.read()).transpose()?;
    options.authorities = config.authorities_file.clone();
    if let Some(gib) = config.download_gib_max {
        options.bytes_max = (gib.get() as u64).saturating_mul(1 << 30);
    }
    if let Some(seconds) = config.download_idle_s {
        options.idle_max = Duration::from_secs(seconds.get() as u64);
    }
    Ok(options)
}

/// Shows a download.
struct Follow<'a> {
    bar: &'a ProgressBar,
    quiet: bool,
}

impl Watch for Follow<'_> {
    fn progress(&self, progress: FetchProgress<'_>) {
        if let Some(total) = progress.bytes_total {
            self.bar.set_length(total);
        }
        self.bar.set_message(progress.file.to_owned());
        self.bar.set_position(progress.bytes);
    }

    fn retry(&self, error: &FetchError, pause: Duration) {
        if !self.quiet {
            let note = format!("{error}; next attempt in {:.0} s", pause.as_secs_f64().ceil());
            self.bar.suspend(|| output::note(&note));
        }
    }

    fn stop(&self) -> bool {
        interrupt::is_asked()
    }
}
