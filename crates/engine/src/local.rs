//! One machine answering requests for one package.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use shoal_arith::limits::CHUNK;
use shoal_base::{
    EventSink, Generate, GenerateError, Generation, Grammar, Lane, ModelCard, Prompt, Request,
    TokenId,
};
use shoal_kernels::{Isa, Kernels};
use shoal_model::package::{BlobKind, Package};
use shoal_model::tokenizer::Tokenizer;

use crate::draft::Draft;
use crate::intake::{Accepted, Intake};
use crate::scheduler::{Cancel, Job, Limits, Scheduler, Work};
use crate::stats::Stats;
use crate::{EngineStats, Head, LoadError, Stage};

/// How an engine uses its machine.
#[derive(Clone, Copy, Debug)]
pub struct EngineOptions {
    /// Threads that compute.
    pub threads: usize,
    /// Instruction set; `None` takes the best one, or what `SHOAL_ISA` says.
    pub isa: Option<Isa>,
    /// Memory for keys and values.
    pub kv_bytes: u64,
    /// Requests computed at once.
    pub sequences: usize,
    /// Requests that may wait.
    pub waiting: usize,
    /// Rows of a step that computes prompts only.
    pub step_rows: usize,
    /// Rows of prompts in a step that others wait for.
    pub shared_step_rows: usize,
    /// Tokens a draft model guesses at a time.
    pub draft_window: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            isa: None,
            kv_bytes: 1 << 30,
            sequences: 64,
            waiting: 256,
            step_rows: 256,
            shared_step_rows: 64,
            draft_window: 4,
        }
    }
}

/// A package ready to answer.
#[derive(Debug)]
pub struct LocalEngine {
    intake: Intake,
    commands: Mutex<Sender<Command>>,
    worker: Option<JoinHandle<()>>,
    stats: Arc<Stats>,
    isa: Isa,
    step_weight_bytes: usize,
    requests: AtomicU64,
}

enum Command {
    Job(Box<Job>),
    Stop,
}

impl LocalEngine {
    /// Loads `package` to be served under `name`, with a draft model if there is one.
    ///
    /// # Errors
    /// The package is damaged, the draft model has another tokenizer, or the instruction set is
    /// missing.
    pub fn open(
        package: &Package,
        name: &str,
        draft: Option<&Package>,
        options: EngineOptions,
    ) -> Result<Self, LoadError> {
        let isa = options.isa.map_or_else(Isa::choose, Ok)?;
        let kernels = Arc::new(Kernels::new(isa, options.threads)?);
        let architecture = &package.manifest().architecture;
        let layers = architecture.layer_count;
        let page_bytes = Stage::page_bytes(architecture, layers as usize) as u64;
        let page_count = usize::try_from(options.kv_bytes / page_bytes).unwrap_or(usize::MAX);
        let stage = Stage::load(Arc::clone(&kernels), package, 0..layers, page_count)?;
        let head = Head::load(Arc::clone(&kernels), package)?;
        let step_weight_bytes = stage.weight_bytes() + head.weight_bytes();
        let draft = draft.map(|draft| load_draft(kernels, package, draft, page_count));
        let draft = draft.transpose()?;
        let limits = Limits {
            step_rows: options.step_rows.max(1),
            shared_step_rows: options.shared_step_rows.max(1),
            sequences: options.sequences.max(1),
            waiting: options.waiting,
            draft_window: if draft.is_some() { options.draft_window } else { 0 },
        };
        let positions_max = page_count.saturating_mul(CHUNK).saturating_sub(limits.draft_window);
        let positions_max = u32::try_from(positions_max).unwrap_or(u32::MAX);
        let intake = Intake::new(package, name, positions_max)?;
        let stats = Arc::new(Stats::default());
        let scheduler =
            Scheduler::new(package.id(), head, stage, draft, limits, Arc::clone(&stats));
        let (commands, received) = channel();
        let worker = std::thread::Builder::new()
            .name("shoal-engine".to_owned())
            .spawn(move || work(scheduler, &received))
            .map_err(LoadError::Thread)?;
        Ok(Self {
            intake,
            commands: Mutex::new(commands),
            worker: Some(worker),
            stats,
            isa,
            step_weight_bytes,
            requests: AtomicU64::new(0),
        })
    }

