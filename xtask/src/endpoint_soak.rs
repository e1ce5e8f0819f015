//! `shoal up` for minutes under clients that behave badly: idle connections, disconnects, slow
//! readers, requests that never end, bodies that are no JSON.
//!
//! Afterwards every slot is free, nothing was answered with a 5xx, every whole answer was whole,
//! and the memory is what it was once caches were full.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::check::Outcome;
use crate::shell::{self, TaskError};
use crate::up::{self, Up};

/// Arguments of this part.
#[derive(Debug, clap::Args)]
pub(crate) struct EndpointArgs {
    /// How long the endpoint is tried
    #[arg(long, default_value_t = 600)]
    endpoint_s: u32,
    /// The program; the one that developers build unless given
    #[arg(long)]
    program: Option<PathBuf>,
    /// Leave out everything else
    #[arg(long)]
    pub(crate) endpoint_only: bool,
}

const IDLE: usize = 256;
const ACTIVE: u64 = 16;
/// Growth of memory from the end of the warm-up to the end, in percent.
const GROWTH_MAX: f64 = 2.0;
/// Small, so that it is full when the warm-up ends.
const KV_CACHE_MIB: &str = "16";
/// How often memory is looked at.
const LOOK_AFTER: Duration = Duration::from_secs(1);
const READ_MAX: Duration = Duration::from_secs(120);
const FREE_MAX: Duration = Duration::from_secs(30);

pub(crate) fn run(args: &EndpointArgs) -> Result<Outcome, TaskError> {
    let folder = shell::root().join("target/soak");
    let program = args.program.clone().map_or_else(up::build, Ok)?;
    let options = ["--kv-cache-mib", KV_CACHE_MIB];
    let up = Up::start_with(&program, &folder.join("home"), &[Path::new("shoal-tiny")], &options)?;
    let address = up.url.trim_start_matches("http://").to_owned();
    let time = Duration::from_secs(args.endpoint_s.into());
    let (begun, tally) = (Instant::now(), Tally::default());
    let is_over = || begun.elapsed() >= time;
    let memory = std::thread::scope(|scope| {
        scope.spawn(|| idle(&address, &is_over));
        for seed in 0..ACTIVE {
            let (address, is_over, tally) = (&address, &is_over, &tally);
            scope.spawn(move || Client { address, tally, random: Random(seed + 1) }.run(is_over));
        }
        let mut memory = Vec::new();
        while !is_over() {
            std::thread::sleep(LOOK_AFTER);
            memory.push(resident_kib(up.id()));
        }
        memory
    });
    freed(&address)?;
    let growth = growth(&memory);
    let tally = tally.0.into_inner().unwrap_or_default();
    let last = memory.last().copied().unwrap_or_default();
    println!("{tally:?}; memory {last} KiB, {growth:+.2} % after the warm-up");
    match () {
        () if tally.errors > 0 => {
            Err(TaskError::Refused(format!("{} answers of 5xx", tally.errors)))
        }
        () if tally.broken > 0 => {
            Err(TaskError::Refused(format!("{} broken answers", tally.broken)))
        }
        () if tally.whole == 0 => Err(TaskError::Refused("no answer at all".to_owned())),
        () if growth > GROWTH_MAX => {
            Err(TaskError::Refused(format!("memory grew by {growth:.2} %, limit {GROWTH_MAX}")))
        }
        () => Ok(Outcome::Done),
    }
}

/// How responses ended.
#[derive(Debug, Default)]
struct Counts {
    whole: u64,
    streams: u64,
    left: u64,
    refused: u64,
    full: u64,
    errors: u64,
    broken: u64,
}

#[derive(Default)]
struct Tally(Mutex<Counts>);

impl Tally {
    fn add(&self, count: impl FnOnce(&mut Counts)) {
        if let Ok(mut counts) = self.0.lock() {
            count(&mut counts);
        }
    }
}

/// Connections on which nothing happens. Those that the endpoint closes are opened again.
fn idle(address: &str, is_over: &impl Fn() -> bool) {
    let mut open: Vec<TcpStream> = Vec::new();
    while !is_over() {
        open.retain(|stream| {
            // Nothing to read yet, or the end.
            let quiet = stream.set_nonblocking(true).is_ok();
            quiet
                && stream.peek(&mut [0]).is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
        });
        while open.len() < IDLE {
            let Ok(stream) = TcpStream::connect(address) else { break };
            open.push(stream);
        }
        std::thread::sleep(LOOK_AFTER);
    }
}

/// One who asks, one thing after the other.
struct Client<'a> {
    address: &'a str,
    tally: &'a Tally,
    random: Random,
}

