//! One machine of a lab: a thread in a network namespace of its own, with one device.
//!
//! The namespace has no name: it ends with the last thread, process and device in it, however the
//! lab ends.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::leftovers::{MARK, own_mark};
use crate::network::Place;
use crate::process::{Group, Process};

/// What tells builds of shoal for tests by how many seconds their clock is ahead.
pub const CLOCK: &str = "SHOAL_TEST_CLOCK_S";
/// What tells them how many milliseconds each read of a blob takes longer.
pub const DISK: &str = "SHOAL_TEST_DISK_MS";

const DEVICE: &str = "net0";
const MTU: u16 = 1500;
/// Packets that wait for the router; it is prompt, and what a link holds back is its own matter.
const DEVICE_QUEUE: u32 = 4096;

type Job = Box<dyn FnOnce() + Send>;

/// A machine of a lab.
pub struct Node {
    index: usize,
    place: Place,
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    groups: Arc<Mutex<Vec<Arc<Group>>>>,
    /// The number of the namespace.
    namespace: u64,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("index", &self.index).field("place", &self.place).finish()
    }
}

impl Node {
    /// Makes the namespace and its device.
    pub(crate) fn start(index: usize, place: Place) -> io::Result<(Self, SyncDevice)> {
        let (jobs, todo) = channel::<Job>();
        let (made, ready) = channel();
        let thread = std::thread::Builder::new().name(format!("netlab-{index}"));
        let thread = thread.spawn(move || {
            let set_up = set_up(place);
            let is_up = set_up.is_ok();
            // The lab is gone already if nobody takes it.
            let _ = made.send(set_up);
            if is_up {
                todo.into_iter().for_each(|job| job());
            }
        })?;
        let (device, namespace) = ready.recv().map_err(io::Error::other)??;
        let groups = Arc::default();
        let (jobs, thread) = (Some(jobs), Some(thread));
        Ok((Self { index, place, jobs, thread, groups, namespace }, device))
    }

    /// Its number, from 0.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The address that it has itself.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.place.inside
    }

    /// The address under which others see it: that of its translator, or its own.
    #[must_use]
    pub fn public_address(&self) -> Ipv4Addr {
        self.place.public
    }

    pub(crate) fn namespace(&self) -> u64 {
        self.namespace
    }

    /// Does something on this machine: sockets made meanwhile are its own, and so are those of
    /// threads and processes started meanwhile. One such work at a time.
    ///
    /// # Panics
    /// When the work panics.
    pub fn enter<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = channel();
        let job = Box::new(move || {
            // Nobody waits when the caller is gone.
            let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
        });
        let jobs = self.jobs.as_ref().expect("it is there until the node is dropped");
        jobs.send(job).expect("the thread runs until the node is dropped");
        match result.recv().expect("every job answers") {
            Ok(value) => value,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// A program for [`Self::spawn`]. It ends with this process, however this process ends.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
        command
    }

    /// Starts a program on this machine, in a process group of its own.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn spawn(&self, mut command: Command) -> io::Result<Process> {
        use std::os::unix::process::CommandExt as _;
        command.process_group(0).env(MARK, own_mark()?);
        let child = self.enter(move || command.spawn())?;
        let (process, group) = Process::new(child);
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.retain(|group| !group.is_over());
        groups.push(group);
        Ok(process)
    }

    /// Signals every process that was started here and still runs.
    pub(crate) fn signal(&self, signal: Signal) {
        for group in self.groups.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            group.signal(signal);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Moves this thread into a new namespace and makes its device. Also tells the namespace's number.
fn set_up(place: Place) -> io::Result<(SyncDevice, u64)> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let namespace = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
    // No IPv6: its own packets would only be strays. A kernel without it has no such file.
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    ip(&["link", "set", "lo", "up"])?;
    let device = DeviceBuilder::new()
        .name(DEVICE)
        .layer(Layer::L3)
        .ipv4(place.inside, 32_u8, None)
        .mtu(MTU)
        .tx_queue_len(DEVICE_QUEUE)
        .build_sync()?;
    ip(&["route", "add", "default", "dev", DEVICE])?;
    Ok((device, namespace))
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(format!("ip {}: {}", arguments.join(" "), said.trim())))
}
