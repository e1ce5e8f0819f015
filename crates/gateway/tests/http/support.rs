//! A model of words, an endpoint in front of it, a client.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use shoal_base::{
    Digest, EventSink, FinishReason, Flow, Generate, GenerateError, Generation, Grammar, ModelCard,
    PackageId, Prompt, Request, StopCause, Timings, TokenEvent, TokenId, TokenLogprob, ToolCalls,
    ToolFormat, Usage,
};
use shoal_gateway::{
    ApiKeys, Gateway, GatewayOptions, KeptAnswers, Load, Models, Offer, OpenError,
};

pub(crate) const WAIT_MAX: Duration = Duration::from_secs(30);

/// Says `w0 w1 w2 …`.
pub(crate) struct Mock {
    pub(crate) card: ModelCard,
    /// Words of an answer without a limit.
    pub(crate) words: usize,
    /// The words, if not `w0 w1 …`.
    pub(crate) script: Option<Vec<&'static str>>,
    /// Rest after each word.
    pub(crate) rest: Duration,
    /// What becomes of every request, if not an answer.
    pub(crate) failure: Option<GenerateError>,
    /// What breaks an answer after its words.
    pub(crate) fault: Option<GenerateError>,
    /// Why complete answers end.
    pub(crate) cause: StopCause,
    pub(crate) running: Arc<AtomicUsize>,
    pub(crate) requests: Mutex<Vec<Request>>,
}

struct Cancel(Arc<AtomicBool>);

impl Generation for Cancel {
    fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Default for Mock {
    fn default() -> Self {
        let card = ModelCard {
            name: "mock".to_owned(),
            package: PackageId(Digest([7; 32])),
            vocab_count: 256,
            context_tokens: 1000,
            embedding_width: 2,
            chat: true,
            tool_calls: Some(ToolCalls {
                format: ToolFormat::Hermes,
                marker: None,
                separator: None,
            }),
        };
        Self {
            card,
            words: 3,
            script: None,
            rest: Duration::ZERO,
            failure: None,
            fault: None,
            cause: StopCause::EndOfTurn,
            running: Arc::default(),
            requests: Mutex::default(),
        }
    }
}

impl Generate for Mock {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn submit(
        &self,
        request: Request,
        mut sink: Box<dyn EventSink>,
    ) -> Result<Arc<dyn Generation>, GenerateError> {
        if request.sampling.temperature < 0.0 {
            let rule = "is in 0..=100".to_owned();
            return Err(GenerateError::Parameter { name: "temperature", rule });
        }
        if request.stop.tokens_max == Some(0) {
            let rule = "is at least 1".to_owned();
            return Err(GenerateError::Parameter { name: "tokens_max", rule });
        }
        if let Some(asked) = request.stop.tokens_max.filter(|asked| *asked > 895) {
            let (prompt_tokens, answer_tokens) = (5, asked.into());
            let limit_tokens = 900;
            return Err(GenerateError::ContextLength {
                prompt_tokens,
                answer_tokens,
                limit_tokens,
            });
        }
        self.requests.lock().unwrap().push(request.clone());
        let cancelled = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&cancelled);
        let running = Arc::clone(&self.running);
        let script = self.script.clone();
        let (words, rest, cause) = (self.words, self.rest, self.cause);
        let speech = Speech { words, script, rest, fault: self.fault.clone(), cause };
        let failure = self.failure.clone();
        running.fetch_add(1, Ordering::SeqCst);
        std::thread::spawn(move || {
            match failure {
                Some(error) => drop(sink.event(TokenEvent::Failed(error))),
                None => speak(&request, &mut *sink, &seen, speech),
            }
            running.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Arc::new(Cancel(cancelled)))
    }

