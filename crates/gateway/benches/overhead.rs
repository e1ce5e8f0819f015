//! What the endpoint adds to a request: a model that answers at once, asked over real sockets at a
//! fixed rate.
//!
//! The load is open: request `i` is meant for the time `i / RATE`, and its latency counts from
//! then, so an endpoint that falls behind cannot hide it. Clients and endpoint share the cores, so
//! `/health`, which costs the endpoint next to nothing, is measured in turn with the others: it is
//! the floor under which this machine and its clients let no request come. What is the endpoint's
//! own is beside it: how long its threads ran for a request, and how long they waited for a core.
#![expect(clippy::print_stdout, reason = "its output is the measurement")]
#![expect(clippy::unwrap_used, reason = "a bench ends where something is wrong")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use shoal_base::{
    Digest, EventSink, FinishReason, Flow, Generate, GenerateError, Generation, Grammar, ModelCard,
    PackageId, Prompt, Request, StopCause, Timings, TokenEvent, TokenId, Usage,
};
use shoal_gateway::{Gateway, GatewayOptions, Models, Offer, OpenError};

/// Requests per second, for how long, and how often.
const RATE: u32 = 1000;
const TIME: Duration = Duration::from_secs(5);
const ROUNDS: usize = 5;
/// Not measured.
const WARM_UP: Duration = Duration::from_secs(2);
/// Connections, each with a thread of its own.
const CLIENTS: u32 = 64;
/// Tokens of an answer.
const TOKENS: u32 = 16;

/// Answers at once.
struct Instantly(ModelCard);

struct Done;

impl Generation for Done {
    fn cancel(&self) {}
}

impl Generate for Instantly {
    fn card(&self) -> &ModelCard {
        &self.0
    }

    fn submit(
        &self,
        _: Request,
        mut sink: Box<dyn EventSink>,
    ) -> Result<Arc<dyn Generation>, GenerateError> {
        let mut flow = sink.event(TokenEvent::Started { prompt_tokens: 9, cached_tokens: 0 });
        for index in 0..TOKENS {
            let id = TokenId(index);
            let text = format!("w{index} ");
            if flow == Flow::Continue {
                flow = sink.event(TokenEvent::Token { id, text, logprob: None, top: Vec::new() });
            }
        }
        let usage = Usage { prompt_tokens: 9, cached_tokens: 0, completion_tokens: TOKENS };
        let reason = FinishReason::Stop(StopCause::EndOfTurn);
        let (text, timings) = (String::new(), Timings::default());
        let _ = sink.event(TokenEvent::Finished { reason, text, usage, timings });
        Ok(Arc::new(Done))
    }

    fn embed(&self, _: &[Prompt]) -> Result<Vec<Vec<f32>>, GenerateError> {
        Err(GenerateError::ShuttingDown)
    }

    fn tokenize(&self, _: &Prompt) -> Result<Vec<TokenId>, GenerateError> {
        Err(GenerateError::ShuttingDown)
    }

    fn detokenize(&self, _: &[TokenId]) -> Result<String, GenerateError> {
        Err(GenerateError::ShuttingDown)
    }

    fn check_grammar(&self, _: &Grammar) -> Result<(), GenerateError> {
        Ok(())
    }
}

struct One(Arc<Instantly>);

impl Models for One {
    fn offers(&self) -> Vec<Offer> {
        vec![Offer { name: "mock".to_owned(), card: Some(self.0.0.clone()), load: None }]
    }

    fn open(&self, _: &str) -> Result<Arc<dyn Generate>, OpenError> {
        Ok(Arc::clone(&self.0) as Arc<dyn Generate>)
    }

    fn loaded(&self, _: Option<&str>) -> Option<Arc<dyn Generate>> {
        Some(Arc::clone(&self.0) as Arc<dyn Generate>)
    }
}

/// One kind of request.
struct Ask {
    name: &'static str,
    request: Vec<u8>,
    /// What a right answer contains.
    sign: &'static str,
}

impl Ask {
    fn post(name: &'static str, stream: bool, sign: &'static str) -> Self {
        let body = format!(
            "{{\"model\":\"mock\",\"stream\":{stream},\"max_tokens\":{TOKENS},\"messages\":\
             [{{\"role\":\"user\",\"content\":\"{}\"}}]}}",
            "Tell me a story about a fish. ".repeat(20),
        );
        let head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n";
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes();
        Self { name, request, sign }
    }
}

