//! What is counted, under the names of vLLM, which dashboards know, and under ours.
//!
//! Labels are names of models that exist, paths of a fixed list and status codes, so their number
//! is bounded whatever clients send.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use shoal_base::{FinishReason, TokenEvent};

use crate::app::App;
use crate::catalog;
use crate::error::ApiError;
use crate::models::Offer;
use crate::server::PATHS;

const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Seconds: the bounds that vLLM uses, so that its dashboards fit.
const FIRST_TOKEN_S: [f64; 16] =
    [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 40.0];
const TOKEN_S: [f64; 12] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 1.0, 2.5];
const REQUEST_S: [f64; 12] = [0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 5.0, 10.0, 20.0, 60.0, 240.0, 960.0];

type Labels = Vec<(&'static str, String)>;
type Ratio = Gauge<f64, AtomicU64>;

/// All counters. Clones count together.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    running: Family<Labels, Gauge>,
    waiting: Family<Labels, Gauge>,
    kv_used: Family<Labels, Ratio>,
    prefix_queries: Family<Labels, Counter>,
    prefix_hits: Family<Labels, Counter>,
    prompt_tokens: Family<Labels, Counter>,
    generated_tokens: Family<Labels, Counter>,
    successes: Family<Labels, Counter>,
    open: Family<Labels, Gauge>,
    first_token: Family<Labels, Histogram>,
    token: Family<Labels, Histogram>,
    request: Family<Labels, Histogram>,
    answered: Family<Labels, Counter>,
    not_kept: Counter,
}

fn histograms(bounds: fn() -> Histogram) -> Family<Labels, Histogram> {
    Family::new_with_constructor(bounds)
}

/// Registers a metric under the name it has at vLLM and under ours.
fn both(r: &mut Registry, vllm: &str, ours: &str, help: &str, metric: impl Metric + Clone) {
    r.register(format!("vllm:{vllm}"), help, metric.clone());
    r.register(format!("shoal_{ours}"), help, metric);
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Arc::default(),
            running: Family::default(),
            waiting: Family::default(),
            kv_used: Family::default(),
            prefix_queries: Family::default(),
            prefix_hits: Family::default(),
            prompt_tokens: Family::default(),
            generated_tokens: Family::default(),
            successes: Family::default(),
            open: Family::default(),
            first_token: histograms(|| Histogram::new(FIRST_TOKEN_S)),
            token: histograms(|| Histogram::new(TOKEN_S)),
            request: histograms(|| Histogram::new(REQUEST_S)),
            answered: Family::default(),
            not_kept: Counter::default(),
        };
        metrics.registry = Arc::new(metrics.register());
        metrics
    }

    fn register(&self) -> Registry {
        let mut registry = Registry::default();
        let r = &mut registry;
        let m = self.clone();
        both(r, "num_requests_running", "requests_running", "Requests being computed", m.running);
        both(r, "num_requests_waiting", "requests_waiting", "Requests waiting", m.waiting);
        let help = "Part of the memory for keys and values in use";
        both(r, "kv_cache_usage_perc", "kv_used_ratio", help, m.kv_used);
        let help = "Tokens looked up in the prefix cache";
        both(r, "prefix_cache_queries", "prefix_query_tokens", help, m.prefix_queries);
        let help = "Tokens found in the prefix cache";
        both(r, "prefix_cache_hits", "prefix_hit_tokens", help, m.prefix_hits);
        both(r, "prompt_tokens", "prompt_tokens", "Tokens of prompts", m.prompt_tokens);
        both(r, "generation_tokens", "generated_tokens", "Tokens generated", m.generated_tokens);
        both(r, "request_success", "answers_complete", "Complete answers", m.successes);
        let (help, metric) = ("Seconds to the first token", m.first_token);
        both(r, "time_to_first_token_seconds", "first_token_seconds", help, metric);
        both(r, "inter_token_latency_seconds", "token_seconds", "Seconds between tokens", m.token);
        let help = "Seconds of whole requests";
        both(r, "e2e_request_latency_seconds", "request_seconds", help, m.request);
        r.register("shoal_requests_open", "Requests whose client still waits", m.open);
        r.register("shoal_http_responses", "HTTP responses", m.answered);
        let help = "Answers that could not be kept for their Idempotency-Key";
        r.register("shoal_answers_not_kept", help, m.not_kept);
        registry
    }

    /// Counts a response. Paths that nobody serves count as one.
    pub(crate) fn answered(&self, path: &str, status: u16) {
        let path = PATHS.iter().find(|known| **known == path).copied().unwrap_or("other");
        let labels = vec![("path", path.to_owned()), ("status", status.to_string())];
        self.answered.get_or_create(&labels).inc();
    }

    /// Counts an answer that could not be kept.
    pub(crate) fn not_kept(&self) {
        self.not_kept.inc();
    }

    fn observe(&self, offers: &[Offer]) {
        for offer in offers {
            let labels = labels(&offer.name);
            let load = offer.load.unwrap_or_default();
            let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
            self.running.get_or_create(&labels).set(gauge(load.running));
            self.waiting.get_or_create(&labels).set(gauge(load.waiting));
            self.kv_used.get_or_create(&labels).set(load.kv_used);
            // They grow elsewhere; here is only where they are shown.
            let show = |family: &Family<Labels, Counter>, value| {
                family.get_or_create(&labels).inner().fetch_max(value, Ordering::Relaxed)
            };
            show(&self.prefix_queries, load.prefix_queries);
            show(&self.prefix_hits, load.prefix_hits);
        }
    }
}

