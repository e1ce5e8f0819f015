//! Sockets, routes, and the end of the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;

use crate::app::{App, Phase, unix_s};
use crate::error::ApiError;
use crate::idempotency::{KeptAnswers, UnderWay, idempotency};
use crate::keys::ApiKeys;
use crate::limits::{CONNECTIONS_MAX, CUT_TIME_MAX, HEAD_BYTES_MAX, PATIENCE};
use crate::metrics::{self, Metrics};
use crate::models::Models;
use crate::{
    catalog, chat, completions, console, embeddings, guard, health, messages, openapi, responses,
    swarm, tokens,
};

/// Every path there is.
pub(crate) const PATHS: [&str; 19] = [
    "/",
    "/console.css",
    "/console.js",
    "/icon.svg",
    "/health",
    "/health/generate",
    "/health/ready",
    "/metrics",
    "/openapi.json",
    "/swarm",
    "/version",
    "/tokenize",
    "/detokenize",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/models",
    "/v1/responses",
];

/// Threads that serve connections. Computing happens elsewhere; two are enough for thousands of
/// requests per second.
const THREADS: usize = 2;
/// Rest after the system had no socket for a new connection.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How the endpoint is reached.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Where it listens. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names of this machine under which it may be asked, besides `localhost` and IP addresses.
    pub hosts: Vec<String>,
    /// Who may ask; anybody when absent.
    pub keys: Option<ApiKeys>,
    /// Where answers are kept for requests with an `Idempotency-Key`; without it they are refused.
    pub kept: Option<Arc<dyn KeptAnswers>>,
    /// How long is waited for a client: for a head, from the beginning of a connection or the end
    /// of an answer; for a body; and, once the buffers are full, for it to read.
    pub patience: Duration,
}

impl GatewayOptions {
    /// Anybody may ask at `listen`; no answers are kept.
    #[must_use]
    pub fn new(listen: SocketAddr) -> Self {
        Self { listen, hosts: Vec::new(), keys: None, kept: None, patience: PATIENCE }
    }
}

impl std::fmt::Debug for GatewayOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayOptions").field("listen", &self.listen).finish_non_exhaustive()
    }
}

/// Why the endpoint does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is not to be had.
    #[error("cannot listen on {listen}: {source}")]
    Listen {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no threads for it.
    #[error("cannot start threads: {0}")]
    Threads(io::Error),
}

/// An endpoint that serves until it is stopped or dropped.
#[derive(Debug)]
pub struct Gateway {
    runtime: Option<Runtime>,
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    connections: Arc<Semaphore>,
}

impl Gateway {
    /// Starts to serve models.
    ///
    /// # Errors
    /// The address is taken or not of this machine, or there are no threads.
    pub fn start(models: Arc<dyn Models>, options: GatewayOptions) -> Result<Self, StartError> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(THREADS).thread_name("shoal-gateway").enable_all();
        let runtime = builder.build().map_err(StartError::Threads)?;
        let GatewayOptions { listen, hosts, keys, kept, patience } = options;
        let refuse = |source| StartError::Listen { listen, source };
        let listener = runtime.block_on(TcpListener::bind(listen)).map_err(refuse)?;
        let address = listener.local_addr().map_err(refuse)?;
        let (phase, phase_seen) = watch::channel(Phase::Serving);
        let app = App {
            models,
            metrics: Metrics::new(),
            keys,
            hosts,
            kept,
            under_way: UnderWay::default(),
            phase: phase_seen,
            patience,
            started_unix_s: unix_s(),
        };
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        runtime.spawn(accept(listener, Arc::new(app), Arc::clone(&connections)));
        Ok(Self { runtime: Some(runtime), address, phase, connections })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends: no new connections; open answers have until `deadline` to finish, then they are cut
    /// and say so. Returns whether all of them finished.
    #[must_use]
    pub fn stop(mut self, deadline: Duration) -> bool {
        let Some(runtime) = self.runtime.take() else { return true };
        self.phase.send_replace(Phase::Draining);
        let begun = Instant::now();
        let finished = runtime.block_on(self.wait(deadline));
        if !finished {
            self.phase.send_replace(Phase::Cutting);
            runtime.block_on(self.wait(CUT_TIME_MAX));
        }
        let left = deadline.saturating_sub(begun.elapsed());
        runtime.shutdown_timeout(left.min(CUT_TIME_MAX));
        finished
    }

