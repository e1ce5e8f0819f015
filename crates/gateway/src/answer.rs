//! From the engine's threads to those of the server: the answers of one request as they come.
//!
//! Invariants: the channel between is bounded, so a client that does not read cannot fill the
//! memory; when the reader of an [`Answers`] goes away, for whatever reason, all of them end
//! within one step.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shoal_base::{EventSink, FinishReason, Flow, Generate, Generation, Request, TokenEvent};
use tokio::sync::{mpsc, watch};

use crate::app::Phase;
use crate::error::ApiError;
use crate::limits::EVENTS_BEHIND_MAX;
use crate::metrics::Meter;

/// Whether all answers of a request are complete; goes with a response whose body is a stream.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whole(Arc<AtomicBool>);

impl Whole {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Answers in progress.
pub(crate) struct Answers {
    events: mpsc::Receiver<(usize, TokenEvent)>,
    generations: Vec<Arc<dyn Generation>>,
    /// Held so that whoever owns it sees that it is in use.
    _model: Arc<dyn Generate>,
    is_behind: Arc<AtomicBool>,
    phase: watch::Receiver<Phase>,
    meter: Meter,
    unfinished: usize,
    whole: Whole,
}

struct Sink {
    index: usize,
    events: mpsc::Sender<(usize, TokenEvent)>,
    is_behind: Arc<AtomicBool>,
}

impl EventSink for Sink {
    fn event(&mut self, event: TokenEvent) -> Flow {
        match self.events.try_send((self.index, event)) {
            Ok(()) => Flow::Continue,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.is_behind.store(true, Ordering::Relaxed);
                Flow::Stop
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Flow::Stop,
        }
    }
}

impl Answers {
    /// Starts one answer for each request. Blocks while prompts are turned into tokens.
    pub(crate) fn start(
        model: Arc<dyn Generate>,
        requests: Vec<Request>,
        phase: watch::Receiver<Phase>,
        meter: Meter,
    ) -> Result<Self, ApiError> {
        let (sender, events) = mpsc::channel(EVENTS_BEHIND_MAX * requests.len().max(1));
        let is_behind = Arc::new(AtomicBool::new(false));
        let generations = Vec::with_capacity(requests.len());
        let held = Arc::clone(&model);
        let mut answers = Self {
            events,
            generations,
            _model: held,
            is_behind,
            phase,
            meter,
            unfinished: requests.len(),
            whole: Whole::default(),
        };
        for (index, request) in requests.into_iter().enumerate() {
            let events = sender.clone();
            let sink = Sink { index, events, is_behind: Arc::clone(&answers.is_behind) };
            answers.generations.push(model.submit(request, Box::new(sink))?);
        }
        Ok(answers)
    }

    /// Becomes true when all of them are complete.
    pub(crate) fn whole(&self) -> Whole {
        self.whole.clone()
    }

    /// The next event of any answer, and which answer it is of. An error is the end of all.
    pub(crate) async fn next(&mut self) -> Result<(usize, TokenEvent), ApiError> {
        let event = tokio::select! {
            biased;
            // An error says that the server is gone.
            _ = self.phase.wait_for(|phase| *phase == Phase::Cutting) => return Err(ApiError::Cut),
            event = self.events.recv() => event,
        };
        if self.is_behind.load(Ordering::Relaxed) {
            return Err(ApiError::TooSlow);
        }
        let (index, event) = event.ok_or(ApiError::Lost)?;
        self.meter.event(index, &event);
        match event {
            TokenEvent::Failed(error) => Err(error.into()),
            TokenEvent::Finished { reason: FinishReason::Cancelled, .. } => Err(ApiError::Cut),
            TokenEvent::Finished { .. } => {
                self.unfinished = self.unfinished.saturating_sub(1);
                self.whole.0.store(self.unfinished == 0, Ordering::Release);
                Ok((index, event))
            }
            event => Ok((index, event)),
        }
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        // Those that ended already take no notice.
        for generation in &self.generations {
            generation.cancel();
        }
    }
}
