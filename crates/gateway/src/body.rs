//! Bodies: those that come, of bounded length and in bounded time, and those that go.

use axum::body::Body;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::app::App;
use crate::error::ApiError;
use crate::limits::BODY_BYTES_MAX;

/// All bytes of a body.
pub(crate) async fn read(app: &App, body: Body) -> Result<Vec<u8>, ApiError> {
    use hyper::body::Body as _;

    // What says beforehand that it is too long is refused before it is sent.
    if body.size_hint().lower() > BODY_BYTES_MAX as u64 {
        return Err(ApiError::BodyTooLarge);
    }
    let whole = async {
        let mut bytes = Vec::new();
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|_| ApiError::BodyBroken)?;
            if bytes.len() + piece.len() > BODY_BYTES_MAX {
                return Err(ApiError::BodyTooLarge);
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    };
    tokio::time::timeout(app.patience, whole).await.unwrap_or(Err(ApiError::BodyTooSlow))
}

/// An answer in JSON.
pub(crate) fn json(value: &Value) -> Response {
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    (json, value.to_string()).into_response()
}