impl Client<'_> {
    fn run(mut self, is_over: &impl Fn() -> bool) {
        while !is_over() {
            // A connection that breaks is what this is about.
            let _ = match self.random.below(20) {
                0..=7 => self.whole(),
                8..=11 => self.stream(),
                12..=14 => self.leave(),
                15 => self.slow(),
                16 => self.never_ends(),
                _ => self.malformed(),
            };
        }
    }

    fn ask(&mut self, stream: bool) -> String {
        let (words, tokens) = (self.random.below(60), 1 + self.random.below(64));
        let prompt =
            format!("Once {} ", self.random.below(1 << 30)) + &"upon a time ".repeat(words);
        let prompt = prompt.trim_end();
        format!("{{\"prompt\":\"{prompt}\",\"max_tokens\":{tokens},\"stream\":{stream}}}")
    }

    fn send(&self, body: &[u8]) -> std::io::Result<TcpStream> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(READ_MAX))?;
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        Ok(stream)
    }

    /// Reads a response to its end; its status and all of it.
    fn read(&self, mut stream: TcpStream) -> std::io::Result<(u16, String)> {
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status = text.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0);
        self.tally.add(|counts| match status {
            429 => counts.full += 1,
            500.. => counts.errors += 1,
            400.. => counts.refused += 1,
            _ => {}
        });
        Ok((status, text))
    }

    fn whole(&mut self) -> std::io::Result<()> {
        let ask = self.ask(false);
        let (status, text) = self.read(self.send(ask.as_bytes())?)?;
        self.tally.add(|counts| match status {
            200 if text.contains("\"finish_reason\"") => counts.whole += 1,
            429 => {}
            _ => counts.broken += 1,
        });
        Ok(())
    }

    fn stream(&mut self) -> std::io::Result<()> {
        let ask = self.ask(true);
        let (status, text) = self.read(self.send(ask.as_bytes())?)?;
        self.tally.add(|counts| match status {
            200 if text.contains("data: [DONE]") => counts.streams += 1,
            429 => {}
            _ => counts.broken += 1,
        });
        Ok(())
    }

    /// Goes away in the middle.
    fn leave(&mut self) -> std::io::Result<()> {
        let ask = self.ask(true);
        let mut stream = self.send(ask.as_bytes())?;
        let mut bytes = vec![0; 1 + self.random.below(2000)];
        let _ = stream.read(&mut bytes)?;
        self.tally.add(|counts| counts.left += 1);
        Ok(())
    }

    /// Reads a byte at a time, and leaves before the end.
    fn slow(&mut self) -> std::io::Result<()> {
        let ask = self.ask(true);
        let mut stream = self.send(ask.as_bytes())?;
        for _ in 0..self.random.below(200) {
            if stream.read(&mut [0])? == 0 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.tally.add(|counts| counts.left += 1);
        Ok(())
    }

    /// Sends a part of a request, and then nothing.
    fn never_ends(&mut self) -> std::io::Result<()> {
        let ask = self.ask(true);
        let request = format!(
            "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{ask}",
            ask.len()
        );
        let mut stream = TcpStream::connect(self.address)?;
        stream.write_all(&request.as_bytes()[..self.random.below(request.len())])?;
        std::thread::sleep(Duration::from_millis(self.random.below(3000) as u64));
        self.tally.add(|counts| counts.left += 1);
        Ok(())
    }

    /// A body with some bytes changed.
    fn malformed(&mut self) -> std::io::Result<()> {
        let mut ask = self.ask(false).into_bytes();
        for _ in 0..1 + self.random.below(8) {
            let at = self.random.below(ask.len());
            ask[at] = self.random.below(256) as u8;
        }
        let (status, _) = self.read(self.send(&ask)?)?;
        self.tally.add(|counts| counts.broken += u64::from(status == 0));
        Ok(())
    }
}

/// Waits until nothing is computed and nobody waits.
fn freed(address: &str) -> Result<(), TaskError> {
    let begun = Instant::now();
    loop {
        let text = metrics(address).unwrap_or_default();
        let sum = |name: &str| -> Option<f64> {
            let lines = text.lines().filter(|line| line.starts_with(name));
            let values = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            let values: Vec<f64> = values.collect();
            (!values.is_empty()).then(|| values.iter().sum())
        };
        let names =
            ["vllm:num_requests_running", "vllm:num_requests_waiting", "shoal_requests_open"];
        if names.iter().all(|name| sum(name) == Some(0.0)) {
            return Ok(());
        }
        if begun.elapsed() > FREE_MAX {
            return Err(TaskError::Refused("a slot is not freed".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn metrics(address: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Percent from the second tenth of the time to the last one, medians.
fn growth(memory: &[u64]) -> f64 {
    let median = |part: &[u64]| {
        let mut part = part.to_vec();
        part.sort_unstable();
        part.get(part.len() / 2).copied().unwrap_or(1) as f64
    };
    let tenth = memory.len() / 10;
    let before = median(&memory[tenth..2 * tenth]);
    (median(&memory[memory.len() - tenth..]) / before - 1.0) * 100.0
}

fn resident_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Numbers without a pattern (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn growth_is_counted_after_the_warm_up() {
        let mut memory = vec![1000; 100];
        memory[..10].fill(1);
        assert!(growth(&memory).abs() < 1e-9);
        memory[90..].fill(1030);
        assert!((growth(&memory) - 3.0).abs() < 1e-9);
    }
}
