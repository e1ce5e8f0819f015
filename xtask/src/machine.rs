//! `cargo xtask machine`: the machine, compiler and commit that every record in `bench/records`
//! starts with.

use std::process::Command;

use crate::shell::TaskError;

/// CPU flags the kernels are chosen by.
const FLAGS: [&str; 14] = [
    "avx",
    "avx2",
    "fma",
    "f16c",
    "avx_vnni",
    "avx512f",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512vl",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "sha_ni",
];

pub(crate) fn run() -> Result<(), TaskError> {
    let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let commit = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let is_changed = output("git", &["status", "--porcelain"]).is_some_and(|text| !text.is_empty());
    let rows = [
        ("cpu", field(&cpuinfo, "model name")),
        ("flags", field(&cpuinfo, "flags").map(|flags| known_flags(&flags))),
        ("cores", cores()),
        ("memory", field(&meminfo, "MemTotal").and_then(|text| gibibytes(&text))),
        ("kernel", output("uname", &["-sr"])),
        ("rustc", output("rustc", &["--version"])),
        ("commit", commit.map(|commit| if is_changed { commit + " and changes" } else { commit })),
    ];
    println!("| machine | |\n|---|---|");
    for (name, value) in rows {
        println!("| {name} | {} |", value.as_deref().unwrap_or("unknown"));
    }
    Ok(())
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The value after `name … :` in a file of `/proc`.
fn field(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = lines.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

fn known_flags(flags: &str) -> String {
    let has = |flag: &&&str| flags.split(' ').any(|other| other == **flag);
    FLAGS.iter().filter(has).copied().collect::<Vec<_>>().join(" ")
}

fn cores() -> Option<String> {
    std::thread::available_parallelism().ok().map(|count| count.to_string())
}

/// `24577308 kB` as `23.4 GiB`.
fn gibibytes(text: &str) -> Option<String> {
    let kibibytes: u64 = text.strip_suffix(" kB")?.parse().ok()?;
    let tenths = kibibytes * 10 / (1 << 20);
    Some(format!("{}.{} GiB", tenths / 10, tenths % 10))
}

#[cfg(test)]
mod tests {
    use super::{field, gibibytes, known_flags};

    #[test]
    fn proc_files_are_read() {
        let text = "model name\t: Some CPU\nflags\t\t: fpu avx2 sse avx512_vnni\n";
        assert_eq!(field(text, "model name").as_deref(), Some("Some CPU"));
        let flags = field(text, "flags").map(|flags| known_flags(&flags));
        assert_eq!(flags.as_deref(), Some("avx2 avx512_vnni"));
        assert_eq!(field(text, "bogomips"), None);
        assert_eq!(gibibytes("24577308 kB").as_deref(), Some("23.4 GiB"));
    }
}
