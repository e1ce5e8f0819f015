//! What the machine has to hold things in.

use crate::failure::{Code, Failure};
use crate::output;

/// All memory, if the system says.
pub(crate) fn total_bytes() -> Option<u64> {
    read("MemTotal:")
}

/// Memory that programs can still take, if the system says.
pub(crate) fn available_bytes() -> Option<u64> {
    read("MemAvailable:")
}

/// Refuses to ask for more memory than there is.
pub(crate) fn check(what: &str, bytes: u64) -> Result<(), Failure> {
    match total_bytes() {
        Some(total) if bytes > total => {
            let (bytes, total) = (output::bytes(bytes), output::bytes(total));
            let message = format!("{what} would take {bytes}, this machine has {total}");
            Err(Failure::new(Code::NoRoom, message))
        }
        _ => Ok(()),
    }
}

fn read(key: &str) -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    kib.checked_mul(1024)
}
