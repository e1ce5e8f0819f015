//! What every request needs: the models, the counters, who may ask.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use shoal_base::Generate;
use tokio::sync::watch;

use crate::error::ApiError;
use crate::idempotency::{KeptAnswers, UnderWay};
use crate::keys::ApiKeys;
use crate::metrics::Metrics;
use crate::models::{Models, OpenError};

/// How far the end of the server has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Requests are welcome.
    Serving,
    /// Open answers are finished, new connections are refused.
    Draining,
    /// Open answers are cut, and say so.
    Cutting,
}

/// Shared by all requests.
pub(crate) struct App {
    pub(crate) models: Arc<dyn Models>,
    pub(crate) metrics: Metrics,
    pub(crate) keys: Option<ApiKeys>,
    pub(crate) hosts: Vec<String>,
    /// Where answers are kept for requests with an `Idempotency-Key`.
    pub(crate) kept: Option<Arc<dyn KeptAnswers>>,
    pub(crate) under_way: UnderWay,
    pub(crate) phase: watch::Receiver<Phase>,
    /// How long is waited for a client.
    pub(crate) patience: Duration,
    /// When the server started, for clients that want to know when a model was made.
    pub(crate) started_unix_s: u64,
}

impl App {
    /// The model of a request; the default one when it names none.
    pub(crate) async fn open(
        self: &Arc<Self>,
        name: Option<String>,
    ) -> Result<Arc<dyn Generate>, ApiError> {
        if let Some(model) = self.models.loaded(name.as_deref()) {
            return Ok(model);
        }
        let app = Arc::clone(self);
        blocking(move || {
            let name = match name {
                Some(name) => name,
                None => {
                    let first = app.models.offers().into_iter().next();
                    first.ok_or(OpenError::Unknown { name: String::new() })?.name
                }
            };
            Ok(app.models.open(&name)?)
        })
        .await
    }
}

/// Seconds since 1970.
pub(crate) fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Runs what may take long outside the threads that serve connections.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    // It only fails when the work panicked or the server is gone.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(ApiError::Lost))
}
