//! An answer that is being recorded, and those who read along.

use std::io;
use std::sync::Arc;
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use futures_util::{Stream, stream};
use tokio::sync::watch;

use crate::error::ApiError;

/// One answer. What was added never changes, so readers need no copy of it.
pub(super) struct Recording {
    /// Of the request it answers.
    pub(super) fingerprint: [u8; 32],
    state: Mutex<State>,
    /// Counts changes.
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    head: Option<(StatusCode, HeaderMap)>,
    pieces: Vec<Bytes>,
    end: Option<Result<(), ApiError>>,
}

impl Recording {
    pub(super) fn new(fingerprint: [u8; 32]) -> Self {
        Self { fingerprint, state: Mutex::default(), changed: watch::Sender::new(0) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|count| *count += 1);
        result
    }

    fn see<T>(&self, see: impl FnOnce(&State) -> T) -> T {
        see(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn begin(&self, status: StatusCode, headers: HeaderMap) {
        self.change(|state| state.head = Some((status, headers)));
    }

    pub(super) fn add(&self, piece: Bytes) {
        self.change(|state| state.pieces.push(piece));
    }

    pub(super) fn end(&self) {
        self.change(|state| state.end = state.end.take().or(Some(Ok(()))));
    }

    /// Ends it with an error, unless it has ended.
    pub(super) fn fail(&self, error: ApiError) {
        self.change(|state| state.end = state.end.take().or(Some(Err(error))));
    }

    /// All that was added.
    pub(super) fn whole(&self) -> Vec<u8> {
        self.see(|state| state.pieces.concat())
    }

    /// Waits for status and headers.
    pub(super) async fn head(&self) -> Result<(StatusCode, HeaderMap), ApiError> {
        let mut changed = self.changed.subscribe();
        loop {
            let found = self.see(|state| match (&state.head, &state.end) {
                (Some(head), _) => Some(Ok(head.clone())),
                (None, Some(Err(error))) => Some(Err(error.clone())),
                (None, Some(Ok(()))) => Some(Err(ApiError::Lost)),
                (None, None) => None,
            });
            if let Some(found) = found {
                return found;
            }
            // The sender lives as long as this.
            let _ = changed.changed().await;
        }
    }

    /// Waits for the end; all that was added.
    pub(super) async fn finished(&self) -> Result<Vec<u8>, ApiError> {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(end) = self.see(|state| state.end.clone()) {
                return end.map(|()| self.whole());
            }
            // The sender lives as long as this.
            let _ = changed.changed().await;
        }
    }

    /// The body from its beginning, as it comes.
    pub(super) fn body(self: Arc<Self>) -> impl Stream<Item = io::Result<Bytes>> {
        let changed = self.changed.subscribe();
        stream::unfold((self, changed, 0), |(recording, mut changed, place)| async move {
            loop {
                let next = recording.see(|state| match (state.pieces.get(place), &state.end) {
                    (Some(piece), _) => Some(Some(Ok(piece.clone()))),
                    (None, Some(Ok(()))) => Some(None),
                    (None, Some(Err(_))) => {
                        Some(Some(Err(io::Error::from(io::ErrorKind::BrokenPipe))))
                    }
                    (None, None) => None,
                });
                match next {
                    // After an error nobody asks again.
                    Some(next) => return next.map(|item| (item, (recording, changed, place + 1))),
                    None => drop(changed.changed().await),
                }
            }
        })
    }
}
