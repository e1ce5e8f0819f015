//! `Idempotency-Key`: a request that is sent again gets the answer of the first.
//!
//! The first request with a key is answered by a task of its own, which goes on when its client
//! goes away: whoever sent it may ask again. Its answer is recorded byte by byte; requests that
//! come meanwhile read along, later ones read it from disk. Only what is complete is kept, and it
//! is kept before anybody is told its end. A key belongs to the caller who used it; with another
//! request it is refused.
//!
//! What was begun and never became complete, because of a crash for instance, has left its birth:
//! the next request with the key makes the same answer again, or is refused.

mod file;
mod recording;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use shoal_base::PackageId;

use crate::answer::Whole;
use crate::app::{App, blocking};
use crate::birth::{Admission, Birth, Register};
use crate::error::ApiError;
use crate::guard::Caller;
use crate::limits::{IDEMPOTENCY_KEY_BYTES_MAX, KEPT_BYTES_MAX};
use crate::{body, messages};
use file::Kept;
use recording::Recording;

/// Keeps answers for a day. Called from threads that may block.
pub trait KeptAnswers: Send + Sync {
    /// The answer with this key.
    ///
    /// # Errors
    /// It cannot be known whether there is one; of the kind [`std::io::ErrorKind::InvalidData`]
    /// when it is damaged.
    fn find(&self, key: &[u8; 32]) -> std::io::Result<Option<Vec<u8>>>;

    /// Keeps an answer, in the place of what was kept with this key.
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
    mut request: Request,
    next: Next,
) -> Response {
    if request.method() != Method::POST || !request.headers().contains_key(HEADER) {
        request.extensions_mut().insert(Admission::default());
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
    let bytes = body::read(app, body).await?;
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
    async fn fill(self, mut request: Request, next: Next) {
        let begun = match self.kept().await {
            Ok(Some(Kept::Answer { status, mut headers, body, .. })) => {
                headers.insert(REPLAYED, HeaderValue::from_static("true"));
                self.recording.begin(status, headers);
                self.recording.add(body);
                return self.recording.end();
            }
            Ok(Some(Kept::Begun { package, birth, .. })) => Some((package, birth)),
            Ok(None) => None,
            Err(error) => return self.recording.fail(error),
        };
        let (app, key) = (Arc::clone(&self.app), self.key);
        let fingerprint = self.recording.fingerprint;
        let register = KeyRegister { app, key, fingerprint, begun };
        request.extensions_mut().insert(Admission(Some(Arc::new(register))));
        self.record(next.run(request).await).await;
    }

    /// What is on disk.
    async fn kept(&self) -> Result<Option<Kept>, ApiError> {
        let (app, key) = (Arc::clone(&self.app), self.key);
        let found = blocking(move || match &app.kept {
            Some(kept) => kept.find(&key).map_err(|error| match error.kind() {
                std::io::ErrorKind::InvalidData => ApiError::KeptDamaged,
                _ => ApiError::NotKept,
            }),
            None => Ok(None),
        });
        let Some(bytes) = found.await? else { return Ok(None) };
        // Taken for absent it would be answered a second time.
        let kept = Kept::read(&bytes).ok_or(ApiError::KeptDamaged)?;
        match *kept.fingerprint() == self.recording.fingerprint {
            true => Ok(Some(kept)),
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
        // Whoever is told the end may rely on the answer, so it is kept first.
        let is_end = || whole.as_ref().is_none_or(Whole::is_set);
        let (mut end, mut bytes) = (Vec::new(), 0);
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let Ok(piece) = piece else { return self.recording.fail(ApiError::Lost) };
            bytes += piece.len();
            if bytes > KEPT_BYTES_MAX {
                return self.recording.fail(ApiError::Lost);
            }
            match is_end() {
                true => end.push(piece),
                false => self.recording.add(piece),
            }
        }
        if parts.status == StatusCode::OK && is_end() {
            let body = [self.recording.whole(), end.concat()].concat();
            let fingerprint = self.recording.fingerprint;
            let kept =
                Kept::Answer { fingerprint, status: parts.status, headers, body: body.into() };
            let (app, key) = (Arc::clone(&self.app), self.key);
            // The answer is given all the same; that it cannot be given again is counted.
            let kept = blocking(move || {
                let kept =
                    app.kept.as_ref().map_or(Ok(()), |place| place.keep(&key, &kept.write()));
                if kept.is_err() {
                    app.metrics.not_kept();
                }
                Ok(())
            });
            let _ = kept.await;
        }
        end.into_iter().for_each(|piece| self.recording.add(piece));
        self.recording.end();
    }
}

/// Writes the birth of one answer down.
struct KeyRegister {
    app: Arc<App>,
    key: [u8; 32],
    fingerprint: [u8; 32],
    /// What was begun before and never became complete.
    begun: Option<(PackageId, Birth)>,
}

impl Register for KeyRegister {
    fn settle(&self, package: PackageId, birth: Birth) -> Result<Birth, ApiError> {
        match &self.begun {
            Some((begun, birth)) if *begun == package => return Ok(birth.clone()),
            Some((begun, _)) => return Err(ApiError::PackageGone { begun: *begun }),
            None => {}
        }
        let begun = Kept::Begun { fingerprint: self.fingerprint, package, birth: birth.clone() };
        let place = self.app.kept.as_ref().ok_or(ApiError::NotKept)?;
        place.keep(&self.key, &begun.write()).map_err(|_| ApiError::NotKept)?;
        Ok(birth)
    }
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
}
