//! What a lab needs of the machine.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sched::{CloneFlags, unshare};

/// Programs it runs: of iproute2 and util-linux.
const PROGRAMS: [&str; 2] = ["ip", "setpriv"];

/// What is missing here; `None` where labs can run.
#[must_use]
pub fn missing() -> Option<String> {
    // Namespaces are per thread, so this one is gone with the thread.
    let may = std::thread::spawn(|| unshare(CloneFlags::CLONE_NEWNET)).join();
    if !matches!(may, Ok(Ok(()))) {
        return Some("no right to make network namespaces (root has it)".to_owned());
    }
    if !Path::new("/dev/net/tun").exists() {
        return Some("no /dev/net/tun".to_owned());
    }
    let runs = |program: &&str| {
        let mut command = Command::new(program);
        command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    let program = PROGRAMS.into_iter().find(|program| !runs(program));
    program.map(|program| format!("no program {program}"))
}
