//! The thread of a head: tokens to rows, rows to logits, logits to tokens and events.
//!
//! Only here are full logits and samplers. The loop says when; this thread says what. A client that
//! has gone is noticed here, and the loop ends its request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Instant;

use shoal_base::{
    EventSink, FinishReason, Flow, GenerateError, PackageId, SharedBytes, Timings, TokenEvent,
    TokenId, Usage,
};
use shoal_engine::{Answer, Head, Next};
use shoal_wire::{ActivationRoots, Frame, FrameHeader, NodeId, RequestId};

use crate::compute::{bytes, elements};
use crate::limits::LOGITS_ROWS;
use crate::ring::Shared;

/// The layer index of faults in final norm and logits.
const HEAD_LAYER: u32 = u32::MAX;

/// A request that was accepted.
pub(crate) struct Asked {
    pub(crate) answer: Box<Answer>,
    pub(crate) sink: Box<dyn EventSink>,
    pub(crate) prompt_tokens: u32,
    pub(crate) arrived: Instant,
}

impl Asked {
    /// Says that the node has stopped.
    pub(crate) fn turn_away(mut self) {
        // Nothing comes after it, whatever the client wants.
        let _ = self.sink.event(TokenEvent::Failed(GenerateError::ShuttingDown));
    }
}

/// What the thread is told.
pub(crate) enum HeadJob {
    /// A request begins.
    Begin { request: RequestId, asked: Box<Asked> },
    /// Embed these tokens and send them.
    Rows { to: NodeId, header: FrameHeader, tokens: Vec<TokenId> },
    /// Choose the token after this row.
    Sample { request: RequestId, position: u32, row: SharedBytes },
    /// The request is over: as its answer ended, as an error says, or because it was cancelled.
    Finish { request: RequestId, error: Option<GenerateError> },
}

/// What the thread says.
#[derive(Debug)]
pub(crate) enum HeadOutput {
    /// Send this.
    Frame { to: NodeId, frame: Frame },
    /// A token was chosen.
    Sampled { request: RequestId, token: TokenId, is_last: bool },
    /// The request is to end now.
    Abort(RequestId),
}

/// The model's ends, and the answers in progress.
pub(crate) struct HeadWorker<F> {
    head: Head,
    package: PackageId,
    answers: BTreeMap<RequestId, Running>,
    logits: Vec<f32>,
    shared: Arc<Shared>,
    say: F,
}

struct Running {
    asked: Asked,
    roots: ActivationRoots,
    admitted: Option<Instant>,
    first_token: Option<Instant>,
    end: Option<Result<(FinishReason, String), GenerateError>>,
}

/// A row whose token is wanted.
struct Wanted {
    request: RequestId,
    position: u32,
    row: SharedBytes,
}

impl<F: Fn(HeadOutput)> HeadWorker<F> {
    pub(crate) fn new(head: Head, package: PackageId, shared: Arc<Shared>, say: F) -> Self {
        Self { head, package, answers: BTreeMap::new(), logits: Vec::new(), shared, say }
    }