    /// What it holds and has done.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        self.stats.snapshot()
    }

    /// The instruction set in use.
    #[must_use]
    pub const fn isa(&self) -> Isa {
        self.isa
    }

    /// Bytes of weights read in every step.
    #[must_use]
    pub const fn step_weight_bytes(&self) -> usize {
        self.step_weight_bytes
    }

    /// Its tokenizer.
    #[must_use]
    pub const fn tokenizer(&self) -> &Arc<Tokenizer> {
        self.intake.tokenizer()
    }

    fn send(&self, job: Job) -> Result<(), GenerateError> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = commands.send(Command::Job(Box::new(job)));
        sent.map_err(|_| GenerateError::ShuttingDown)
    }
}

impl Generate for LocalEngine {
    fn card(&self) -> &ModelCard {
        self.intake.card()
    }

    fn submit(
        &self,
        request: Request,
        sink: Box<dyn EventSink>,
    ) -> Result<Arc<dyn Generation>, GenerateError> {
        let Accepted { tokens, answer } = self.intake.accept(&request)?;
        let cancel = Cancel::default();
        self.send(Job {
            tokens,
            work: Work::Answer { answer, sink, cancel: cancel.clone() },
            lane: request.lane,
            cache_salt: request.cache_salt,
            cancel: cancel.clone(),
            arrived: Instant::now(),
        })?;
        Ok(Arc::new(Handle(cancel)))
    }

    fn embed(&self, inputs: &[Prompt]) -> Result<Vec<Vec<f32>>, GenerateError> {
        let inputs: Vec<Vec<TokenId>> =
            inputs.iter().map(|input| self.intake.prompt(input, 1)).collect::<Result<_, _>>()?;
        let mut waiting = Vec::with_capacity(inputs.len());
        for tokens in inputs {
            let (done, result) = channel();
            self.send(Job {
                tokens,
                work: Work::Embedding { sums: Vec::new(), count: 0, done },
                lane: Lane::Batch,
                cache_salt: Vec::new(),
                cancel: Cancel::default(),
                arrived: Instant::now(),
            })?;
            waiting.push(result);
        }
        let results = waiting.into_iter();
        results.map(|r| r.recv().unwrap_or(Err(GenerateError::ShuttingDown))).collect()
    }

    fn tokenize(&self, prompt: &Prompt) -> Result<Vec<TokenId>, GenerateError> {
        self.intake.tokenize(prompt)
    }

    fn detokenize(&self, ids: &[TokenId]) -> Result<String, GenerateError> {
        self.intake.detokenize(ids)
    }

    fn check_grammar(&self, grammar: &Grammar) -> Result<(), GenerateError> {
        self.intake.check_grammar(grammar)
    }
}

impl Drop for LocalEngine {
    fn drop(&mut self) {
        let commands = self.commands.lock().unwrap_or_else(PoisonError::into_inner);
        // The worker may be gone already; there is nothing to stop then.
        let _ = commands.send(Command::Stop);
        drop(commands);
        if let Some(worker) = self.worker.take() {
            let _ = worker.join();
        }
    }
}

struct Handle(Cancel);

impl Generation for Handle {
    fn cancel(&self) {
        self.0.set();
    }
}

/// The engine's thread: takes commands, computes steps, sleeps when there is nothing to do.
fn work(mut scheduler: Scheduler, commands: &Receiver<Command>) {
    loop {
        let command = match scheduler.is_idle() {
            true => commands.recv().ok(),
            false => match commands.try_recv() {
                Ok(command) => Some(command),
                Err(std::sync::mpsc::TryRecvError::Empty) => {
                    scheduler.step();
                    continue;
                }
                Err(std::sync::mpsc::TryRecvError::Disconnected) => None,
            },
        };
        match command {
            Some(Command::Job(job)) => scheduler.enqueue(*job),
            Some(Command::Stop) | None => return scheduler.shut_down(),
        }
    }
}

fn load_draft(
    kernels: Arc<Kernels>,
    package: &Package,
    draft: &Package,
    page_count: usize,
) -> Result<Draft, LoadError> {
    let tokenizer = |p: &Package| p.manifest().blob(BlobKind::Tokenizer).map(|b| b.blake3);
    if tokenizer(package) != tokenizer(draft) {
        let reason = "the draft model has another tokenizer".to_owned();
        return Err(LoadError::Tokenizer { reason });
    }
    let layers = draft.manifest().architecture.layer_count;
    let stage = Stage::load(Arc::clone(&kernels), draft, 0..layers, page_count)?;
    Ok(Draft::new(Head::load(kernels, draft)?, stage))
}
