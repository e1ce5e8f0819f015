//! Why a request was refused or cut, in the words of OpenAI's error objects.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use shoal_base::{Blame, GenerateError, PackageId};

use crate::limits::BODY_BYTES_MAX;
use crate::models::OpenError;

/// What a client is told instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ApiError {
    #[error("the body is not JSON: {reason}")]
    Json { reason: String },
    #[error("the body is a JSON object")]
    NotAnObject,
    #[error("unknown parameter {name}")]
    Unknown { name: String },
    #[error("parameter {name} is missing")]
    Missing { name: String },
    #[error("parameter {name}: {rule}")]
    Parameter { name: String, rule: String },
    #[error("body of more than {} bytes", BODY_BYTES_MAX)]
    BodyTooLarge,
    #[error("the body did not arrive in time")]
    BodyTooSlow,
    #[error("the body broke off")]
    BodyBroken,
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error("the answer was cut: the server is stopping")]
    Cut,
    #[error("the answer was cut: its reader is too slow")]
    TooSlow,
    #[error("the answer was cut: the model is gone")]
    Lost,
    #[error("this host name is not served; ask by IP address, or start with --allow-host")]
    Host,
    #[error("pages of other origins may not ask")]
    Origin,
    #[error("no valid API key; send `Authorization: Bearer KEY`")]
    Key,
    #[error("this Idempotency-Key was used for another request")]
    KeyReused,
    #[error("the answer to this Idempotency-Key was begun by package {begun}, which is gone")]
    PackageGone { begun: PackageId },
    #[error("kept answers cannot be read or written now")]
    NotKept,
    #[error(
        "the answer kept for this Idempotency-Key is damaged; with another key the request is \
         computed once more"
    )]
    KeptDamaged,
    #[error("there is nothing at this path")]
    NotFound,
    #[error("this path does not take this method")]
    Method,
}

impl ApiError {
    /// A parameter that breaks a rule.
    pub(crate) fn parameter(name: impl Into<String>, rule: impl Into<String>) -> Self {
        Self::Parameter { name: name.into(), rule: rule.into() }
    }

    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Open(OpenError::Unknown { .. }) | Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::KeyReused => StatusCode::UNPROCESSABLE_ENTITY,
            Self::PackageGone { .. } => StatusCode::CONFLICT,
            Self::KeptDamaged => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Host | Self::Origin => StatusCode::FORBIDDEN,
            Self::Key => StatusCode::UNAUTHORIZED,
            Self::Generate(GenerateError::Overloaded { .. }) => StatusCode::TOO_MANY_REQUESTS,
            Self::Generate(GenerateError::PromptBytes { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Generate(GenerateError::ShuttingDown)
            | Self::Open(OpenError::Unavailable { .. })
            | Self::Cut
            | Self::NotKept
            | Self::Lost => StatusCode::SERVICE_UNAVAILABLE,
            Self::Generate(error) => match error.blame() {
                Blame::Caller => StatusCode::BAD_REQUEST,
                Blame::Peer => StatusCode::BAD_GATEWAY,
                Blame::Local => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Json { .. }
            | Self::NotAnObject
            | Self::Unknown { .. }
            | Self::Missing { .. }
            | Self::Parameter { .. }
            | Self::BodyBroken
            | Self::TooSlow => StatusCode::BAD_REQUEST,
        }
    }

    fn code(&self) -> Option<&'static str> {
        Some(match self {
            Self::Json { .. } | Self::NotAnObject | Self::BodyBroken => "invalid_body",
            Self::Unknown { .. } => "unknown_parameter",
            Self::Missing { .. } => "missing_required_parameter",
            Self::Parameter { .. } | Self::Generate(GenerateError::Parameter { .. }) => {
                "invalid_value"
            }
            Self::BodyTooLarge | Self::Generate(GenerateError::PromptBytes { .. }) => "too_large",
            Self::BodyTooSlow => "body_too_slow",
            Self::Open(OpenError::Unknown { .. }) => "model_not_found",
            Self::Open(OpenError::Unavailable { .. }) => "model_not_available",
            Self::Generate(GenerateError::ContextLength { .. }) => "context_length_exceeded",
            Self::Generate(GenerateError::NoChatTemplate) => "no_chat_template",
            Self::Generate(GenerateError::Template { .. }) => "template_refused",
            Self::Generate(GenerateError::Grammar { .. }) => "invalid_grammar",
            Self::Generate(GenerateError::Overloaded { .. }) => "overloaded",
            Self::Cut | Self::Generate(GenerateError::ShuttingDown) => "shutting_down",
            Self::TooSlow => "reader_too_slow",
            Self::Lost => "model_gone",
            Self::Host => "host_not_allowed",
            Self::Origin => "origin_not_allowed",
            Self::Key => "invalid_api_key",
            Self::KeyReused => "idempotency_key_reused",
            Self::PackageGone { .. } => "idempotency_package_gone",
            Self::NotKept => "kept_answers_unreadable",
            Self::KeptDamaged => "kept_answer_damaged",
            Self::NotFound => "not_found",
            Self::Method => "method_not_allowed",
            Self::Generate(_) => return None,
        })
    }

    fn kind(&self) -> &'static str {
        match self.status() {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    fn param(&self) -> Option<&str> {
        match self {
            Self::Unknown { name } | Self::Missing { name } | Self::Parameter { name, .. } => {
                Some(name)
            }
            Self::Generate(GenerateError::Parameter { name, .. }) => Some(public_name(name)),
            // What asks for less is answered.
            Self::Generate(GenerateError::ContextLength {
                prompt_tokens, limit_tokens, ..
            }) if prompt_tokens < limit_tokens => Some("max_tokens"),
            Self::Generate(GenerateError::Grammar { .. }) => Some("response_format"),
            Self::Generate(GenerateError::NoChatTemplate | GenerateError::Template { .. }) => {
                Some("messages")
            }
            Self::Open(OpenError::Unknown { .. }) => Some("model"),
            Self::KeyReused => Some("Idempotency-Key"),
            _ => None,
        }
    }

    /// The error object.
    pub(crate) fn to_json(&self) -> Value {
        let mut message = self.to_string();
        if let Self::Generate(GenerateError::Parameter { name, rule }) = self {
            message = format!("parameter {}: {rule}", public_name(name));
        }
        json!({ "error": {
            "message": message,
            "type": self.kind(),
            "param": self.param(),
            "code": self.code(),
        } })
    }
}

/// What clients call a field of [`shoal_base::Request`].
fn public_name(name: &'static str) -> &'static str {
    match name {
        "tokens_max" => "max_tokens",
        name => name,
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (self.status(), json, self.to_json().to_string()).into_response();
        if let Self::Generate(GenerateError::Overloaded { retry_after_ms }) = self {
            let seconds = retry_after_ms.div_ceil(1000).max(1);
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if self == Self::Key {
            let scheme = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}
