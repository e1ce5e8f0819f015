//! How often, and after which pause, something is tried again.

use std::time::{Duration, Instant};

use super::error::FetchError;
use super::{FetchOptions, Watch, limits};

const STOP_STEP: Duration = Duration::from_millis(20);

/// Counts failures in a row.
pub(super) struct Retries<'a> {
    options: &'a FetchOptions,
    watch: &'a dyn Watch,
    failures: u32,
}

impl<'a> Retries<'a> {
    pub(super) const fn new(options: &'a FetchOptions, watch: &'a dyn Watch) -> Self {
        Self { options, watch, failures: 0 }
    }

    /// Repeats `work` until it succeeds or no further attempt can help.
    pub(super) fn run<T>(
        mut self,
        mut work: impl FnMut() -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        loop {
            match work() {
                Err(error) => self.failed(error, 0)?,
                result => return result,
            }
        }
    }

    /// Waits before the next attempt, or gives the error back when there is to be none.
    ///
    /// - `bytes`: what the failed attempt brought
    pub(super) fn failed(&mut self, error: FetchError, bytes: u64) -> Result<(), FetchError> {
        if bytes >= limits::PROGRESS_BYTES {
            self.failures = 0;
        }
        self.failures += 1;
        if !error.is_temporary() || self.failures >= self.options.attempts_max {
            return Err(error);
        }
        let doubled = self.options.pause_first * 2_u32.pow((self.failures - 1).min(16));
        let pause = match error {
            FetchError::Status { wait_s: Some(seconds), .. } => Duration::from_secs(seconds),
            _ => doubled,
        };
        let pause = pause.min(limits::PAUSE_MAX);
        self.watch.retry(&error, pause);
        let started = Instant::now();
        while started.elapsed() < pause {
            if self.watch.stop() {
                return Err(FetchError::Stopped);
            }
            std::thread::sleep(STOP_STEP.min(pause));
        }
        Ok(())
    }
}
