//! What every command works with: the data folder, its settings, threads, the form of output.

use std::cell::OnceCell;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use shoal_store::{Store, default_home};

use crate::config::Config;
use crate::failure::Failure;

/// More threads than any machine has processors are a slip of the finger.
const THREADS_MAX: usize = 1024;

/// Options that every command takes.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Common {
    /// Print results, and errors, as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Threads that compute; the configuration or all processors unless given
    #[arg(long, global = true, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) json: bool,
    pub(crate) threads: usize,
    pub(crate) config: Config,
    pub(crate) home: PathBuf,
    store: OnceCell<Store>,
}

impl Session {
    pub(crate) fn open(common: &Common) -> Result<Self, Failure> {
        let home = default_home()?;
        let config = Config::read(&home)?;
        let all = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let threads = common.threads.or(config.threads).unwrap_or_else(all);
        let threads = check_threads(threads)?;
        Ok(Self { json: common.json, threads, config, home, store: OnceCell::new() })
    }

    /// The store, opened when it is first needed.
    pub(crate) fn store(&self) -> Result<&Store, Failure> {
        if let Some(store) = self.store.get() {
            return Ok(store);
        }
        let store = Store::open(&self.home)?;
        Ok(self.store.get_or_init(|| store))
    }
}

/// A number of threads that somebody may have meant.
pub(crate) fn check_threads(threads: NonZeroUsize) -> Result<usize, Failure> {
    match threads.get() {
        threads if threads > THREADS_MAX => {
            Err(Failure::usage(format!("{threads} threads, limit {THREADS_MAX}")))
        }
        threads => Ok(threads),
    }
}
