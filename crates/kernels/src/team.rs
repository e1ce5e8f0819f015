//! A fixed team of threads that run the same operation on different parts.
//!
//! Decoding runs some hundred operations per token, a few microseconds each; so members spin for a
//! short while between operations and sleep when nothing comes. How work is divided never changes a
//! result: every output element is computed by one member as if alone.

use std::any::Any;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a member waits actively. Longer than the gaps between the operations of a step.
const SPIN: Duration = Duration::from_micros(100);
/// How long it does so without asking whether others want the core: where there are more threads
/// than cores, the one waited for may be among them.
const SPIN_ALONE: Duration = Duration::from_micros(5);

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Odd while a job is being published; counts jobs.
    epoch: AtomicU32,
    job: Mutex<Option<SendJob>>,
    pending: AtomicUsize,
    stop: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    caller: Mutex<Option<Thread>>,
}

#[derive(Clone, Copy)]
struct SendJob(Job);

// SAFETY: the pointee is `Sync`, and `Team::run` keeps it alive until every member has finished.
unsafe impl Send for SendJob {}

/// Threads that work together; the caller is member 0.
pub struct Team {
    shared: Arc<Shared>,
    members: Vec<JoinHandle<()>>,
    /// One operation at a time.
    running: Mutex<()>,
}

impl std::fmt::Debug for Team {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Team").field("threads", &self.threads()).finish()
    }
}

impl Team {
    /// A team of `threads` members, at least 1.
    ///
    /// # Panics
    /// When the system refuses to start a thread.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            epoch: AtomicU32::new(0),
            job: Mutex::new(None),
            pending: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            panic: Mutex::new(None),
            caller: Mutex::new(None),
        });
        let members = (1..threads.max(1))
            .map(|index| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("shoal-compute-{index}"))
                    .spawn(move || member(&shared, index))
                    .expect("the system starts threads")
            })
            .collect();
        Self { shared, members, running: Mutex::new(()) }
    }

    /// Members, the caller included.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.members.len() + 1
    }

    /// Runs `job(member)` on every member and returns when all have finished.
    ///
    /// # Panics
    /// When a member panics, with its payload.
    pub fn run(&self, job: &(dyn Fn(usize) + Sync)) {
        if self.members.is_empty() {
            return job(0);
        }
        let _one_at_a_time = self.running.lock().unwrap_or_else(|e| e.into_inner());
        let shared = &*self.shared;
        // SAFETY: only the lifetime is erased; this function does not return before `pending` is 0,
        // that is, before the last member has left the job.
        let erased: Job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        *lock(&shared.caller) = Some(std::thread::current());
        *lock(&shared.job) = Some(SendJob(erased));
        shared.pending.store(self.members.len(), Ordering::Relaxed);
        shared.epoch.fetch_add(1, Ordering::Release);
        for handle in &self.members {
            handle.thread().unpark();
        }
        let mine = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(0)));
        wait_until(|| shared.pending.load(Ordering::Acquire) == 0);
        let theirs = lock(&shared.panic).take();
        if let Some(payload) = mine.err().or(theirs) {
            std::panic::resume_unwind(payload);
        }
    }

    /// Splits `0..count` into one contiguous range per member and runs `job` on each non-empty one.
    pub fn split(&self, count: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        let threads = self.threads();
        if threads == 1 || count <= 1 {
            if count > 0 {
                job(0..count);
            }
            return;
        }
        self.run(&|member| {
            let range = count * member / threads..count * (member + 1) / threads;
            if !range.is_empty() {
                job(range);
            }
        });
    }

    /// Gives each member a part of `0..count`, which it takes from the front, so that it reads
    /// memory in order: half of what is left each time, and at least `shortest`. Whoever has
    /// finished takes from the end of what another has left, so that all members finish together
    /// even when one of them is slowed down.
    ///
    /// # Panics
    /// When `count` is 2^32 or more.
    pub fn share_ranges(&self, count: usize, shortest: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        let threads = self.threads();
        if threads == 1 || count <= shortest {
            if count > 0 {
                job(0..count);
            }
            return;
        }
        let part = |i: usize| Part::new(count * i / threads..count * (i + 1) / threads);
        let parts: Vec<Part> = (0..threads).map(part).collect();
        self.run(&|member| {
            while let Some(range) = parts[member].take_first(shortest) {
                job(range);
            }
            for other in (1..threads).map(|i| (member + i) % threads) {
                while let Some(range) = parts[other].take_last(shortest) {
                    job(range);
                }
            }
        });
    }

    /// Hands out `0..count` one by one to whoever is free; for parts of unequal size.
    pub fn share(&self, count: usize, job: &(dyn Fn(usize) + Sync)) {
        if self.threads() == 1 || count <= 1 {
            return (0..count).for_each(job);
        }
        let next = AtomicUsize::new(0);
        self.run(&|_| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                job(index);
            }
        });
    }
}

