//! How much a node sends at most: what its owner allows, over all connections together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What may be sent at once after a pause.
const BURST: Duration = Duration::from_millis(50);

/// A bound on bytes per second.
#[derive(Debug)]
pub(crate) struct Upload {
    bytes_per_s: Option<u64>,
    /// When all that was sent will have had its time.
    paid_until: Mutex<Option<Instant>>,
}

impl Upload {
    /// `None`: no bound.
    pub(crate) fn new(bytes_per_s: Option<u64>) -> Self {
        Self { bytes_per_s, paid_until: Mutex::new(None) }
    }

    /// Counts bytes that cannot wait: others wait for longer.
    pub(crate) fn count(&self, bytes: usize) {
        self.book(bytes, Instant::now());
    }

    /// Waits until bytes may be sent.
    pub(crate) async fn wait(&self, bytes: usize) {
        if let Some(at) = self.book(bytes, Instant::now()) {
            sleep_until(at).await;
        }
    }

    /// When bytes may be sent that are sent after all others.
    fn book(&self, bytes: usize, now: Instant) -> Option<Instant> {
        let rate = self.bytes_per_s?.max(1);
        let micros = (bytes as u64).saturating_mul(1_000_000) / rate;
        let mut paid_until = self.paid_until.lock().unwrap_or_else(PoisonError::into_inner);
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let at = paid_until.unwrap_or(earliest).max(earliest);
        *paid_until = Some(at + Duration::from_micros(micros));
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_no_faster_than_allowed() {
        let start = Instant::now() + Duration::from_secs(1);
        let after = |at: Option<Instant>| at.map(|at| at.saturating_duration_since(start));
        let upload = Upload::new(Some(1_000_000));
        let ms = |ms| Some(Duration::from_millis(ms));
        assert_eq!(after(upload.book(50_000, start)), ms(0), "a pause went before");
        assert_eq!(after(upload.book(100_000, start)), ms(0));
        assert_eq!(after(upload.book(1, start)), ms(100), "the pause was worth 50 ms");
        let later = start + Duration::from_secs(9);
        assert_eq!(after(upload.book(1, later)), ms(8950), "at once again");
        assert_eq!(Upload::new(None).book(usize::MAX, start), None);
    }
}
