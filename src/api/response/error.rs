//! Why a request is refused. The one place that knows the status and the code of each reason.

use axum::http::header::{ACCEPT_ENCODING, ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use std::sync::Arc;

use crate::api::response::json;
use crate::api::response::lock::LockShape;
use crate::api::response::metadata::Meta;
use crate::api::response::text;
use crate::command::Denied;
use crate::node::NodeError;
use crate::seldom::Seldom;

/// Every error.
#[derive(Serialize, ToSchema)]
pub struct Problem<'a> {
    /// Always false.
    ok: bool,
    code: Code,
    /// Says what happened, and what to do.
    msg: &'a str,
    /// With 412: the key as it is, or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Meta>, required = false)]
    current: Option<&'a RawValue>,
    /// With 409 of a lock: who holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<LockShape>, required = false)]
    holder: Option<&'a RawValue>,
}

/// The kind of error.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    BadRequest,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    RequestTimeout,
    Conflict,
    LockHeld,
    LockLost,
    LeaseLost,
    NotANumber,
    Compacted,
    PreconditionFailed,
    TooLarge,
    UnsupportedMediaType,
    OtherCluster,
    IdempotencyMismatch,
    Internal,
    NoLeader,
    NotReady,
    Removed,
    Diverged,
    Overloaded,
    Timeout,
    NotYet,
    Unauthorized,
    Quota,
}

/// Goes with the response to a refused request.
#[derive(Debug, Clone)]
pub struct Refused {
    /// Why.
    pub why: Denied,
    /// Who asked, where that is known.
    pub who: Option<Arc<str>>,
}

/// On an error (as an extension of the response): its kind.
#[derive(Debug, Clone, Copy)]
pub struct RefusedFor(pub Code);
/// A fault of this node may be met by each request.
static FAILED_LINES: Seldom = Seldom::new();

/// Why a request is refused or failed. The texts say what happened, and what to do.
#[derive(Debug)]
pub enum ApiError {
    /// The request makes no sense.
    BadRequest(String),
    /// A browser's request for a host that this is not.
    Forbidden(String),
    /// A browser's request for a page of another site.
    OtherSite(String),
    /// No such path.
    NoRoute(String),
    /// The path exists, but not for this method.
    MethodNotAllowed {
        /// Names the method that was tried and those that are possible.
        msg: String,
        /// The `Allow` header.
        allow: String,
    },
    /// The body did not arrive in time.
    RequestTimeout(String),
    /// A limit, named with its flag.
    TooLarge(String),
    /// The body is compressed.
    UnsupportedMediaType(String),
    /// A condition of the request does not hold.
    Precondition {
        /// Says what was demanded.
        msg: String,
        /// The `?meta` object of the key as it is, or null; none for a client that may not read it.
        current: Option<Box<RawValue>>,
    },
    /// The lock is not held with this token, or no longer.
    LockLost(String),
    /// There is no such lease, or it has ended.
    LeaseLost(String),
    /// There is no room for what the request would add.
    Quota(String),
    /// An integer was to be added to what is none.
    NotANumber(String),
    /// Somebody else holds the lock.
    Locked {
        /// Who, in words.
        msg: String,
        /// The lock as `GET` shows it.
        holder: Box<RawValue>,
        /// When it may be free, in seconds.
        retry_after: u64,
    },
    /// History no longer reaches back so far.
    Compacted(String),
    /// The same `Idempotency-Key` came with another request.
    IdempotencyMismatch(String),
    /// The request is for another cluster than this node's. Nothing was done.
    OtherCluster(String),
    /// More is asked of this node than it takes on. Nothing was done.
    Overloaded(String),
    /// Who asks is not known, or may not do that.
    Denied {
        /// Why.
        why: Denied,
        /// The same in words.
        msg: String,
        /// Who asked, where that is known.
        who: Option<Arc<str>>,
    },
    /// The node's own reason.
    Node(NodeError),
}

impl ApiError {
    /// The error of a method that a route does not take.
    pub fn method(method: &Method, allow: String) -> Self {
        Self::MethodNotAllowed { msg: format!("this path does not take {method}; it takes {allow}"), allow }
    }

