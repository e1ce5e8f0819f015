//! `cargo xtask emulate`: runs a static program on a CPU this machine does not have.
//!
//! Owns a virtual machine made of Debian packages: Bochs emulates the CPU, a Debian kernel boots
//! from a CD image, and an initial file system holds a shell, the program and nothing else. The
//! guest prints to a serial line that is copied to the terminal; its last line carries the exit
//! status. Bochs is slow (tens of millions of instructions per second) but exact, which is what
//! the conformance tests of the kernels need. Never part of the ordinary checks.

mod guest;
mod image;
mod parts;
mod programs;
mod vm;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::check::Outcome;
use crate::elf::{self, Linkage};
use crate::shell::{self, AtPath, TaskError};

/// Arguments of `cargo xtask emulate`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// CPU model: `corei7_skylake_x` (AVX-512 without VNNI), `corei7_icelake_u` or `tigerlake`
    /// (with VNNI); `bochs --help cpu` lists all
    #[arg(long, default_value = "corei7_icelake_u")]
    cpu: String,
    /// Memory of the guest in MiB
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(256..=2048))]
    memory_mib: u32,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 3600)]
    limit_s: u64,
    /// Environment variable of the program, NAME=VALUE
    #[arg(long = "env", value_name = "NAME=VALUE")]
    variables: Vec<String>,
    /// File or folder copied into the guest, at the same absolute path
    #[arg(long = "with", value_name = "PATH")]
    carried: Vec<PathBuf>,
    /// Show the messages of the guest's kernel
    #[arg(long)]
    verbose: bool,
    /// Run the built-in probe instead of a program: CPU flags and one VNNI instruction
    #[arg(long, conflicts_with_all = ["tests_of", "words"])]
    probe: bool,
    /// Build the tests of this package and run each; what follows `--` goes to every one
    #[arg(long, value_name = "PACKAGE")]
    tests_of: Option<String>,
    /// The static program and its arguments
    #[arg(last = true, required_unless_present_any = ["probe", "tests_of"])]
    words: Vec<String>,
}

pub(crate) fn run(args: &Args) -> Result<(), TaskError> {
    let folder = shell::root().join("target/emulate");
    let parts = parts::fetch(&folder)?;
    let (programs, arguments) = match (&args.tests_of, args.words.split_first()) {
        (Some(package), _) => (programs::tests(package, &folder)?, args.words.as_slice()),
        (None, Some((program, arguments))) => (vec![PathBuf::from(program)], arguments),
        (None, None) => (vec![programs::probe(&folder)?], args.words.as_slice()),
    };
    for program in &programs {
        eprintln!("emulate: {} on {}", program.display(), args.cpu);
        refuse_dynamic(program)?;
        let work = folder.join(format!("run-{}", std::process::id()));
        std::fs::create_dir_all(&work).at(&work)?;
        run_one(&work, &parts, args, program, arguments)?;
        // After a failure the logs are there for a look.
        std::fs::remove_dir_all(&work).at(&work)?;
    }
    Ok(())
}

/// CPUs with AVX-512, without and with VNNI.
const AVX512_CPUS: [&str; 2] = ["corei7_skylake_x", "corei7_icelake_u"];
/// What the emulation needs; both are Debian packages.
const PROGRAMS: [&str; 2] = ["bochs", "xorriso"];
/// A run of all tests of the kernels, at some 20 million instructions per second.
const CONFORMANCE_LIMIT_S: u64 = 6 * 3600;

/// The tests of the kernels on both kinds of AVX-512, where this machine has no such CPU itself:
/// where it has one, they run on it each time.
pub(crate) fn conformance() -> Result<Outcome, TaskError> {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx512vnni") {
        return Ok(Outcome::Skipped("this CPU has AVX-512 with VNNI".to_owned()));
    }
    let has = |program: &&str| {
        let mut command = Command::new(program);
        command.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok()
    };
    if let Some(missing) = PROGRAMS.into_iter().find(|program| !has(program)) {
        return Ok(Outcome::Skipped(format!("no {missing}")));
    }
    for cpu in AVX512_CPUS {
        run(&Args {
            cpu: cpu.to_owned(),
            memory_mib: 512,
            limit_s: CONFORMANCE_LIMIT_S,
            variables: Vec::new(),
            carried: vec![shell::root().join("vectors")],
            verbose: false,
            probe: false,
            tests_of: Some("shoal-kernels".to_owned()),
            words: ["--test-threads", "1"].map(str::to_owned).to_vec(),
        })?;
    }
    Ok(Outcome::Done)
}

fn run_one(
    work: &Path,
    parts: &parts::Parts,
    args: &Args,
    program: &Path,
    arguments: &[String],
) -> Result<(), TaskError> {
    let files = guest::Guest {
        program,
        arguments,
        variables: &args.variables,
        carried: &args.carried,
        shell: &parts.busybox,
    }
    .files()?;
    let disc = image::build(work, parts, &files, args.verbose)?;
    let machine = vm::Machine {
        cpu: &args.cpu,
        memory_mib: args.memory_mib,
        limit: Duration::from_secs(args.limit_s),
    };
    let result = machine.run(work, &disc);
    std::fs::remove_file(&disc).at(&disc)?;
    result
}

/// A dynamic program would need its loader and libraries in the guest.
fn refuse_dynamic(program: &Path) -> Result<(), TaskError> {
    let bytes = std::fs::read(program).at(program)?;
    let problem = match elf::linkage(&bytes) {
        Some(Linkage::Static) => return Ok(()),
        Some(Linkage::Dynamic) => {
            "is linked dynamically; build it with RUSTFLAGS=\"-C target-feature=+crt-static\""
        }
        None => "is no 64-bit ELF program",
    };
    let program = program.display();
    Err(TaskError::Refused(format!("{program} {problem}")))
}