    fn embed(&self, inputs: &[Prompt]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let one = |input| Ok(vec![self.tokenize(input)?.len() as f32, 0.5]);
        inputs.iter().map(one).collect()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<TokenId>, GenerateError> {
        Ok(match prompt {
            Prompt::Text(text) => text.bytes().map(|byte| TokenId(byte.into())).collect(),
            Prompt::Tokens(ids) => ids.clone(),
            Prompt::Chat { messages, .. } => messages.iter().map(|_| TokenId(1)).collect(),
        })
    }

    fn detokenize(&self, ids: &[TokenId]) -> Result<String, GenerateError> {
        ids.iter()
            .map(|id| {
                let byte = u8::try_from(id.0).map_err(|_| GenerateError::Parameter {
                    name: "tokens",
                    rule: "are in the vocabulary".to_owned(),
                })?;
                Ok(char::from(byte))
            })
            .collect()
    }

    fn check_grammar(&self, _: &Grammar) -> Result<(), GenerateError> {
        Ok(())
    }
}

/// What is said.
struct Speech {
    words: usize,
    script: Option<Vec<&'static str>>,
    rest: Duration,
    fault: Option<GenerateError>,
    cause: StopCause,
}

fn speak(request: &Request, sink: &mut dyn EventSink, cancelled: &AtomicBool, speech: Speech) {
    let Speech { words, script, rest, fault, cause } = speech;
    let words = script.as_ref().map_or(words, Vec::len);
    let limit = request.stop.tokens_max.map_or(usize::MAX, |limit| limit as usize);
    let mut reason = if limit < words { FinishReason::Length } else { FinishReason::Stop(cause) };
    let mut flow = sink.event(TokenEvent::Started { prompt_tokens: 5, cached_tokens: 2 });
    let mut said = 0;
    for index in 0..words.min(limit) {
        if flow == Flow::Stop || cancelled.load(Ordering::SeqCst) {
            reason = FinishReason::Cancelled;
            break;
        }
        let text = match &script {
            Some(script) => script[index].to_owned(),
            None => format!("w{index} "),
        };
        let scored = |id, logprob| {
            let bytes = text.clone().into_bytes();
            TokenLogprob { id: TokenId(id), bytes, logprob }
        };
        let count = request.logprobs.map(|logprobs| logprobs.top_count);
        flow = sink.event(TokenEvent::Token {
            id: TokenId(index as u32 % 256),
            text: text.clone(),
            logprob: count.map(|_| scored(1, -0.25)),
            top: (0..count.unwrap_or(0)).map(|id| scored(id.into(), -1.0)).collect(),
        });
        said += 1;
        std::thread::sleep(rest);
    }
    let usage = Usage { prompt_tokens: 5, cached_tokens: 2, completion_tokens: said };
    let text = if script.is_some() { "" } else { "end" }.to_owned();
    let timings = Timings::default();
    let last = match fault {
        Some(error) => TokenEvent::Failed(error),
        None => TokenEvent::Finished { reason, text, usage, timings },
    };
    let _ = sink.event(last);
}

/// One model.
struct One(Arc<Mock>);

impl Models for One {
    fn offers(&self) -> Vec<Offer> {
        let load = Load { running: 1, waiting: 2, kv_used: 0.5, prefix_queries: 9, prefix_hits: 4 };
        let card = self.0.card.clone();
        vec![Offer { name: card.name.clone(), card: Some(card), load: Some(load) }]
    }

    fn open(&self, name: &str) -> Result<Arc<dyn Generate>, OpenError> {
        match name {
            "mock" => Ok(Arc::clone(&self.0) as Arc<dyn Generate>),
            _ => Err(OpenError::Unknown { name: name.to_owned() }),
        }
    }
}

/// Answers kept for as long as the test.
#[derive(Default)]
pub(crate) struct Memory(Mutex<HashMap<[u8; 32], Vec<u8>>>);

impl Memory {
    /// Takes the end off everything that is kept.
    pub(crate) fn damage(&self) {
        self.0.lock().unwrap().values_mut().for_each(|bytes| bytes.truncate(20));
    }
}

impl KeptAnswers for Memory {
    fn find(&self, key: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn keep(&self, key: &[u8; 32], answer: &[u8]) -> std::io::Result<()> {
        self.0.lock().unwrap().insert(*key, answer.to_vec());
        Ok(())
    }
}

/// An endpoint and a client.
pub(crate) struct Server {
    pub(crate) gateway: Gateway,
    pub(crate) mock: Arc<Mock>,
    pub(crate) kept: Arc<Memory>,
    agent: ureq::Agent,
}

/// A whole response.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) text: String,
}

impl Said {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The data of each event of a stream.
    pub(crate) fn events(&self) -> Vec<String> {
        let lines = self.text.lines();
        lines.filter_map(|line| Some(line.strip_prefix("data: ")?.to_owned())).collect()
    }

