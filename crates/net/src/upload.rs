//! How much a node sends at most: what its owner allows, over all connections together.
//!
//! Leaves of blobs also take turns: of all that wait, only so many travel at once as arrive in a
//! time that their receivers wait for each. Without a bound nobody waits for a turn.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shoal_wire::limits::LEAF_BYTES;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use crate::limits::LEAVES_OVER;

/// What may be sent at once after a pause.
const BURST: Duration = Duration::from_millis(50);

/// A bound on bytes per second.
#[derive(Debug)]
pub(crate) struct Upload {
    bytes_per_s: Option<u64>,
    /// When all that was sent will have had its time.
    paid_until: Mutex<Option<Instant>>,
    /// Leaves that may set out.
    turns: Semaphore,
}

impl Upload {
    /// `None`: no bound.
    pub(crate) fn new(bytes_per_s: Option<u64>) -> Self {
        let turns = bytes_per_s.map_or(0, turns);
        Self { bytes_per_s, paid_until: Mutex::new(None), turns: Semaphore::new(turns) }
    }

    /// Waits until a leaf may set out. It is on its way as long as what comes back lives; nothing
    /// does without a bound.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        self.bytes_per_s?;
        Some(self.turns.acquire().await.expect("nobody closes it"))
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

/// Leaves that travel at once at this rate.
fn turns(bytes_per_s: u64) -> usize {
    let leaves = bytes_per_s.saturating_mul(LEAVES_OVER.as_secs()) / LEAF_BYTES;
    usize::try_from(leaves).unwrap_or(Semaphore::MAX_PERMITS).clamp(1, Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn leaves_take_turns_where_there_is_a_bound() {
        fn is_ready(upload: &Upload) -> bool {
            let mut context = Context::from_waker(Waker::noop());
            matches!(pin!(upload.turn()).poll(&mut context), Poll::Ready(_))
        }
        let slow = Upload::new(Some(LEAF_BYTES / 100));
        let turn = slow.turns.try_acquire().expect("one at least");
        assert!(!is_ready(&slow));
        drop(turn);
        assert!(is_ready(&slow));
        assert_eq!(turns(2 * LEAF_BYTES), 20);
        assert!(turns(u64::MAX) <= Semaphore::MAX_PERMITS);
        let free = Upload::new(None);
        assert!(is_ready(&free) && is_ready(&free));
    }

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
