//! The words of the program `netlab`, and what it prints.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the terminal is the interface of this program"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead as _, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;
use shoal_netlab::{CLOCK, DISK, Fault, Lab, LabConfig, NatKind, Process, Profile, TimedFault};

/// How often it is seen whether something is due.
const LOOK_AFTER: Duration = Duration::from_millis(2);

/// Real processes on networks that are made up.
#[derive(Debug, Parser)]
#[command(name = "netlab")]
enum Words {
    /// Run a command on every node of a network
    Run(Box<Run>),
    /// Print the profiles
    Profiles,
    /// Say whether labs can run here
    Check,
}

/// Arguments of `netlab run`.
#[derive(Debug, clap::Args)]
struct Run {
    /// What the network is like: lan, metro, eu, us, world or home
    #[arg(long, default_value = "lan")]
    profile: Named,

    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 2)]
    nodes: usize,

    /// What loss, jitter and the ports of translators follow from
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,

    /// Put a translator in front of a node: full-cone, port-restricted or symmetric
    #[arg(long, value_name = "NODE=KIND")]
    nat: Vec<NatAt>,

    /// Let the clock of a node be wrong by so many seconds, in programs that do so for tests
    #[arg(long, value_name = "NODE=SECONDS", allow_hyphen_values = true)]
    clock: Vec<NumberAt>,

    /// Let each read of a node take so many milliseconds more, in programs that do so for tests
    #[arg(long, value_name = "NODE=MILLISECONDS")]
    disk: Vec<NumberAt>,

    /// Let something go wrong: kill:N, freeze:N, thaw:N, cut:N, cut:N-M, heal:N, heal:N-M, heal
    #[arg(long, value_name = "SECONDS=FAULT")]
    at: Vec<TimedFault>,

    /// End everything when the command of this node ends; else when all have ended
    #[arg(long, value_name = "NODE")]
    until: Option<usize>,

    /// End everything after so long, as a failure
    #[arg(long, value_name = "SECONDS")]
    limit_s: Option<u64>,

    /// File for what happened, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,

    /// What to run
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// A profile by its name.
#[derive(Clone, Debug)]
struct Named(Profile);

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let names = Profile::ALL.map(|profile| profile.name).join(", ");
        Profile::named(text).map(Self).ok_or(names)
    }
}

/// A translator and where it is.
#[derive(Clone, Copy, Debug)]
struct NatAt(usize, NatKind);

impl FromStr for NatAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (node, kind) = text.split_once('=').ok_or("NODE=KIND")?;
        Ok(Self(node.parse().map_err(|_| "NODE is a number")?, kind.parse()?))
    }
}

/// A number and where it counts.
#[derive(Clone, Copy, Debug)]
struct NumberAt(usize, i64);

impl FromStr for NumberAt {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rule = "NODE=NUMBER";
        let (node, number) = text.split_once('=').ok_or(rule)?;
        Ok(Self(node.parse().map_err(|_| rule)?, number.parse().map_err(|_| rule)?))
    }
}

pub(crate) fn main() -> ExitCode {
    let ended = match Words::parse() {
        Words::Run(run) => run.run(),
        Words::Profiles => {
            profiles();
            Ok(ExitCode::SUCCESS)
        }
        Words::Check => Ok(check()),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("netlab: {error}");
        ExitCode::from(2)
    })
}

fn profiles() {
    println!("name   round trip  jitter  loss    up          down        translator");
    for profile in Profile::ALL {
        let Profile { name, round_trip, jitter, loss, up, down, nat } = profile;
        let nat = nat.map_or_else(|| "none".to_owned(), |nat| format!("node 0 {nat}"));
        let (trip, jitter) = (round_trip.as_secs_f64() * 1e3, jitter.as_secs_f64() * 1e3);
        let (up, down, loss) = (up / 1_000_000, down / 1_000_000, loss * 100.0);
        let rates = format!("{up:>5} Mbit/s {down:>5} Mbit/s");
        println!("{name:<6} {trip:>7} ms {jitter:>4} ms {loss:>4} % {rates}  {nat}");
    }
}

fn check() -> ExitCode {
    match shoal_netlab::missing() {
        None => {
            println!("labs can run here; wrong clocks and slow disks in builds for tests only");
            ExitCode::SUCCESS
        }
        Some(missing) => {
            println!("labs cannot run here: {missing}");
            ExitCode::FAILURE
        }
    }
}

