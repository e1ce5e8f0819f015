//! What every request passes: who may ask from where, and what every answer carries.
//!
//! A page of any origin can make a browser on this machine send requests here, and can point a
//! name of its own at this address (DNS rebinding). So the host must be an IP address, which no
//! page can rebind, or a name that was allowed; and an origin, if there is one, must be the host.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use crate::app::App;
use crate::error::ApiError;
use crate::messages;

/// Paths that need no key: they say nothing about anybody.
const OPEN_PATHS: [&str; 8] = [
    "/",
    "/console.css",
    "/console.js",
    "/icon.svg",
    "/health",
    "/health/ready",
    "/version",
    "/favicon.ico",
];

/// Checks a request, and marks its answer.
pub(crate) async fn guard(
    State(app): State<Arc<App>>,
    mut request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let mut response = match check(&app, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(error) if path == messages::PATH => messages::refused(&error),
        Err(error) => error.into_response(),
    };
    app.metrics.answered(&path, response.status().as_u16());
    let id = HeaderValue::from_str(&random_id()).expect("digits and letters");
    let marks = [
        (HeaderName::from_static("x-request-id"), id),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    response.headers_mut().extend(marks);
    response
}

/// Who asks: the holder of a key, or anybody.
///
/// Callers share nothing with one another: neither cached prefixes, whose speed would tell what
/// others asked, nor answers kept for an `Idempotency-Key`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller {
    salt: Vec<u8>,
}

impl Caller {
    fn of(key: &[u8]) -> Self {
        Self { salt: blake3::derive_key("shoal/caller/v1", key).to_vec() }
    }

    /// Bytes that no other caller has; none, when anybody may ask.
    pub(crate) fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// Keeps the cached prefixes of a request apart from those of other callers. Within one
    /// caller, those of different `cache_salt`s are apart as well.
    pub(crate) fn salt_request(&self, request: &mut shoal_base::Request) {
        if !self.salt.is_empty() {
            request.cache_salt.splice(0..0, self.salt.iter().copied());
        }
    }
}

/// 128 random bits.
fn random_id() -> String {
    let mut bytes = [0; 16];
    // Without a source of randomness ids repeat, which harms nothing but logs.
    let _ = getrandom::fill(&mut bytes);
    format!("req-{:032x}", u128::from_be_bytes(bytes))
}

fn check(app: &App, request: &Request) -> Result<Caller, ApiError> {
    let host = host(request.uri(), request.headers()).ok_or(ApiError::Host)?;
    if !is_allowed(&host, &app.hosts) {
        return Err(ApiError::Host);
    }
    if let Some(origin) = request.headers().get(header::ORIGIN) {
        let same = ["http://", "https://"].iter().any(|scheme| {
            let rest = origin.as_bytes().strip_prefix(scheme.as_bytes());
            rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_bytes()))
        });
        if !same {
            return Err(ApiError::Origin);
        }
    }
    match &app.keys {
        Some(keys) if !OPEN_PATHS.contains(&request.uri().path()) => {
            let key = key(request.headers()).ok_or(ApiError::Key)?;
            if keys.accept(key) { Ok(Caller::of(key)) } else { Err(ApiError::Key) }
        }
        _ => Ok(Caller::default()),
    }
}

/// Host and port that the client thinks it asks. Exactly one header may say so.
fn host(uri: &Uri, headers: &HeaderMap) -> Option<String> {
    if let Some(authority) = uri.authority() {
        return Some(authority.as_str().to_owned());
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then(|| host.to_owned())
}

fn is_allowed(host: &str, names: &[String]) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') && port.parse::<u16>().is_ok() => name,
        Some((_, port)) if !port.ends_with(']') => return false,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// The key of a request, from either header that clients use.
fn key(headers: &HeaderMap) -> Option<&[u8]> {
    let bearer = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
    let bearer = bearer.and_then(|value| {
        let (scheme, key) = value.split_at_checked(7)?;
        scheme.eq_ignore_ascii_case(b"bearer ").then_some(key.trim_ascii())
    });
    bearer.or_else(|| headers.get("x-api-key").map(HeaderValue::as_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_a_page_could_rebind_are_refused() {
        let names = ["box.lan".to_owned()];
        for host in
            ["127.0.0.1:11400", "localhost", "LOCALHOST:1", "[::1]:11400", "[::1]", "box.lan:80"]
        {
            assert!(is_allowed(host, &names), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:11400", "", "127.0.0.1.evil.example", "a:b"]
        {
            assert!(!is_allowed(host, &names), "{host}");
        }
    }

    #[test]
    fn keys_are_read_from_both_headers() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
        };
        assert_eq!(key(&headers("authorization", "bearer k")), Some(&b"k"[..]));
        assert_eq!(key(&headers("x-api-key", "k")), Some(&b"k"[..]));
        assert_eq!(key(&headers("authorization", "Basic k")), None);
        assert_eq!(key(&HeaderMap::new()), None);
    }
}
