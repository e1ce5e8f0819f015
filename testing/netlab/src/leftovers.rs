//! Processes that should be gone: those that left their group, and those of a lab that was killed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The variable that names the process that started another.
pub(crate) const MARK: &str = "NETLAB_OWNER";
/// How often and after how long it is seen whether killed processes are gone.
const LOOKS: u32 = 50;
const LOOK_AFTER: Duration = Duration::from_millis(10);

/// Who this process is, also after its number has been given to another.
pub(crate) fn own_mark() -> io::Result<String> {
    let id = std::process::id();
    let born = born(id).ok_or_else(|| io::Error::other("no /proc"))?;
    Ok(format!("{}-{id}-{born}", world()?))
}

/// The namespace that process numbers are of.
fn world() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

/// When a process was started, in ticks since the machine was; `None` if there is none.
fn born(id: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold anything; the 22nd field is the 20th after it.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn end(id: u32) {
    if let Ok(id) = i32::try_from(id) {
        // It may be gone already.
        let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
    }
}

/// Kills every process in one of these network namespaces, until there is none.
pub(crate) fn empty(namespaces: &BTreeSet<u64>) {
    for _ in 0..LOOKS {
        let is_inside = |id: &u32| {
            let found = fs::metadata(format!("/proc/{id}/ns/net"));
            found.is_ok_and(|found| namespaces.contains(&found.ino()))
        };
        let inside: Vec<u32> = all().filter(is_inside).collect();
        if inside.is_empty() {
            return;
        }
        inside.into_iter().for_each(end);
        std::thread::sleep(LOOK_AFTER);
    }
}

/// Kills processes of labs whose own process is gone.
pub(crate) fn sweep() -> io::Result<()> {
    let world = world()?;
    for id in all() {
        let environment = fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let mark = variables.find_map(|variable| {
            std::str::from_utf8(variable).ok()?.strip_prefix(MARK)?.strip_prefix('=')
        });
        if mark
            .and_then(owner)
            .is_some_and(|(in_world, owner, since)| in_world == world && born(owner) != Some(since))
        {
            end(id);
        }
    }
    Ok(())
}

/// The parts of a mark.
fn owner(mark: &str) -> Option<(u64, u32, u64)> {
    let mut parts = mark.splitn(3, '-');
    let (world, id, born) = (parts.next()?, parts.next()?, parts.next()?);
    Some((world.parse().ok()?, id.parse().ok()?, born.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn processes_of_a_process_that_is_gone_are_ended_and_no_others() {
        let mark = own_mark().unwrap();
        let (in_world, id, since) = owner(&mark).unwrap();
        assert_eq!((id, Some(since)), (std::process::id(), born(id)));
        let spawn = |mark: &str| {
            let child = Command::new("sleep").arg("60").env(MARK, mark).spawn().unwrap();
            // A new program runs for a moment before the system shows its variables.
            let environment = format!("/proc/{}/environ", child.id());
            while !std::fs::read(&environment).unwrap().ends_with(b"\0") {
                std::thread::yield_now();
            }
            child
        };
        let mut mine = spawn(&mark);
        let mut other_world = spawn(&format!("{}-{id}-{}", in_world ^ 1, since + 1));
        let mut left = spawn(&format!("{in_world}-{id}-{}", since + 1));
        sweep().unwrap();
        assert!(!left.wait().unwrap().success());
        for kept in [&mut mine, &mut other_world] {
            assert_eq!(kept.try_wait().unwrap(), None);
            kept.kill().unwrap();
            kept.wait().unwrap();
        }
    }
}
