//! `Idempotency-Key`: a request that is sent again gets the answer of the first.
//!
//! The first request with a key is answered by a task of its own, which goes on when its client
//! goes away: whoever sent it may ask again. Its answer is recorded byte by byte; requests that
//! come meanwhile read along, later ones read it from disk. Only what is complete is kept. A key
//! belongs to the caller who used it; with another request it is refused.

mod recording;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::answer::Whole;
use crate::app::{App, blocking};
use crate::error::ApiError;
use crate::guard::Caller;
use crate::limits::{IDEMPOTENCY_KEY_BYTES_MAX, KEPT_BYTES_MAX};
use crate::{body, messages};
use recording::Recording;

/// Keeps answers for a day. Called from threads that may block.
pub trait KeptAnswers: Send + Sync {
    /// The answer with this key.
    ///
    /// # Errors
    /// It cannot be known whether there is one.
    fn find(&self, key: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>>;

    /// Keeps an answer.
    ///
    /// # Errors
    /// It cannot be kept.
    fn keep(&self, key: &[u8; 32], answer: &[u8]) -> std::io::Result<()>;
}

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const EVENTS: &str = "text/event-stream";
const DOMAIN: &str = "shoal/idempotency/v1";

/// Requests with keys that are being answered.
#[derive(Default)]
pub(crate) struct UnderWay(Mutex<HashMap<[u8; 32], Arc<Recording>>>);

/// Answers a request, or gives the answer it had.
pub(crate) async fn idempotency(
    State(app): State<Arc<App>>,
    request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(HEADER) {
        return next.run(request).await;
    }
    let path = request.uri().path().to_owned();
    match answer(&app, request, next).await {
        Ok(response) => response,
        Err(error) if path == messages::PATH => messages::refused(&error),
        Err(error) => error.into_response(),
    }
}

async fn answer(app: &Arc<App>, request: Request, next: Next) -> Result<Response, ApiError> {
    if app.kept.is_none() {
        return Err(ApiError::parameter("Idempotency-Key", "is not supported by this server"));
    }
    let name = key(request.headers())?;
    let (mut parts, body) = request.into_parts();
    let bytes = body::read(body).await?;
    let fingerprint = digest(&[parts.uri.path().as_bytes(), &bytes]);
    let caller = parts.extensions.get::<Caller>().map_or(&[][..], Caller::salt);
    let key = digest(&[caller, name.as_bytes()]);
    let (recording, is_first) = {
        let mut under_way = app.under_way.0.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.get(&key) {
            Some(recording) => (Arc::clone(recording), false),
            None => {
                let recording = Arc::new(Recording::new(fingerprint));
                under_way.insert(key, Arc::clone(&recording));
                (recording, true)
            }
        }
    };
    if recording.fingerprint != fingerprint {
        return Err(ApiError::KeyReused);
    }
    if is_first {
        parts.headers.remove(HEADER);
        let request = Request::from_parts(parts, Body::from(bytes));
        let place = Place { app: Arc::clone(app), key, recording: Arc::clone(&recording) };
        tokio::spawn(place.fill(request, next));
    }
    let (status, mut headers) = recording.head().await?;
    if !is_first {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    let is_stream = headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind == EVENTS);
    // What is no stream has a length.
    let body = match is_stream {
        true => Body::from_stream(recording.body()),
        false => Body::from(recording.finished().await?),
    };
    Ok((status, headers, body).into_response())
}

/// The key of a request: one header of visible characters.
fn key(headers: &HeaderMap) -> Result<String, ApiError> {
    let refuse = || {
        let rule = format!("is one header of 1 to {IDEMPOTENCY_KEY_BYTES_MAX} visible characters");
        ApiError::parameter("Idempotency-Key", rule)
    };
    let mut values = headers.get_all(HEADER).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(refuse()) };
    let text = value.to_str().map_err(|_| refuse())?;
    let is_visible = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
    let is_short = (1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&text.len());
    if is_visible && is_short { Ok(text.to_owned()) } else { Err(refuse()) }
}

/// A digest of parts that cannot run into one another.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key(DOMAIN);
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    *hasher.finalize().as_bytes()
}

/// Where an answer is recorded. Gives the key free when it is dropped, however that comes.
struct Place {
    app: Arc<App>,
    key: [u8; 32],
    recording: Arc<Recording>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // Nothing happens to a recording that has ended.
        self.recording.fail(ApiError::Lost);
        let mut under_way = self.app.under_way.0.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.remove(&self.key);
    }
}

impl Place {
    async fn fill(self, request: Request, next: Next) {
        match self.kept().await {
            Ok(Some((status, mut headers, body))) => {
                headers.insert(REPLAYED, HeaderValue::from_static("true"));
                self.recording.begin(status, headers);
                self.recording.add(body);
                self.recording.end();
            }
            Ok(None) => self.record(next.run(request).await).await,
            Err(error) => self.recording.fail(error),
        }
    }