fn labels(model: &str) -> Labels {
    vec![("model_name", model.to_owned())]
}

/// `GET /metrics`.
pub(crate) async fn show(State(app): State<Arc<App>>) -> Result<Response, ApiError> {
    let offers = catalog::offers(&app).await?;
    app.metrics.observe(&offers);
    let mut text = String::new();
    encode(&mut text, &app.metrics.registry).expect("a text takes any text");
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(KIND))];
    Ok((kind, text).into_response())
}

/// Watches the answers of one request.
pub(crate) struct Meter {
    model: String,
    prompt_tokens: Counter,
    generated_tokens: Counter,
    first_token: Histogram,
    token: Histogram,
    request: Histogram,
    successes: Family<Labels, Counter>,
    open: Gauge,
    begun: Instant,
    /// When the last token of each answer came.
    last: Vec<Option<Instant>>,
}

impl Meter {
    pub(crate) fn new(metrics: &Metrics, model: &str) -> Self {
        let labels = labels(model);
        let open = metrics.open.get_or_create(&labels).clone();
        open.inc();
        Self {
            model: model.to_owned(),
            prompt_tokens: metrics.prompt_tokens.get_or_create(&labels).clone(),
            generated_tokens: metrics.generated_tokens.get_or_create(&labels).clone(),
            first_token: metrics.first_token.get_or_create(&labels).clone(),
            token: metrics.token.get_or_create(&labels).clone(),
            request: metrics.request.get_or_create(&labels).clone(),
            successes: metrics.successes.clone(),
            open,
            begun: Instant::now(),
            last: Vec::new(),
        }
    }

    pub(crate) fn event(&mut self, index: usize, event: &TokenEvent) {
        let now = Instant::now();
        match event {
            TokenEvent::Started { prompt_tokens, .. } => {
                self.prompt_tokens.inc_by(u64::from(*prompt_tokens));
            }
            TokenEvent::Token { .. } => {
                if self.last.len() <= index {
                    self.last.resize(index + 1, None);
                }
                let (histogram, since) = match self.last[index].replace(now) {
                    None => (&self.first_token, self.begun),
                    Some(last) => (&self.token, last),
                };
                histogram.observe((now - since).as_secs_f64());
                self.generated_tokens.inc();
            }
            TokenEvent::Finished { reason, .. } if *reason != FinishReason::Cancelled => {
                let mut labels = labels(&self.model);
                labels.push(("finished_reason", reason.as_str().to_owned()));
                self.successes.get_or_create(&labels).inc();
                self.request.observe((now - self.begun).as_secs_f64());
            }
            TokenEvent::Finished { .. } | TokenEvent::Failed(_) => {}
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.open.dec();
    }
}
