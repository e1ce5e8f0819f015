//! The thread that moves packets: reads them from the devices of all nodes, hands each over when it
//! is due.

use std::io::{ErrorKind, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl::set_timerslack;
use nix::sys::time::TimeSpec;
use thread_priority::ThreadPriority;
use thread_priority::unix::{
    RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};
use tun_rs::SyncDevice;

use crate::lateness::Lateness;
use crate::network::Network;

/// Packets of one node before the others get their turn.
const BATCH: usize = 64;
/// More than any packet of a device.
const PACKET_BYTES_MAX: usize = 65_536;
/// Above everything that is not real-time itself.
const PRIORITY: u8 = 60;

/// A timer of this kernel rings up to so late. The router rather looks at the clock for the rest.
const AHEAD: Duration = Duration::from_micros(150);
/// The most of a core that goes into looking at the clock: one part in so many.
const WATCH_SHARE: u32 = 8;
/// What of it is kept for when it is needed.
const WATCH_SAVED_MAX: Duration = Duration::from_millis(5);

/// What the router and the lab share.
#[derive(Debug)]
pub(crate) struct Shared {
    network: Mutex<Network>,
    lateness: Mutex<Lateness>,
}

impl Shared {
    pub(crate) fn new(network: Network) -> Self {
        Self { network: Mutex::new(network), lateness: Mutex::default() }
    }

    pub(crate) fn network(&self) -> MutexGuard<'_, Network> {
        self.network.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lateness(&self) -> MutexGuard<'_, Lateness> {
        self.lateness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running router. Dropping it stops it and closes the devices, which ends them.
#[derive(Debug)]
pub(crate) struct Router {
    stop: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Router {
    pub(crate) fn start(shared: Arc<Shared>, devices: Vec<SyncDevice>) -> std::io::Result<Self> {
        for device in &devices {
            device.set_nonblocking(true)?;
        }
        let (stop, stopped) = UnixStream::pair()?;
        let thread = std::thread::Builder::new().name("netlab-router".to_owned());
        let thread = thread.spawn(move || {
            be_punctual();
            run(&shared, &devices, &stopped);
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // It is gone already if nobody reads this.
        let _ = self.stop.write_all(&[0]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Without the right to it, packets are later under load; [`Lateness`] says by how much.
fn be_punctual() {
    let _ = set_timerslack(1);
    let priority = ThreadPriority::Crossplatform(
        thread_priority::ThreadPriorityValue::try_from(PRIORITY).expect("it is below 100"),
    );
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let _ = set_thread_priority_and_policy(thread_native_id(), priority, policy);
}

fn run(shared: &Shared, devices: &[SyncDevice], stopped: &UnixStream) {
    let start = Instant::now();
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    let mut watch = Watch::default();
    loop {
        let next_at = deliver(shared, devices, start);
        let wait = next_at.map(|at| TimeSpec::from(watch.wait(start.elapsed(), at)));
        let mut polled: Vec<PollFd<'_>> =
            devices.iter().map(|device| PollFd::new(device.as_fd(), PollFlags::POLLIN)).collect();
        polled.push(PollFd::new(stopped.as_fd(), PollFlags::POLLIN));
        if ppoll(&mut polled, wait, None).is_err() {
            // A signal; it looks again.
            continue;
        }
        let ready: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(true)).collect();
        let Some((false, ready)) = ready.split_last() else {
            return;
        };
        for (from, device) in devices.iter().enumerate().filter(|(from, _)| ready[*from]) {
            read(shared, from, device, start, &mut buffer);
        }
    }
}

/// How long to sleep, and how long to look at the clock instead.
#[derive(Debug, Default)]
struct Watch {
    saved: Duration,
    /// When it was last asked, and whether it said to stay awake.
    last: (Duration, bool),
}

impl Watch {
    /// How long to sleep until shortly before `next_at`; zero to stay awake.
    fn wait(&mut self, now: Duration, next_at: Duration) -> Duration {
        let (last, was_awake) = self.last;
        let passed = now.saturating_sub(last);
        self.saved = match was_awake {
            true => self.saved.saturating_sub(passed),
            false => (self.saved + passed / WATCH_SHARE).min(WATCH_SAVED_MAX),
        };
        let left = next_at.saturating_sub(now);
        let is_awake = left <= AHEAD && self.saved > AHEAD;
        self.last = (now, is_awake);
        match is_awake {
            true => Duration::ZERO,
            false if left > AHEAD => left - AHEAD,
            false => left,
        }
    }
}

/// Hands over what is due. Returns when the next one is.
fn deliver(shared: &Shared, devices: &[SyncDevice], start: Instant) -> Option<Duration> {
    loop {
        let mut network = shared.network();
        let Some(out) = network.next(start.elapsed()) else {
            return network.next_at();
        };
        drop(network);
        // A node that does not take it, because it is going, has lost it.
        let _ = devices[out.to].send(out.packet.bytes());
        shared.lateness().note(start.elapsed().saturating_sub(out.due));
    }
}

fn read(shared: &Shared, from: usize, device: &SyncDevice, start: Instant, buffer: &mut [u8]) {
    for _ in 0..BATCH {
        match device.recv(buffer) {
            Ok(length) => {
                let packet = buffer[..length].to_vec();
                shared.network().submit(start.elapsed(), from, packet);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_stays_awake_shortly_before_a_packet_and_not_all_the_time() {
        let us = Duration::from_micros;
        let mut watch = Watch::default();
        assert_eq!(
            watch.wait(us(100_000), us(101_000)),
            us(1000) - AHEAD,
            "sleeps until shortly before"
        );
        assert_eq!(watch.wait(us(100_850), us(101_000)), Duration::ZERO);
        let (mut awake, mut now) = (Duration::ZERO, us(101_000));
        for _ in 0..100_000 {
            let wait = watch.wait(now, now + us(50));
            awake += if wait.is_zero() { us(10) } else { Duration::ZERO };
            now += if wait.is_zero() { us(10) } else { wait };
        }
        let share = awake.as_secs_f64() / now.as_secs_f64();
        assert!((0.05..0.15).contains(&share), "{share}");
    }
}
