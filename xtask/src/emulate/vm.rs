//! The machine: starts Bochs, copies the guest's serial line to the terminal, reads the exit
//! status, stops the emulator.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::guest::EXIT_MARKER;
use crate::shell::{AtPath, TaskError};

/// Emulated instructions per emulated second. Near the true speed of Bochs, so that the guest's
/// clock roughly follows the wall clock.
const INSTRUCTIONS_PER_S: u32 = 50_000_000;
/// How often the serial line is read.
const POLL: Duration = Duration::from_millis(100);
const KERNEL_PANIC: &str = "Kernel panic";
const INSTALL: &str = "apt-get install bochs bochsbios vgabios";

/// One run.
pub(super) struct Machine<'a> {
    pub(super) cpu: &'a str,
    pub(super) memory_mib: u32,
    pub(super) limit: Duration,
}

impl Machine<'_> {
    /// Boots `disc` and waits for the marker.
    pub(super) fn run(&self, work: &Path, disc: &Path) -> Result<(), TaskError> {
        let serial = work.join("serial.txt");
        File::create(&serial).at(&serial)?;
        let config = work.join("bochsrc");
        std::fs::write(&config, self.config(work, disc, &serial)).at(&config)?;
        // Debian builds Bochs with its debugger, which waits for a word before it starts.
        let commands = work.join("commands");
        std::fs::write(&commands, "continue\n").at(&commands)?;
        let console = work.join("console.txt");
        let console = File::create(&console).at(&console)?;

        let mut command = isolated("bochs");
        command.arg("-q").arg("-f").arg(&config).arg("-rc").arg(&commands);
        command.current_dir(work).stdin(Stdio::null()).stdout(Stdio::null()).stderr(console);
        let started = Instant::now();
        let mut child = Emulator(command.spawn().map_err(|source| TaskError::Missing {
            program: "bochs".to_owned(),
            hint: INSTALL,
            source,
        })?);
        let status = self.watch(&mut child, &serial, work)?;
        eprintln!("emulate: {} took {:.1} s", self.cpu, started.elapsed().as_secs_f64());
        match status {
            0 => Ok(()),
            code => Err(TaskError::Refused(format!("the program ended with status {code}"))),
        }
    }

    fn config(&self, work: &Path, disc: &Path, serial: &Path) -> String {
        format!(
            "display_library: rfb, options=\"timeout=0\"\n\
             megs: {}\n\
             romimage: file=/usr/share/bochs/BIOS-bochs-latest, options=fastboot\n\
             vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
             cpu: model={}, count=1, ips={INSTRUCTIONS_PER_S}, reset_on_triple_fault=0\n\
             clock: sync=none\n\
             ata0: enabled=1\n\
             ata0-master: type=cdrom, path={}, status=inserted\n\
             boot: cdrom\n\
             com1: enabled=1, mode=file, dev={}\n\
             log: {}\n\
             panic: action=fatal\n\
             error: action=ignore\n\
             info: action=ignore\n\
             debug: action=ignore\n\
             speaker: enabled=0\n\
             sound: waveoutdrv=dummy\n",
            self.memory_mib,
            self.cpu,
            disc.display(),
            serial.display(),
            work.join("bochs.log").display(),
        )
    }

    fn watch(&self, child: &mut Emulator, serial: &Path, work: &Path) -> Result<i32, TaskError> {
        let started = Instant::now();
        let mut line = File::open(serial).at(serial)?;
        let mut output = Transcript::default();
        loop {
            let ended = child.0.try_wait().at(work)?;
            let mut bytes = Vec::new();
            line.read_to_end(&mut bytes).at(serial)?;
            if let Some(status) = output.take(&bytes)? {
                return Ok(status);
            }
            let logs = work.display();
            if ended.is_some() {
                return Err(TaskError::Refused(format!("bochs stopped early; see {logs}")));
            }
            if started.elapsed() > self.limit {
                let limit = self.limit.as_secs();
                return Err(TaskError::Refused(format!("no end after {limit} s; see {logs}")));
            }
            std::thread::sleep(POLL);
        }
    }
}

/// Bochs offers its screen over the network; where the system allows, it runs without one.
fn isolated(program: &str) -> Command {
    let unshare = ["--map-root-user", "--net"];
    let probe = Command::new("unshare").args(unshare).arg("true").output();
    if probe.is_ok_and(|output| output.status.success()) {
        let mut command = Command::new("unshare");
        command.args(unshare).arg(program);
        return command;
    }
    Command::new(program)
}

/// Ends the emulator whatever way the run ends.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What came over the serial line so far, cut into lines.
#[derive(Default)]
struct Transcript {
    rest: Vec<u8>,
}

impl Transcript {
    /// Prints whole lines; returns the exit status once the marker is there.
    fn take(&mut self, bytes: &[u8]) -> Result<Option<i32>, TaskError> {
        self.rest.extend_from_slice(bytes);
        while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(status) = line.strip_prefix(EXIT_MARKER) {
                let status = status.trim().parse();
                return Ok(Some(status.map_err(|_| {
                    TaskError::Refused(format!("unreadable exit status: {line}"))
                })?));
            }
            println!("{line}");
            if line.contains(KERNEL_PANIC) {
                return Err(TaskError::Refused("the guest's kernel crashed".to_owned()));
            }
        }
        std::io::stdout().flush().at(Path::new("stdout"))?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_read_across_pieces_and_only_at_a_line_start() {
        let mut transcript = Transcript::default();
        let pieces = ["say emulate: exit 1\r\nemul", "ate: exit 10", "1\r\n"];
        let results: Vec<_> = pieces
            .iter()
            .map(|piece| transcript.take(piece.as_bytes()).map_err(|error| error.to_string()))
            .collect();
        assert_eq!(results, [Ok(None), Ok(None), Ok(Some(101))]);
    }

    #[test]
    fn a_crashed_kernel_is_an_error() {
        let mut transcript = Transcript::default();
        assert!(transcript.take(b"[ 1.0] Kernel panic - not syncing\n").is_err());
    }
}
