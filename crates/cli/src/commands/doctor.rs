//! `shoal doctor`.

use std::process::ExitCode;

use serde_json::{Value, json};
use shoal_kernels::Isa;
use shoal_store::{Health, Store};

use crate::config;
use crate::failure::{Code, Failure};
use crate::measure::Memory;
use crate::relays::Relays;
use crate::session::Session;
use crate::{interrupt, measure, memory, nat, output, swarming};

/// Arguments of `shoal doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove what no package needs and no process works on
    #[arg(long)]
    sweep: bool,

    /// Remove downloads too, complete or not
    #[arg(long)]
    remove_downloads: bool,

    /// Make the index of names anew; names are lost unless you vouch for them
    #[arg(long)]
    rebuild_index: bool,

    /// Keep the names that the old index has, whoever wrote them
    #[arg(long, requires = "rebuild_index")]
    keep_names: bool,

    /// Do not measure the memory, which takes a GiB of it and a few seconds
    #[arg(long)]
    quick: bool,

    #[command(flatten)]
    relays: Relays,
}

/// Runs the command. What is wrong gives the exit code for bad input.
pub(crate) fn run(session: &Session, args: &Args) -> Result<ExitCode, Failure> {
    interrupt::watch();
    let store = session.store()?;
    let mut done = repair(store, args)?;
    let health = store.health()?;
    let problems = problems(&health);
    let bandwidth = match args.quick {
        true => None,
        false => Some(Memory::new().read(&*measure::kernels(session.threads)?)? / 1e9),
    };
    let (total, available) = (memory::total_bytes(), memory::available_bytes());
    let isas: Vec<&str> = Isa::available().map(Isa::name).collect();
    let config = session.home.join(config::FILE_NAME);
    let swarm = swarming::health(session)?;
    let nat = nat::look(&args.relays.all(session))?;
    let report = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "isa": Isa::choose()?.name(),
        "isa_available": isas,
        "threads": session.threads,
        "memory_bytes": total,
        "memory_available_bytes": available,
        "memory_read_gb_per_s": bandwidth,
        "home": session.home,
        "config": config.exists().then_some(config),
        "packages": health.packages,
        "package_bytes": health.package_bytes,
        "imports_running": health.imports,
        "download_bytes": health.download_bytes,
        "free_bytes": health.free_bytes,
        "nat": nat,
        "swarm": swarm,
        "repairs": done,
        "problems": problems,
    });
    match session.json {
        true => output::json(&report)?,
        false => {
            print(&report)?;
            nat::lines(&nat).iter().try_for_each(|line| output::line(line))?;
            swarming::health_lines(&swarm).iter().try_for_each(|line| output::line(line))?;
            done.drain(..).try_for_each(|line| output::line(&format!("repaired       {line}")))?;
            problems.iter().try_for_each(|line| output::line(&format!("PROBLEM        {line}")))?;
        }
    }
    Ok(match problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::from(Code::BadInput as u8),
    })
}

/// Does what was asked for and says what it did.
fn repair(store: &Store, args: &Args) -> Result<Vec<String>, Failure> {
    let mut done = Vec::new();
    if args.rebuild_index {
        let names = store.rebuild_index(args.keep_names)?;
        done.push(format!("index made anew, {} names kept", names.len()));
    }
    if args.sweep {
        let swept = store.sweep()?;
        let size = output::bytes(swept.bytes);
        let (imports, blobs) = (swept.imports, swept.blobs);
        done.push(format!("{imports} unfinished imports and {blobs} blobs removed, {size}"));
    }
    if args.remove_downloads {
        let size = output::bytes(store.remove_downloads()?);
        done.push(format!("downloads removed, {size}"));
    }
    Ok(done)
}

fn problems(health: &Health) -> Vec<String> {
    let mut problems: Vec<String> = health.damaged.iter().map(ToString::to_string).collect();
    if let Some(index) = &health.index {
        problems.push(format!("{index}; `shoal doctor --rebuild-index` makes it anew"));
    }
    if health.key_open_to_others {
        problems.push("others than you can read or change the key that signs names".to_owned());
    }
    problems
}

fn print(report: &Value) -> Result<(), Failure> {
    let number = |key: &str| report[key].as_u64();
    let size = |key: &str| number(key).map_or("unknown".to_owned(), output::bytes);
    let word = |key: &str| report[key].as_str().unwrap_or("none").to_owned();
    let speed = report["memory_read_gb_per_s"].as_f64();
    let speed = speed.map_or(String::new(), |speed| format!(", read at {speed:.1} GB/s"));
    let packages = number("packages").unwrap_or_default();
    let lines = [
        ("version", word("version")),
        ("instructions", word("isa")),
        ("threads", number("threads").unwrap_or_default().to_string()),
        (
            "memory",
            format!("{}, {} free{speed}", size("memory_bytes"), size("memory_available_bytes")),
        ),
        ("data folder", word("home")),
        ("configuration", word("config")),
        ("packages", format!("{packages}, {}", size("package_bytes"))),
        ("downloads", size("download_bytes")),
        ("disk", format!("{} free", size("free_bytes"))),
    ];
    lines.iter().try_for_each(|(what, value)| output::line(&format!("{what:<14} {value}")))
}