/// What is left of a member's part: first and end, in one word. On a line of its own, since its
/// owner takes from it all the time.
#[repr(align(128))]
struct Part(AtomicU64);

impl Part {
    fn new(range: Range<usize>) -> Self {
        assert!(range.end <= u32::MAX as usize, "a part fits its word");
        Self(AtomicU64::new(word_of(&range)))
    }

    /// Takes half of it, at least `shortest`, from the front.
    fn take_first(&self, shortest: usize) -> Option<Range<usize>> {
        self.take(|left| {
            let middle = left.end.min(left.start + shortest.max(left.len() / 2));
            (left.start..middle, middle..left.end)
        })
    }

    /// The same from the end.
    fn take_last(&self, shortest: usize) -> Option<Range<usize>> {
        self.take(|left| {
            let middle = left.end - left.len().min(shortest.max(left.len() / 2));
            (middle..left.end, left.start..middle)
        })
    }

    /// `cut` says what is taken and what stays.
    fn take(
        &self,
        cut: impl Fn(Range<usize>) -> (Range<usize>, Range<usize>),
    ) -> Option<Range<usize>> {
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let left = (word >> 32) as usize..(word as u32) as usize;
            if left.is_empty() {
                return None;
            }
            let (taken, rest) = cut(left);
            let next = word_of(&rest);
            match self.0.compare_exchange_weak(word, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(now) => word = now,
            }
        }
    }
}

fn word_of(range: &Range<usize>) -> u64 {
    (range.start as u64) << 32 | range.end as u64
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.epoch.fetch_add(1, Ordering::Release);
        for handle in self.members.drain(..) {
            handle.thread().unpark();
            // A member's panic was already passed on by `run`.
            let _ = handle.join();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Spins, then lets others run in between, then sleeps; whoever makes the condition true unparks
/// this thread.
fn wait_until(done: impl Fn() -> bool) {
    let mut rounds = 0_u32;
    let mut start = None;
    while !done() {
        rounds += 1;
        if !rounds.is_multiple_of(64) {
            std::hint::spin_loop();
            continue;
        }
        let waited = start.get_or_insert_with(Instant::now).elapsed();
        if waited > SPIN {
            std::thread::park_timeout(Duration::from_millis(50));
        } else if waited > SPIN_ALONE {
            std::thread::yield_now();
        }
    }
}

fn member(shared: &Shared, index: usize) {
    let mut seen = 0;
    loop {
        wait_until(|| shared.epoch.load(Ordering::Acquire) != seen);
        seen = seen.wrapping_add(1);
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let job = lock(&shared.job).expect("a job is published before the epoch moves");
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // SAFETY: `run` published the job and keeps it alive until `pending` is 0.
            let job = unsafe { &*job.0 };
            job(index);
        }));
        if let Err(payload) = result {
            *lock(&shared.panic) = Some(payload);
        }
        let caller = lock(&shared.caller).clone();
        if shared.pending.fetch_sub(1, Ordering::Release) == 1
            && let Some(caller) = caller
        {
            caller.unpark();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_runs_once_whatever_the_team() {
        for threads in [1, 2, 3, 4] {
            let team = Team::new(threads);
            for count in [0, 1, 2, 7, 100] {
                let hits: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
                team.split(count, &|range| {
                    for i in range {
                        hits[i].fetch_add(1, Ordering::Relaxed);
                    }
                });
                team.share(count, &|i| {
                    hits[i].fetch_add(1, Ordering::Relaxed);
                });
                for shortest in [1, 3] {
                    let hit = |range: Range<usize>| {
                        for i in range {
                            hits[i].fetch_add(1, Ordering::Relaxed);
                        }
                    };
                    team.share_ranges(count, shortest, &hit);
                }
                assert!(hits.iter().all(|hit| hit.load(Ordering::Relaxed) == 4));
            }
        }
    }

    #[test]
    fn a_part_is_taken_from_both_ends_until_nothing_is_left() {
        let part = Part::new(10..30);
        assert_eq!(part.take_first(4), Some(10..20));
        assert_eq!(part.take_last(4), Some(25..30));
        assert_eq!(part.take_first(4), Some(20..24));
        assert_eq!(part.take_last(4), Some(24..25));
        assert_eq!((part.take_first(4), part.take_last(4)), (None, None));
    }

    #[test]
    fn a_member_that_panics_is_reported_and_the_team_goes_on() {
        let team = Team::new(2);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            team.run(&|member| assert_eq!(member, 0, "member 1 panics"));
        }));
        assert!(result.is_err());
        let count = AtomicUsize::new(0);
        team.run(&|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 2);
    }

    #[test]
    fn sleeping_members_wake_up() {
        let team = Team::new(2);
        let count = AtomicUsize::new(0);
        for _ in 0..3 {
            std::thread::park_timeout(SPIN * 20);
            team.run(&|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(count.into_inner(), 6);
    }
}
