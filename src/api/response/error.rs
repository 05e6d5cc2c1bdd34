//! Why a request is refused, and the one place that knows the status code and the code word of each reason.

use axum::body::Body;
use axum::http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::api::response::{json, text};
use crate::node::NodeError;

/// An answer that is no success. The texts say what happened, and what to do.
#[derive(Debug)]
pub enum ApiError {
    /// The request makes no sense.
    BadRequest(String),
    /// A browser's request from another site.
    Forbidden(String),
    /// No such path.
    NoRoute(String),
    /// The path exists, but not for this method.
    MethodNotAllowed {
        /// What was tried and what is possible.
        msg: String,
        /// The `Allow` header.
        allow: &'static str,
    },
    /// The body did not arrive in time.
    RequestTimeout(String),
    /// A limit, named with its flag.
    TooLarge(String),
    /// A condition of the request does not hold.
    Precondition {
        /// What was demanded.
        msg: String,
        /// The `?meta` object of what is there, or null.
        current: Vec<u8>,
    },
    /// Somebody else holds the lock.
    Locked {
        /// Who, in words.
        msg: String,
        /// The lock as `GET` shows it.
        holder: Vec<u8>,
        /// When it may be free, in seconds.
        retry_after: u64,
    },
    /// History no longer reaches back so far.
    Compacted(String),
    /// The same `Idempotency-Key` came with another request.
    IdempotencyMismatch(String),
    /// More is asked of this node than it takes on. Nothing was done.
    Overloaded(String),
    /// The node's own reason.
    Node(NodeError),
}

impl ApiError {
    /// The error of a method that a route does not take.
    pub fn method(method: &Method, allow: &'static str) -> Self {
        Self::MethodNotAllowed { msg: format!("this path does not take {method}; it takes {allow}"), allow }
    }

    /// The error of an unknown path.
    pub fn no_route(path: &str) -> Self {
        Self::NoRoute(format!("there is no {}; GET / lists the routes", text::quoted(path)))
    }

    fn parts(&self) -> (StatusCode, &'static str, &str) {
        match self {
            Self::BadRequest(msg) | Self::Node(NodeError::BadRequest(msg)) => {
                (StatusCode::BAD_REQUEST, "bad_request", msg)
            }
            Self::Forbidden(msg) => (StatusCode::FORBIDDEN, "forbidden", msg),
            Self::NoRoute(msg) | Self::Node(NodeError::NotFound(msg)) => (StatusCode::NOT_FOUND, "not_found", msg),
            Self::MethodNotAllowed { msg, .. } => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", msg),
            Self::RequestTimeout(msg) => (StatusCode::REQUEST_TIMEOUT, "request_timeout", msg),
            Self::Precondition { msg, .. } => (StatusCode::PRECONDITION_FAILED, "precondition_failed", msg),
            Self::Locked { msg, .. } => (StatusCode::CONFLICT, "conflict", msg),
            Self::Compacted(msg) => (StatusCode::GONE, "compacted", msg),
            Self::IdempotencyMismatch(msg) => (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch", msg),
            Self::Overloaded(msg) => (StatusCode::SERVICE_UNAVAILABLE, "overloaded", msg),
            Self::TooLarge(msg) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large", msg),
            Self::Node(NodeError::Conflict(msg)) => (StatusCode::CONFLICT, "conflict", msg),
            Self::Node(NodeError::NoLeader(msg)) => (StatusCode::SERVICE_UNAVAILABLE, "no_leader", msg),
            Self::Node(NodeError::NotReady(msg)) => (StatusCode::SERVICE_UNAVAILABLE, "not_ready", msg),
            Self::Node(NodeError::Removed(msg)) => (StatusCode::SERVICE_UNAVAILABLE, "removed", msg),
            Self::Node(NodeError::Timeout(msg)) => (StatusCode::GATEWAY_TIMEOUT, "timeout", msg),
            Self::Node(NodeError::Internal(msg)) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", msg),
        }
    }
}

impl From<NodeError> for ApiError {
    fn from(error: NodeError) -> Self {
        Self::Node(error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code, msg) = self.parts();
        match status {
            StatusCode::INTERNAL_SERVER_ERROR => tracing::error!(code, msg, "request failed"),
            _ => tracing::debug!(code, msg, "request refused"),
        }
        let mut body = Vec::with_capacity(msg.len() + 64);
        body.extend_from_slice(b"{\"ok\":false,\"code\":");
        json::string(&mut body, code);
        body.extend_from_slice(b",\"msg\":");
        json::string(&mut body, msg);
        match &self {
            Self::Precondition { current, .. } => {
                body.extend_from_slice(b",\"current\":");
                body.extend_from_slice(current);
            }
            Self::Locked { holder, .. } => {
                body.extend_from_slice(b",\"holder\":");
                body.extend_from_slice(holder);
            }
            _ => {}
        }
        body.push(b'}');
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, json::CONTENT);
        match self {
            Self::MethodNotAllowed { allow, .. } => {
                headers.insert(ALLOW, HeaderValue::from_static(allow));
            }
            Self::Locked { retry_after, .. } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after));
            }
            _ => {}
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

    #[tokio::test]
    async fn each_error_has_its_status_and_shape() {
        let m = || "a \"b\"".to_owned();
        let cases = [
            (ApiError::BadRequest(m()), 400, "bad_request"),
            (ApiError::Forbidden(m()), 403, "forbidden"),
            (ApiError::NoRoute(m()), 404, "not_found"),
            (ApiError::MethodNotAllowed { msg: m(), allow: "GET" }, 405, "method_not_allowed"),
            (ApiError::RequestTimeout(m()), 408, "request_timeout"),
            (ApiError::TooLarge(m()), 413, "too_large"),
            (ApiError::Overloaded(m()), 503, "overloaded"),
            (NodeError::BadRequest(m()).into(), 400, "bad_request"),
            (NodeError::NotFound(m()).into(), 404, "not_found"),
            (NodeError::Conflict(m()).into(), 409, "conflict"),
            (NodeError::Internal(m()).into(), 500, "internal"),
            (NodeError::NoLeader(m()).into(), 503, "no_leader"),
            (NodeError::NotReady(m()).into(), 503, "not_ready"),
            (NodeError::Removed(m()).into(), 503, "removed"),
            (NodeError::Timeout(m()).into(), 504, "timeout"),
        ];
        for (error, status, code) in cases {
            let response = error.into_response();
            assert_eq!(response.status(), status);
            assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
            assert_eq!(response.headers().contains_key(RETRY_AFTER), status == 503);
            assert_eq!(response.headers().contains_key(ALLOW), status == 405);
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
            assert_eq!(body, format!(r#"{{"ok":false,"code":"{code}","msg":"a \"b\""}}"#));
        }
    }
}