    /// Runs until nobody can send jobs any more. Whoever still waits is told then.
    pub(crate) fn run(mut self, jobs: &Receiver<HeadJob>) {
        let mut wanted = Vec::new();
        loop {
            let job = match wanted.is_empty() {
                true => jobs.recv().map_err(|_| TryRecvError::Disconnected),
                false if wanted.len() >= LOGITS_ROWS => Err(TryRecvError::Empty),
                false => jobs.try_recv(),
            };
            match job {
                Ok(HeadJob::Sample { request, position, row }) => {
                    wanted.push(Wanted { request, position, row });
                }
                Ok(other) => {
                    self.sample(&mut wanted);
                    self.take(other);
                }
                Err(TryRecvError::Empty) => self.sample(&mut wanted),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        for (_, running) in std::mem::take(&mut self.answers) {
            running.asked.turn_away();
        }
    }

    fn take(&mut self, job: HeadJob) {
        match job {
            HeadJob::Begin { request, asked } => {
                let roots = ActivationRoots::new(self.package, 0);
                let running =
                    Running { asked: *asked, roots, admitted: None, first_token: None, end: None };
                self.answers.insert(request, running);
            }
            HeadJob::Rows { to, header, tokens } => self.rows(to, header, &tokens),
            HeadJob::Finish { request, error } => self.finish(request, error),
            HeadJob::Sample { .. } => unreachable!("samples are collected before"),
        }
    }

    fn rows(&mut self, to: NodeId, header: FrameHeader, tokens: &[TokenId]) {
        let Some(running) = self.answers.get_mut(&header.request) else {
            return;
        };
        running.admitted.get_or_insert_with(Instant::now);
        let rows = bytes(&self.head.embed(tokens));
        let position = header.position as usize;
        let root = match header.flags & shoal_wire::flags::SHADOW == 0 {
            true => {
                running.roots.truncate(position);
                running.roots.append(&rows, header.width)
            }
            // A copy of rows that are about to be sent: its root must not move ours.
            false => {
                let mut roots = running.roots.clone();
                roots.truncate(position);
                roots.append(&rows, header.width)
            }
        };
        let frame = Frame::new(header, Some(root), SharedBytes::new(rows));
        let frame = frame.expect("rows, width and length are those of the header");
        (self.say)(HeadOutput::Frame { to, frame });
    }

    /// Chooses the tokens of all rows that wait.
    fn sample(&mut self, wanted: &mut Vec<Wanted>) {
        if wanted.is_empty() {
            return;
        }
        let rows: Vec<u16> = wanted.iter().flat_map(|wanted| elements(&wanted.row)).collect();
        let mut logits = std::mem::take(&mut self.logits);
        let unsound = self.head.logits(&rows, &mut logits);
        let all = logits.chunks_exact_mut(self.head.vocab_count());
        for ((wanted, is_unsound), logits) in wanted.drain(..).zip(unsound).zip(all) {
            let Some(running) = self.answers.get_mut(&wanted.request) else {
                continue;
            };
            let request = wanted.request;
            if is_unsound {
                let error =
                    GenerateError::Fault { layer_index: HEAD_LAYER, position: wanted.position };
                running.end = Some(Err(error));
                (self.say)(HeadOutput::Abort(request));
                continue;
            }
            match running.draw(logits) {
                Drawn::Token { token, is_last } => {
                    (self.say)(HeadOutput::Sampled { request, token, is_last });
                }
                Drawn::Nothing => (self.say)(HeadOutput::Abort(request)),
            }
        }
        self.logits = logits;
    }

    fn finish(&mut self, request: RequestId, error: Option<GenerateError>) {
        let Some(mut running) = self.answers.remove(&request) else {
            return;
        };
        let now = Instant::now();
        let (usage, timings) = (running.usage(), running.timings(now));
        let cancelled = || Ok((FinishReason::Cancelled, running.asked.answer.finish()));
        let end = running.end.take().or(error.map(Err)).unwrap_or_else(cancelled);
        let event = match end {
            Ok((reason, text)) => TokenEvent::Finished { reason, text, usage, timings },
            Err(error) => TokenEvent::Failed(error),
        };
        // The count falls first: whoever sees the end may ask again at once.
        self.shared.close_one();
        // Nothing comes after it, whatever the client wants.
        let _ = running.asked.sink.event(event);
    }
}

/// What became of a row.
enum Drawn {
    Token {
        token: TokenId,
        is_last: bool,
    },
    /// The request ends without a token.
    Nothing,
}

impl Running {
    fn draw(&mut self, logits: &mut [f32]) -> Drawn {
        if self.end.is_some() {
            return Drawn::Nothing;
        }
        if self.first_token.is_none() {
            self.first_token = Some(Instant::now());
            let prompt_tokens = self.asked.prompt_tokens;
            let started = TokenEvent::Started { prompt_tokens, cached_tokens: 0 };
            if self.asked.sink.event(started) == Flow::Stop {
                return Drawn::Nothing;
            }
        }
        match self.asked.answer.advance(logits) {
            Ok(Next::Token(token, event)) => match self.asked.sink.event(event) {
                Flow::Continue => Drawn::Token { token, is_last: false },
                Flow::Stop => Drawn::Nothing,
            },
            Ok(Next::End { event, reason, text }) => {
                let mut token = TokenId(0);
                if let Some(event) = event {
                    if let TokenEvent::Token { id, .. } = &event {
                        token = *id;
                    }
                    // The end follows anyway.
                    let _ = self.asked.sink.event(event);
                }
                self.end = Some(Ok((reason, text)));
                Drawn::Token { token, is_last: true }
            }
            Err(error) => {
                self.end = Some(Err(error));
                Drawn::Nothing
            }
        }
    }

    fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.asked.prompt_tokens,
            cached_tokens: 0,
            completion_tokens: self.asked.answer.count(),
        }
    }

    fn timings(&self, now: Instant) -> Timings {
        let micros = |from: Instant, to: Instant| to.duration_since(from).as_micros() as u64;
        let admitted = self.admitted.unwrap_or(now);
        let first = self.first_token.unwrap_or(now);
        Timings {
            queue_us: micros(self.asked.arrived, admitted),
            prefill_us: micros(admitted, first),
            decode_us: micros(first, now),
        }
    }
}