    /// The error of an unknown path.
    pub fn no_route(path: &str) -> Self {
        Self::NoRoute(format!("there is no {}; GET / lists the routes", text::quoted(path)))
    }

    /// The error of a client that may not do that.
    pub fn denied(why: Denied, who: Option<Arc<str>>) -> Self {
        let msg = why.to_string();
        Self::Denied { why, msg, who }
    }

    fn parts(&self) -> (StatusCode, Code, &str) {
        match self {
            Self::BadRequest(msg) | Self::Node(NodeError::BadRequest(msg)) => {
                (StatusCode::BAD_REQUEST, Code::BadRequest, msg)
            }
            Self::Forbidden(msg) | Self::OtherSite(msg) => (StatusCode::FORBIDDEN, Code::Forbidden, msg),
            Self::Denied { why: Denied::Forbidden(_) | Denied::NotOwner, msg, .. } => {
                (StatusCode::FORBIDDEN, Code::Forbidden, msg)
            }
            Self::Denied { why: Denied::Missing | Denied::Unknown | Denied::Expired, msg, .. } => {
                (StatusCode::UNAUTHORIZED, Code::Unauthorized, msg)
            }
            // By `From` it is never the node's.
            Self::Node(NodeError::Denied(_)) => (StatusCode::FORBIDDEN, Code::Forbidden, "this is not allowed"),
            Self::NoRoute(msg) | Self::Node(NodeError::NotFound(msg)) => (StatusCode::NOT_FOUND, Code::NotFound, msg),
            Self::MethodNotAllowed { msg, .. } => (StatusCode::METHOD_NOT_ALLOWED, Code::MethodNotAllowed, msg),
            Self::RequestTimeout(msg) => (StatusCode::REQUEST_TIMEOUT, Code::RequestTimeout, msg),
            Self::Precondition { msg, .. } => (StatusCode::PRECONDITION_FAILED, Code::PreconditionFailed, msg),
            Self::Locked { msg, .. } => (StatusCode::CONFLICT, Code::LockHeld, msg),
            Self::LockLost(msg) => (StatusCode::CONFLICT, Code::LockLost, msg),
            Self::LeaseLost(msg) => (StatusCode::CONFLICT, Code::LeaseLost, msg),
            Self::Quota(msg) => (StatusCode::INSUFFICIENT_STORAGE, Code::Quota, msg),
            Self::NotANumber(msg) => (StatusCode::CONFLICT, Code::NotANumber, msg),
            Self::Compacted(msg) => (StatusCode::GONE, Code::Compacted, msg),
            Self::OtherCluster(msg) => (StatusCode::MISDIRECTED_REQUEST, Code::OtherCluster, msg),
            Self::IdempotencyMismatch(msg) => (StatusCode::UNPROCESSABLE_ENTITY, Code::IdempotencyMismatch, msg),
            Self::Overloaded(msg) | Self::Node(NodeError::Overloaded(msg)) => {
                (StatusCode::SERVICE_UNAVAILABLE, Code::Overloaded, msg)
            }
            Self::UnsupportedMediaType(msg) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UnsupportedMediaType, msg),
            Self::TooLarge(msg) => (StatusCode::PAYLOAD_TOO_LARGE, Code::TooLarge, msg),
            Self::Node(NodeError::Conflict(msg)) => (StatusCode::CONFLICT, Code::Conflict, msg),
            Self::Node(NodeError::NoLeader(msg)) => (StatusCode::SERVICE_UNAVAILABLE, Code::NoLeader, msg),
            Self::Node(NodeError::NotReady(msg)) => (StatusCode::SERVICE_UNAVAILABLE, Code::NotReady, msg),
            Self::Node(NodeError::Removed(msg)) => (StatusCode::SERVICE_UNAVAILABLE, Code::Removed, msg),
            Self::Node(NodeError::Diverged(msg)) => (StatusCode::SERVICE_UNAVAILABLE, Code::Diverged, msg),
            Self::Node(NodeError::NotYet(msg)) => (StatusCode::NOT_IMPLEMENTED, Code::NotYet, msg),
            Self::Node(NodeError::Timeout(msg)) => (StatusCode::GATEWAY_TIMEOUT, Code::Timeout, msg),
            Self::Node(NodeError::Internal(msg)) => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, msg),
        }
    }
}

impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Denied(denied) => denied.into(),
            error => Self::Node(error),
        }
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        Self::denied(denied, None)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, msg) = self.parts();
        match status {
            StatusCode::INTERNAL_SERVER_ERROR => {
                if let Some(unsaid) = FAILED_LINES.turn() {
                    tracing::error!(?code, msg, "request failed{unsaid}");
                }
            }
            _ => tracing::debug!(?code, msg, "request refused"),
        }
        let (current, holder) = match &self {
            Self::Precondition { current, .. } => (current.as_deref(), None),
            Self::Locked { holder, .. } => (None, Some(&**holder)),
            _ => (None, None),
        };
        let mut response = json::response_of(status, &Problem { ok: false, code, msg, current, holder });
        response.extensions_mut().insert(RefusedFor(code));
        let headers = response.headers_mut();
        match self {
            Self::MethodNotAllowed { allow, .. } => {
                headers.extend(HeaderValue::try_from(allow).ok().map(|allow| (ALLOW, allow)));
            }
            Self::UnsupportedMediaType(_) => {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
            }
            Self::Locked { retry_after, .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after));
            }
            Self::Denied { why, who, .. } => {
                response.extensions_mut().insert(Refused { why, who });
            }
            _ => {}
        }
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"hraftd\""));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::header::CONTENT_TYPE;

    #[tokio::test]
    async fn each_error_has_its_status_and_shape() {
        let m = || "a \"b\"".to_owned();
        let denied = |why| ApiError::Denied { why, msg: m(), who: None };
        let cases = [
            (ApiError::BadRequest(m()), 400, "bad_request"),
            (ApiError::Forbidden(m()), 403, "forbidden"),
            (ApiError::OtherSite(m()), 403, "forbidden"),
            (denied(Denied::Forbidden("x".into())), 403, "forbidden"),
            (denied(Denied::NotOwner), 403, "forbidden"),
            (denied(Denied::Missing), 401, "unauthorized"),
            (denied(Denied::Unknown), 401, "unauthorized"),
            (denied(Denied::Expired), 401, "unauthorized"),
            (ApiError::NoRoute(m()), 404, "not_found"),
            (ApiError::MethodNotAllowed { msg: m(), allow: "GET".to_owned() }, 405, "method_not_allowed"),
            (ApiError::RequestTimeout(m()), 408, "request_timeout"),
            (ApiError::LockLost(m()), 409, "lock_lost"),
            (ApiError::LeaseLost(m()), 409, "lease_lost"),
            (ApiError::NotANumber(m()), 409, "not_a_number"),
            (ApiError::Quota(m()), 507, "quota"),
            (ApiError::TooLarge(m()), 413, "too_large"),
            (ApiError::UnsupportedMediaType(m()), 415, "unsupported_media_type"),
            (ApiError::OtherCluster(m()), 421, "other_cluster"),
            (ApiError::Overloaded(m()), 503, "overloaded"),
            (NodeError::BadRequest(m()).into(), 400, "bad_request"),
            (NodeError::NotFound(m()).into(), 404, "not_found"),
            (NodeError::Conflict(m()).into(), 409, "conflict"),
            (NodeError::Internal(m()).into(), 500, "internal"),
            (NodeError::NoLeader(m()).into(), 503, "no_leader"),
            (NodeError::NotReady(m()).into(), 503, "not_ready"),
            (NodeError::Overloaded(m()).into(), 503, "overloaded"),
            (NodeError::Removed(m()).into(), 503, "removed"),
            (NodeError::Diverged(m()).into(), 503, "diverged"),
            (NodeError::NotYet(m()).into(), 501, "not_yet"),
            (NodeError::Timeout(m()).into(), 504, "timeout"),
        ];
        for (error, status, code) in cases {
            let response = error.into_response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
            assert_eq!(response.headers().contains_key(ALLOW), status == 405);
            assert_eq!(response.headers().get_all(WWW_AUTHENTICATE).iter().count(), if status == 401 { 2 } else { 0 });
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            assert_eq!(body, format!(r#"{{"ok":false,"code":"{code}","msg":"a \"b\""}}"#));
        }
    }
}
