//! Requests: redirects by hand, so that each hop is checked, and an end whenever the caller wants.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use ureq::http::{HeaderMap, Response, header};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};

use super::error::FetchError;
use super::integrity::Integrity;
use super::url::Url;
use super::{FetchOptions, Watch, limits, resolver};
use crate::files;

/// How often the caller is asked whether to stop.
const STOP_STEP: Duration = Duration::from_millis(50);
const USER_AGENT: &str = concat!("shoal/", env!("CARGO_PKG_VERSION"));
/// What a hub says before it redirects to a store of large files.
const LINKED_ETAG: &str = "x-linked-etag";

/// Makes requests.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    hub: Url,
    token: Option<String>,
}

/// What a request wants.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ask<'a> {
    /// First byte, when not the whole file is wanted.
    pub(super) offset: u64,
    /// The beginning is of use only if the server still says this of the file.
    pub(super) validator: Option<&'a str>,
    /// The caller knows the digest from elsewhere, so it does not matter who answers.
    pub(super) pinned: bool,
}

/// An answer after all redirects: 200, 206 or 416.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
    /// The digest that the hub gave with its redirect.
    pub(super) linked: Option<Integrity>,
}

impl Client {
    pub(super) fn new(options: &FetchOptions) -> Result<Self, FetchError> {
        resolver::prepare();
        let setting = |setting, rule| FetchError::Setting { setting, rule };
        let hub = Url::parse(&options.hub).map_err(|rule| setting("hub", rule))?;
        if !hub.is_https() && !hub.is_local() {
            return Err(setting("hub", "an address that begins with https://"));
        }
        let token = options.token.as_deref().map(str::trim);
        if token.is_some_and(|token| !token.bytes().all(|b| b.is_ascii_graphic())) {
            return Err(setting("token", "printable ASCII without spaces"));
        }
        let tls = TlsConfig::builder().root_certs(root_certs(options)?).build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .accept_encoding("identity")
            .timeout_resolve(Some(limits::CONNECT_MAX))
            .timeout_connect(Some(limits::CONNECT_MAX))
            .timeout_recv_response(Some(options.idle_max))
            .timeout_per_read(Some(options.idle_max))
            .timeout_per_write(Some(options.idle_max))
            .build();
        let token = token.map(str::to_owned);
        Ok(Self { agent: config.new_agent(), hub, token })
    }

    pub(super) const fn hub(&self) -> &Url {
        &self.hub
    }

    /// Runs `work`; when the caller wants to stop, closes the connections it waits for.
    pub(super) fn stoppable<T>(
        &self,
        watch: &dyn Watch,
        work: impl FnOnce() -> Result<T, FetchError>,
    ) -> Result<T, FetchError> {
        let (alive, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                while ended.recv_timeout(STOP_STEP) == Err(RecvTimeoutError::Timeout) {
                    if watch.stop() {
                        self.agent.clone().shutdown();
                        return;
                    }
                }
            });
            let result = work();
            drop(alive);
            match result {
                Err(_) if watch.stop() => Err(FetchError::Stopped),
                result => result,
            }
        })
    }

    /// Asks for a file.
    pub(super) fn get(&self, url: &Url, ask: Ask<'_>) -> Result<Answer, FetchError> {
        let mut url = url.clone();
        let mut linked = None;
        for _ in 0..=limits::REDIRECTS_MAX {
            if !url.is_https() && !url.is_local() && !ask.pinned {
                return Err(FetchError::Insecure { url: url.to_string() });
            }
            let response = self.call(&url, ask)?;
            let status = response.status().as_u16();
            let headers = response.headers();
            if url.same_origin(&self.hub) && linked.is_none() {
                linked = text(headers, LINKED_ETAG)
                    .and_then(|etag| Integrity::sha256(etag.trim_matches('"')));
            }
            match status {
                200 | 206 | 416 => {
                    let (parts, body) = response.into_parts();
                    return Ok(Answer { status, headers: parts.headers, body, linked });
                }
                301 | 302 | 303 | 307 | 308 => {
                    let refused = |rule| FetchError::Server { url: url.to_string(), rule };
                    let location = text(headers, header::LOCATION.as_str());
                    let location = location.ok_or(refused("a redirect says where to"))?;
                    let next = url.join(location).map_err(refused)?;
                    if url.is_https() && !next.is_https() {
                        return Err(refused("a redirect leads from HTTPS to plain HTTP"));
                    }
                    url = next;
                }
                _ => {
                    let wait_s = text(headers, header::RETRY_AFTER.as_str());
                    let wait_s = wait_s.and_then(|seconds| seconds.parse().ok());
                    return Err(FetchError::Status { url: url.to_string(), status, wait_s });
                }
            }
        }
        Err(FetchError::Server { url: url.to_string(), rule: "more than five redirects" })
    }

    fn call(&self, url: &Url, ask: Ask<'_>) -> Result<Response<Body>, FetchError> {
        let mut request = self.agent.get(url.uri());
        if ask.offset > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", ask.offset));
            if let Some(validator) = ask.validator {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        if let Some(token) = self.token.as_ref().filter(|_| url.same_origin(&self.hub)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call().map_err(|error| network(url, error))
    }
}

pub(super) fn network(url: &Url, error: ureq::Error) -> FetchError {
    FetchError::Network { url: url.to_string(), source: Box::new(error) }
}

/// A header, if it is there once and plain.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

fn root_certs(options: &FetchOptions) -> Result<RootCerts, FetchError> {
    let Some(path) = &options.authorities else {
        return Ok(RootCerts::WebPki);
    };
    let unreadable = || FetchError::Authorities { path: path.clone() };
    let bytes = files::read_at_most(path, limits::AUTHORITIES_BYTES_MAX)?.ok_or_else(unreadable)?;
    let mut certificates = Vec::new();
    for item in parse_pem(&bytes) {
        if let PemItem::Certificate(certificate) = item.map_err(|_| unreadable())? {
            certificates.push(certificate);
        }
    }
    match certificates.is_empty() {
        true => Err(unreadable()),
        false => Ok(RootCerts::from(certificates)),
    }
}
