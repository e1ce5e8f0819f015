//! Processes of a lab: killed, frozen and thawed with all that they started.

use std::io;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

/// A process group. It can be signalled until its first process has been collected.
#[derive(Debug)]
pub(crate) struct Group {
    id: Pid,
    child: Mutex<(Child, Option<ExitStatus>)>,
}

impl Group {
    pub(crate) fn is_over(&self) -> bool {
        self.child.lock().unwrap_or_else(PoisonError::into_inner).1.is_some()
    }

    /// Signals all of it, if it still runs.
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.1.is_none() {
            // The first process is not collected, so the number is still that of this group.
            let _ = killpg(self.id, signal);
        }
    }

    /// How it ended, if it has. The rest of the group ends with its first process.
    fn collect(&self, flags: WaitPidFlag) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.child.lock().unwrap_or_else(PoisonError::into_inner).1 {
            return Ok(Some(status));
        }
        // Waits without collecting, so that signals stay possible and safe meanwhile.
        let flags = flags | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        if matches!(waitid(Id::Pid(self.id), flags), Ok(WaitStatus::StillAlive)) {
            return Ok(None);
        }
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        if child.1.is_none() {
            let _ = killpg(self.id, Signal::SIGKILL);
            child.1 = Some(child.0.wait()?);
        }
        Ok(child.1)
    }
}

/// A process on a machine of a lab. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    group: Arc<Group>,
    /// What it writes, if its command said `piped`.
    pub stdout: Option<ChildStdout>,
    /// The same for errors.
    pub stderr: Option<ChildStderr>,
    /// What it reads, if its command said `piped`.
    pub stdin: Option<ChildStdin>,
}

impl Process {
    pub(crate) fn new(mut child: Child) -> (Self, Arc<Group>) {
        let (stdout, stderr, stdin) =
            (child.stdout.take(), child.stderr.take(), child.stdin.take());
        let id = Pid::from_raw(child.id() as i32);
        let group = Arc::new(Group { id, child: Mutex::new((child, None)) });
        (Self { group: Arc::clone(&group), stdout, stderr, stdin }, group)
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.group.id.as_raw() as u32
    }

    /// Ends it and all it started, at once and without asking (SIGKILL).
    pub fn kill(&self) {
        self.group.signal(Signal::SIGKILL);
    }

    /// Stops it without ending it (SIGSTOP): its connections stay open and silent.
    pub fn freeze(&self) {
        self.group.signal(Signal::SIGSTOP);
    }

    /// Lets it go on (SIGCONT).
    pub fn thaw(&self) {
        self.group.signal(Signal::SIGCONT);
    }

    /// Asks it to end (SIGINT), as Ctrl-C does.
    pub fn interrupt(&self) {
        self.group.signal(Signal::SIGINT);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// The system does not say.
    pub fn wait(&self) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.group.collect(WaitPidFlag::empty())? {
                return Ok(status);
            }
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// The system does not say.
    pub fn try_wait(&self) -> io::Result<Option<ExitStatus>> {
        self.group.collect(WaitPidFlag::WNOHANG)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        // There is nobody to tell.
        let _ = self.wait();
    }
}