    /// Waits until no connection is open.
    async fn wait(&self, time: Duration) -> bool {
        let all = self.connections.acquire_many(CONNECTIONS_MAX as u32);
        tokio::time::timeout(time, all).await.is_ok()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            self.phase.send_replace(Phase::Cutting);
            runtime.shutdown_background();
        }
    }
}

fn router(app: &Arc<App>) -> Router {
    Router::new()
        .route("/", get(console::page))
        .route("/console.css", get(console::style))
        .route("/console.js", get(console::script))
        .route("/icon.svg", get(console::icon))
        .route("/health", get(health::live))
        .route("/health/generate", get(health::generate))
        .route("/health/ready", get(health::ready))
        .route("/metrics", get(metrics::show))
        .route("/openapi.json", get(openapi::show))
        .route("/swarm", get(swarm::show))
        .route("/version", get(catalog::version))
        .route("/tokenize", post(tokens::tokenize))
        .route("/detokenize", post(tokens::detokenize))
        .route("/v1/chat/completions", post(chat::completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route(messages::PATH, post(messages::messages))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/models", get(catalog::list))
        .route("/v1/models/{*model}", get(catalog::show))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::Method)
        .layer(from_fn_with_state(Arc::clone(app), idempotency))
        .layer(from_fn_with_state(Arc::clone(app), guard::guard))
        .with_state(Arc::clone(app))
}

async fn accept(listener: TcpListener, app: Arc<App>, connections: Arc<Semaphore>) {
    let router = router(&app);
    let mut phase = app.phase.clone();
    let patience = app.patience;
    loop {
        let accepted = tokio::select! {
            // An error says that the server is gone.
            _ = phase.wait_for(|phase| *phase != Phase::Serving) => return,
            accepted = next(&listener, &connections) => accepted,
        };
        match accepted {
            Some((stream, permit)) => {
                let phase = app.phase.clone();
                tokio::spawn(serve(stream, router.clone(), phase, patience, permit));
            }
            None => tokio::time::sleep(ACCEPT_REST).await,
        }
    }
}

/// The next connection, once there is a place for it.
async fn next(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let permit = Arc::clone(connections).acquire_owned().await.ok()?;
    let (stream, _) = listener.accept().await.ok()?;
    Some((stream, permit))
}

async fn serve(
    stream: TcpStream,
    router: Router,
    mut phase: watch::Receiver<Phase>,
    patience: Duration,
    _permit: OwnedSemaphorePermit,
) {
    // A connection on which nothing has come yet needs no buffers. Hundreds of them that are closed
    // and opened again would else leave their memory behind, now with one thread, now with another.
    let came = tokio::select! {
        came = tokio::time::timeout(patience, stream.readable()) => matches!(came, Ok(Ok(()))),
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => false,
    };
    if came {
        Box::pin(answer(stream, router, phase, patience)).await;
    }
}

/// Answers what comes on a connection.
async fn answer(
    stream: TcpStream,
    router: Router,
    mut phase: watch::Receiver<Phase>,
    patience: Duration,
) {
    // Tokens are small and must not wait for each other. Where it fails they only come later.
    let _ = stream.set_nodelay(true);
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(patience));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(patience).max_buf_size(HEAD_BYTES_MAX);
    let stream = TokioIo::new(Box::pin(stream));
    let connection = builder.serve_connection(stream, TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    // What goes wrong with a connection is its client's affair.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = phase.wait_for(|phase| *phase != Phase::Serving) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}