impl Run {
    fn run(&self) -> Result<ExitCode, Box<dyn Error>> {
        let mut config = LabConfig::new(&self.profile.0, self.nodes);
        config.seed = self.seed;
        for NatAt(node, kind) in &self.nat {
            let access = config.nodes.get_mut(*node);
            access.ok_or_else(|| self.no_node(*node))?.nat = Some(*kind);
        }
        let wrong = self.clock.iter().chain(&self.disk).map(|NumberAt(node, _)| *node);
        let named = self.at.iter().flat_map(|timed| timed.fault.nodes()).chain(self.until);
        let named = named.chain(wrong);
        if let Some(node) = named.into_iter().find(|node| *node >= self.nodes) {
            return Err(self.no_node(node).into());
        }
        let interrupted = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&interrupted);
        ctrlc::set_handler(move || asked.store(true, Ordering::SeqCst))?;
        let lab = Lab::start(&config)?;
        let folder = tempfile::tempdir()?;
        let (mut processes, mut readers) = (Vec::new(), Vec::new());
        for node in 0..self.nodes {
            let mut process = lab.node(node).spawn(self.command(&lab, node, &folder))?;
            readers.push(copy(node, process.stdout.take(), |line| println!("{line}")));
            readers.push(copy(node, process.stderr.take(), |line| eprintln!("{line}")));
            processes.push(process);
        }
        let end = self.watch(&lab, &processes, &interrupted)?;
        let (report, summary) = (report(&lab, &end), end.summary(&lab));
        drop((processes, lab));
        // They end with the last process that could write, wherever it hid in the lab.
        readers.into_iter().for_each(|reader| drop(reader.join()));
        if let Some(path) = &self.report {
            std::fs::write(path, serde_json::to_vec_pretty(&report)?)?;
        }
        eprintln!("netlab: {summary}");
        Ok(if end.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn no_node(&self, node: usize) -> String {
        format!("no node {node}, there are {} from 0", self.nodes)
    }

    fn command(&self, lab: &Lab, node: usize, folder: &tempfile::TempDir) -> Command {
        let [program, arguments @ ..] = &self.command[..] else {
            unreachable!("the command is required");
        };
        let public = (0..lab.count()).map(|node| lab.node(node).public_address().to_string());
        let mut command = lab.node(node).command(program);
        command
            .args(arguments)
            .env("NETLAB_NODE", node.to_string())
            .env("NETLAB_NODES", lab.count().to_string())
            .env("NETLAB_ADDRESS", lab.node(node).address().to_string())
            .env("NETLAB_ADDRESSES", public.collect::<Vec<_>>().join(","))
            .env("NETLAB_PROFILE", self.profile.0.name)
            .env("NETLAB_DIR", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, all) in [(CLOCK, &self.clock), (DISK, &self.disk)] {
            for NumberAt(_, number) in all.iter().filter(|NumberAt(at, _)| *at == node) {
                command.env(name, number.to_string());
            }
        }
        command
    }

    /// Waits for the end, and lets things go wrong meanwhile.
    fn watch(
        &self,
        lab: &Lab,
        processes: &[Process],
        interrupted: &AtomicBool,
    ) -> std::io::Result<End> {
        let started = Instant::now();
        let mut faults = self.at.clone();
        faults.sort_by_key(|timed| timed.after);
        let mut faults = faults.into_iter().peekable();
        let mut end = End::default();
        loop {
            while let Some(timed) = faults.next_if(|timed| timed.after <= started.elapsed()) {
                lab.apply(timed.fault);
                if let Fault::Kill(node) = timed.fault {
                    end.killed.push(node);
                }
                eprintln!("netlab: {:.3} s {:?}", started.elapsed().as_secs_f64(), timed.fault);
            }
            for (node, process) in processes.iter().enumerate() {
                if let Some(status) = process.try_wait()? {
                    end.statuses.entry(node).or_insert(status);
                }
            }
            let is_over = match self.until {
                Some(node) => end.statuses.contains_key(&node),
                None => end.statuses.len() == processes.len(),
            };
            let limit = self.limit_s.map(Duration::from_secs);
            end.is_cut = interrupted.load(Ordering::SeqCst)
                || limit.is_some_and(|limit| started.elapsed() > limit);
            if is_over || end.is_cut {
                end.seconds = started.elapsed().as_secs_f64();
                return Ok(end);
            }
            std::thread::sleep(LOOK_AFTER);
        }
    }
}

/// How a run ended.
#[derive(Debug, Default)]
struct End {
    /// Of those that ended by themselves or by a fault.
    statuses: BTreeMap<usize, ExitStatus>,
    killed: Vec<usize>,
    is_cut: bool,
    seconds: f64,
}

impl End {
    /// Whether every command that ended and was not killed on purpose succeeded.
    fn is_success(&self) -> bool {
        let failed = |(node, status): (&usize, &ExitStatus)| {
            !status.success() && !self.killed.contains(node)
        };
        !self.is_cut && !self.statuses.iter().any(failed)
    }

    fn summary(&self, lab: &Lab) -> String {
        let late = lab.lateness().summary();
        let how = if self.is_cut { "cut short" } else { "ended" };
        format!(
            "{how} after {:.3} s; {} packets, late by {} us (median), {} us (99 %), {} us (most)",
            self.seconds, late.count, late.p50_us, late.p99_us, late.max_us,
        )
    }
}

fn report(lab: &Lab, end: &End) -> serde_json::Value {
    use std::os::unix::process::ExitStatusExt as _;
    let nodes = (0..lab.count()).map(|node| {
        let status = end.statuses.get(&node);
        json!({
            "node": node,
            "address": lab.node(node).address().to_string(),
            "public_address": lab.node(node).public_address().to_string(),
            "exit_code": status.and_then(ExitStatus::code),
            "signal": status.and_then(ExitStatus::signal),
        })
    });
    let pairs = (0..lab.count()).flat_map(|from| (0..lab.count()).map(move |to| (from, to)));
    let links = pairs
        .filter(|(from, to)| lab.counts(*from, *to).sent > 0)
        .map(|(from, to)| json!({ "from": from, "to": to, "packets": lab.counts(from, to) }));
    json!({
        "seconds": end.seconds,
        "cut_short": end.is_cut,
        "nodes": nodes.collect::<Vec<_>>(),
        "links": links.collect::<Vec<_>>(),
        "stray_packets": lab.stray_packets(),
        "lateness": lab.lateness().summary(),
    })
}

/// Prints each line with the number of its node before it.
fn copy(
    node: usize,
    from: Option<impl Read + Send + 'static>,
    print: impl Fn(String) + Send + 'static,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut lines = BufReader::new(from.expect("it is piped"));
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            print(format!("[{node}] {}", String::from_utf8_lossy(&line).trim_end_matches('\n')));
            line.clear();
        }
    })
}