    /// The answer on disk.
    async fn kept(&self) -> Result<Option<(StatusCode, HeaderMap, Bytes)>, ApiError> {
        let (app, key) = (Arc::clone(&self.app), self.key);
        let found = blocking(move || match &app.kept {
            Some(kept) => kept.find(&key).map_err(|_| ApiError::NotKept),
            None => Ok(None),
        });
        let Some(bytes) = found.await? else { return Ok(None) };
        let Some((fingerprint, status, headers, body)) = read(&bytes) else { return Ok(None) };
        match fingerprint == self.recording.fingerprint {
            true => Ok(Some((status, headers, body))),
            false => Err(ApiError::KeyReused),
        }
    }

    async fn record(self, response: Response) {
        let (parts, body) = response.into_parts();
        let whole = parts.extensions.get::<Whole>().cloned();
        let mut headers = parts.headers;
        // They belong to a connection, not to an answer.
        for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::CONNECTION] {
            headers.remove(name);
        }
        self.recording.begin(parts.status, headers.clone());
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let Ok(piece) = piece else { return self.recording.fail(ApiError::Lost) };
            if self.recording.bytes() + piece.len() > KEPT_BYTES_MAX {
                return self.recording.fail(ApiError::Lost);
            }
            self.recording.add(piece);
        }
        let is_whole = whole.is_none_or(|whole| whole.is_set());
        if parts.status == StatusCode::OK && is_whole {
            let bytes = write(&self.recording, parts.status, &headers);
            let (app, key) = (Arc::clone(&self.app), self.key);
            // The answer was given; that it cannot be given again is counted.
            let kept = blocking(move || {
                let kept = app.kept.as_ref().map_or(Ok(()), |kept| kept.keep(&key, &bytes));
                if kept.is_err() {
                    app.metrics.not_kept();
                }
                Ok(())
            });
            let _ = kept.await;
        }
        self.recording.end();
    }
}

/// An answer as it is kept: a line of JSON, then the body.
fn write(recording: &Recording, status: StatusCode, headers: &HeaderMap) -> Vec<u8> {
    let headers = headers
        .iter()
        .filter_map(|(name, value)| Some(json!([name.as_str(), value.to_str().ok()?])));
    let head = json!({
        "fingerprint": blake3::Hash::from_bytes(recording.fingerprint).to_hex().as_str(),
        "status": status.as_u16(),
        "headers": headers.collect::<Value>(),
    });
    let mut bytes = head.to_string().into_bytes();
    bytes.push(b'\n');
    bytes.extend(recording.whole());
    bytes
}

fn read(bytes: &[u8]) -> Option<([u8; 32], StatusCode, HeaderMap, Bytes)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: Value = serde_json::from_slice(&bytes[..end]).ok()?;
    let fingerprint = blake3::Hash::from_hex(head["fingerprint"].as_str()?).ok()?;
    let status = u16::try_from(head["status"].as_u64()?).ok()?;
    let mut headers = HeaderMap::new();
    for pair in head["headers"].as_array()? {
        let name = HeaderName::try_from(pair[0].as_str()?).ok()?;
        headers.append(name, HeaderValue::try_from(pair[1].as_str()?).ok()?);
    }
    let body = Bytes::copy_from_slice(&bytes[end + 1..]);
    Some((*fingerprint.as_bytes(), StatusCode::from_u16(status).ok()?, headers, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_one_header_of_visible_characters() {
        let read = |values: &[&'static [u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(HEADER, HeaderValue::from_bytes(value).unwrap());
            }
            key(&headers)
        };
        assert_eq!(read(&[b"a-1"]), Ok("a-1".to_owned()));
        for wrong in [&[&b""[..]][..], &[&[b'x'; 256]], &[b"a", b"a"], &[b"\xc3\xa9"]] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn parts_of_a_digest_do_not_run_into_one_another() {
        assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    }

    #[test]
    fn damaged_files_are_no_answers() {
        let recording = Recording::new([7; 32]);
        recording.add(Bytes::from_static(b"a\nb"));
        let mut headers = HeaderMap::new();
        headers.insert("x-shoal-seed", HeaderValue::from_static("4"));
        let bytes = write(&recording, StatusCode::OK, &headers);
        let (fingerprint, status, found, body) = read(&bytes).unwrap();
        assert_eq!((fingerprint, status, found), ([7; 32], StatusCode::OK, headers));
        assert_eq!(&body[..], b"a\nb");
        for length in 0..bytes.len() - 4 {
            assert!(read(&bytes[..length]).is_none());
        }
    }
}