/// Asks and reads the whole response.
fn exchange(stream: &mut BufReader<TcpStream>, ask: &Ask, answer: &mut Vec<u8>) {
    stream.get_mut().write_all(&ask.request).unwrap();
    answer.clear();
    let mut length = None;
    loop {
        let start = answer.len();
        stream.read_until(b'\n', answer).unwrap();
        let line = &answer[start..];
        if let Some(value) = line.to_ascii_lowercase().strip_prefix(b"content-length: ") {
            length = Some(std::str::from_utf8(value).unwrap().trim().parse::<u64>().unwrap());
        }
        if line == b"\r\n" {
            break;
        }
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(answer));
    match length {
        Some(length) => drop(stream.take(length).read_to_end(answer).unwrap()),
        // Chunks, of which the last is empty.
        None => {
            while !answer.ends_with(b"\r\n0\r\n\r\n") {
                assert!(stream.read_until(b'\n', answer).unwrap() > 0);
            }
        }
    }
}

/// Latencies of all requests, sorted.
fn load(address: SocketAddr, ask: &Ask, time: Duration) -> Vec<Duration> {
    let begin = Instant::now() + Duration::from_millis(100);
    let count = (time.as_secs_f64() * f64::from(RATE)) as u32;
    let client = |first: u32| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let (mut stream, mut answer) = (BufReader::new(stream), Vec::new());
        let mut latencies = Vec::new();
        for index in (first..count).step_by(CLIENTS as usize) {
            let intended = begin + Duration::from_secs(1) * index / RATE;
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            exchange(&mut stream, ask, &mut answer);
            latencies.push(intended.elapsed());
            let sign = ask.sign.as_bytes();
            assert!(answer.windows(sign.len()).any(|part| part == sign), "a wrong answer");
        }
        latencies
    };
    let mut all: Vec<Duration> = std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|first| scope.spawn(move || client(first))).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    all.sort();
    all
}

/// How long the endpoint's threads have run, and how long they have waited for a core.
fn threads() -> (Duration, Duration) {
    let (mut ran, mut waited) = (0, 0);
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let task = task.unwrap().path();
        let read = |name: &str| std::fs::read_to_string(task.join(name)).unwrap_or_default();
        if read("comm").starts_with("shoal-gateway") {
            let stat = read("schedstat");
            let mut fields = stat.split(' ').map(|field| field.parse::<u64>().unwrap_or(0));
            ran += fields.next().unwrap_or(0);
            waited += fields.next().unwrap_or(0);
        }
    }
    (Duration::from_nanos(ran), Duration::from_nanos(waited))
}

/// What is reported of a round: quantiles in milliseconds, and the microseconds that the endpoint
/// ran and waited for each request.
const COLUMNS: [&str; 7] = ["p50", "p90", "p99", "p99.9", "max", "ran", "waited"];

fn round(address: SocketAddr, ask: &Ask) -> [f64; COLUMNS.len()] {
    let before = threads();
    let latencies = load(address, ask, TIME);
    let after = threads();
    let part = |part: f64| {
        let index = (latencies.len() as f64 * part) as usize;
        latencies[index.min(latencies.len() - 1)].as_secs_f64() * 1e3
    };
    let each = |time: Duration| time.as_secs_f64() * 1e6 / latencies.len() as f64;
    let (ran, waited) =
        (each(after.0.saturating_sub(before.0)), each(after.1.saturating_sub(before.1)));
    [part(0.5), part(0.9), part(0.99), part(0.999), part(1.0), ran, waited]
}

fn main() {
    let card = ModelCard {
        name: "mock".to_owned(),
        package: PackageId(Digest([7; 32])),
        vocab_count: 256,
        context_tokens: 1000,
        embedding_width: 2,
        chat: true,
        tool_calls: None,
    };
    let options = GatewayOptions::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let gateway = Gateway::start(Arc::new(One(Arc::new(Instantly(card)))), options).unwrap();
    let health = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec();
    let asks = [
        Ask { name: "health", request: health, sign: "ok" },
        Ask::post("whole", false, "w14 w15 "),
        Ask::post("stream", true, "[DONE]"),
    ];
    println!("{RATE} requests/s, {CLIENTS} connections, {TOKENS} tokens per answer");
    println!("{ROUNDS} rounds of {} s each: median (least to most)", TIME.as_secs());
    let mut rounds = asks.each_ref().map(|_| Vec::new());
    asks.iter().for_each(|ask| drop(load(gateway.address(), ask, WARM_UP)));
    for _ in 0..ROUNDS {
        for (ask, rounds) in asks.iter().zip(&mut rounds) {
            rounds.push(round(gateway.address(), ask));
        }
    }
    for (ask, rounds) in asks.iter().zip(&rounds) {
        print!("{:<7}", ask.name);
        for (column, name) in COLUMNS.into_iter().enumerate() {
            let mut values: Vec<f64> = rounds.iter().map(|round| round[column]).collect();
            values.sort_by(f64::total_cmp);
            let (median, most) = (values[ROUNDS / 2], values[ROUNDS - 1]);
            print!(" {name} {median:.3} ({:.3} to {most:.3})", values[0]);
        }
        println!();
    }
    assert!(gateway.stop(Duration::from_secs(5)), "everything was answered");
}
