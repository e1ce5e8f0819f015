//! Runs targets on seeds and mutations, without a fuzzer: every panic, every input that takes too
//! long, every allocation out of proportion to the input.
//!
//! The input under way is kept in a file, so that it is at hand even when the process dies.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::allocations::peak_bytes;
use crate::mutate::Mutator;
use crate::{Target, regressions};

/// Memory a target may hold for each byte of the input.
const MEMORY_BYTES_PER_BYTE: usize = 64;

/// An input that takes this many limits is not waited for.
const PATIENCE: u32 = 10;
/// How often the watch looks.
const LOOK: Duration = Duration::from_millis(100);

/// How a target failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It panicked.
    #[error("panic: {message}")]
    Panic {
        /// What it said.
        message: String,
    },
    /// It held more memory than an input of this size can need.
    #[error("held {got} bytes for an input of {input} bytes, limit {limit}")]
    Memory {
        /// Bytes held at once.
        got: usize,
        /// Size of the input.
        input: usize,
        /// Bytes it may hold.
        limit: usize,
    },
    /// It took too long.
    #[error("took {got:?}, limit {limit:?}")]
    Time {
        /// Time taken.
        got: Duration,
        /// Time it may take.
        limit: Duration,
    },
    /// The files around the run.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// How a run is done.
#[derive(Clone, Debug)]
pub struct Run {
    /// Mutated inputs per target, after seeds and regressions.
    pub inputs: u32,
    /// Longest time for one input.
    pub limit: Duration,
    /// Where failing inputs go.
    pub artifacts: PathBuf,
}

impl Run {
    /// Runs one target; the number of inputs tried.
    ///
    /// # Errors
    /// The first failure; its input lies at `<artifacts>/<target>`.
    pub fn target(&self, target: Target) -> Result<usize, Failure> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| Failure::File { path, source }
        };
        std::fs::create_dir_all(&self.artifacts).map_err(at(&self.artifacts))?;
        let path = self.artifacts.join(target.name);
        let mut kept = File::create(&path).map_err(at(&path))?;

        let known = regressions::inputs(target.name).map_err(at(Path::new("regressions")))?;
        let seeds = (target.seeds)();
        let mut mutator = Mutator::new(target.name, &seeds);
        let mutated = (0..self.inputs).map(|_| mutator.input());
        let inputs = known.into_iter().chain(seeds.iter().cloned()).chain(mutated);
        let watch = Watch::new(target.name, &path, self.limit * PATIENCE);
        let mut count = 0;
        for input in inputs {
            keep(&mut kept, &input).map_err(at(&path))?;
            self.input(target, &input, &watch)?;
            count += 1;
        }
        std::fs::remove_file(&path).map_err(at(&path))?;
        Ok(count)
    }

    fn input(&self, target: Target, input: &[u8], watch: &Watch) -> Result<(), Failure> {
        let started = watch.start();
        let run = AssertUnwindSafe(|| (target.run)(input));
        let (result, held) = peak_bytes(|| catch_unwind(run));
        let taken = started.elapsed();
        watch.stop();
        if let Err(payload) = result {
            let message = message(payload.as_ref());
            return Err(Failure::Panic { message });
        }
        let limit = target.memory_bytes + MEMORY_BYTES_PER_BYTE * input.len();
        if held > limit {
            return Err(Failure::Memory { got: held, input: input.len(), limit });
        }
        if taken > self.limit {
            return Err(Failure::Time { got: taken, limit: self.limit });
        }
        Ok(())
    }
}

/// Replaces what the file holds.
fn keep(file: &mut File, input: &[u8]) -> std::io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(input)
}

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| payload.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without a message".to_owned())
}

/// Ends the process when an input never returns: nothing else can stop it.
struct Watch {
    /// When the input under way began; `None` between inputs.
    started: Arc<Mutex<Option<Instant>>>,
}

impl Watch {
    fn new(target: &'static str, input: &Path, limit: Duration) -> Self {
        let started = Arc::new(Mutex::new(None));
        let seen = Arc::downgrade(&started);
        let input = input.to_owned();
        std::thread::spawn(move || {
            while let Some(started) = seen.upgrade() {
                let began: Option<Instant> =
                    *started.lock().unwrap_or_else(PoisonError::into_inner);
                if began.is_some_and(|began| began.elapsed() > limit) {
                    eprintln!("{target}: no end after {limit:?}; input: {}", input.display());
                    std::process::exit(1);
                }
                drop(started);
                std::thread::sleep(LOOK);
            }
        });
        Self { started }
    }

    fn start(&self) -> Instant {
        let now = Instant::now();
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = Some(now);
        now
    }

    fn stop(&self) {
        *self.started.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