    /// Refused in the usual form, with this code.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        let error = &self.json()["error"];
        assert_eq!(error["code"], code, "{self:?}");
        assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{self:?}");
        assert!(error["type"].is_string(), "{self:?}");
    }
}

impl Server {
    pub(crate) fn start(mock: Mock) -> Self {
        Self::start_with(mock, None)
    }

    pub(crate) fn start_with(mock: Mock, keys: Option<ApiKeys>) -> Self {
        Self::start_again(mock, keys, Arc::default())
    }

    /// With what another one kept.
    pub(crate) fn start_again(mock: Mock, keys: Option<ApiKeys>, kept: Arc<Memory>) -> Self {
        Self::start_from(mock, kept, |options| options.keys = keys)
    }

    /// Waits for its clients no longer than this.
    pub(crate) fn start_impatient(mock: Mock, patience: Duration) -> Self {
        Self::start_from(mock, Arc::default(), |options| options.patience = patience)
    }

    fn start_from(mock: Mock, kept: Arc<Memory>, change: impl FnOnce(&mut GatewayOptions)) -> Self {
        let mock = Arc::new(mock);
        let mut options = GatewayOptions::new(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        options.hosts = vec!["box.lan".to_owned()];
        options.kept = Some(Arc::clone(&kept) as Arc<dyn KeptAnswers>);
        change(&mut options);
        let gateway = Gateway::start(Arc::new(One(Arc::clone(&mock))), options).unwrap();
        let config = ureq::Agent::config_builder().http_status_as_error(false).proxy(None);
        let agent = config.timeout_global(Some(WAIT_MAX)).build().new_agent();
        Self { gateway, mock, kept, agent }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gateway.address())
    }

    pub(crate) fn get(&self, path: &str) -> Said {
        said(self.agent.get(self.url(path)).call().unwrap())
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Said {
        self.post_text(path, &body.to_string())
    }

    pub(crate) fn post_text(&self, path: &str, body: &str) -> Said {
        self.post_raw(path, body.as_bytes())
    }

    pub(crate) fn post_raw(&self, path: &str, body: &[u8]) -> Said {
        said(self.agent.post(self.url(path)).send(body).unwrap())
    }

    pub(crate) fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Said {
        let mut request = self.agent.post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        said(request.send(body.to_string()).unwrap())
    }

    /// Waits until so many whole answers are kept.
    #[track_caller]
    pub(crate) fn kept_count(&self, count: usize) {
        let begun = Instant::now();
        let whole = || {
            let kept = self.kept.0.lock().unwrap();
            kept.values()
                .filter(|bytes| bytes.windows(9).any(|part| part == b"\"status\":"))
                .count()
        };
        while whole() != count {
            assert!(begun.elapsed() < WAIT_MAX, "no answer is kept");
            std::thread::yield_now();
        }
    }

    /// Bytes as they are, on a connection of their own.
    pub(crate) fn connect(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.gateway.address()).unwrap();
        stream.set_read_timeout(Some(WAIT_MAX)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    /// What comes back for bytes, until the server closes.
    pub(crate) fn raw(&self, bytes: &[u8]) -> String {
        let (mut stream, mut answer) = (self.connect(b""), Vec::new());
        // A server that closes before it has read everything may reset.
        let _ = stream.write_all(bytes);
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Waits until no answer is being made.
    #[track_caller]
    pub(crate) fn idle(&self) {
        let begun = Instant::now();
        while self.mock.running.load(Ordering::SeqCst) > 0 {
            assert!(begun.elapsed() < WAIT_MAX, "a slot is not freed");
            std::thread::yield_now();
        }
    }
}

fn said(response: ureq::http::Response<ureq::Body>) -> Said {
    let (head, mut body) = response.into_parts();
    let text = body.read_to_string().unwrap();
    Said { status: head.status.as_u16(), headers: head.headers, text }
}

/// A request as bytes.
pub(crate) fn post_bytes(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{headers}\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}
