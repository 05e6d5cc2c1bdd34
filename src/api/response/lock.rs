//! A lock as clients see it.

use axum::http::StatusCode;
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::api::response::json;
use crate::command::LockView;

/// A lock that is held.
#[derive(Serialize, ToSchema)]
pub struct LockShape<'a> {
    name: &'a str,
    /// A fencing token: it only grows.
    token: u64,
    /// How long it is still held unless it is renewed, in milliseconds.
    ttl_ms: u64,
    /// The JSON that the holder shows.
    #[schema(value_type = Option<serde_json::Value>, required = true)]
    body: Option<&'a RawValue>,
    /// How many wait for it.
    waiting: u64,
    /// The lease that it is held under, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = u64, required = false)]
    lease: Option<u64>,
}

impl<'a> LockShape<'a> {
    /// The lock at a moment of log time. One whose time is up is held until a tick says otherwise.
    pub fn new(name: &'a str, lock: &'a LockView, log_time_ms: u64) -> Self {
        let LockView { token, deadline_ms, ref body, waiting, .. } = *lock;
        let ttl_ms = deadline_ms.saturating_sub(log_time_ms);
        // Checked when the lock was taken.
        let body = body.as_deref().and_then(|body| serde_json::from_slice(body).ok());
        Self { name, token, ttl_ms, body, waiting, lease: None }
    }

    /// The same, and the lease that it is held under.
    pub fn under(self, lease: Option<u64>) -> Self {
        Self { lease, ..self }
    }

    /// How long it is still held, in whole seconds; at least one.
    pub fn retry_after_seconds(&self) -> u64 {
        self.ttl_ms.div_ceil(1000).max(1)
    }

    /// As the 409 of another client shows it.
    pub fn json(&self) -> Box<RawValue> {
        serde_json::value::to_raw_value(self).unwrap_or_else(|_| RawValue::NULL.to_owned())
    }
}

/// A lock that is held by who asked.
#[derive(Serialize, ToSchema)]
pub struct LockAnswer<'a> {
    /// Always true.
    ok: bool,
    name: &'a str,
    /// A fencing token: it only grows.
    token: u64,
    /// How long it is held unless it is renewed, in milliseconds.
    ttl_ms: u64,
}

impl<'a> LockAnswer<'a> {
    pub fn response(name: &'a str, token: u64, ttl_ms: u64) -> Response {
        json::response_of(StatusCode::OK, &Self { ok: true, name, token, ttl_ms })
    }
}
