//! What a request about keys, locks and the like is answered: a body, and the headers that all of them have.

pub(in crate::api) mod error;
pub(in crate::api) mod json;
pub(in crate::api) mod memory;
pub(in crate::api) mod metadata;
pub(in crate::api) mod stream;
pub(in crate::api) mod text;

use std::fmt::Display;
use std::io::Write;

use axum::body::{Body, Bytes};
use axum::http::header::{CONTENT_TYPE, ETAG};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use crate::api::App;
use crate::duration::as_ms;
use crate::node::{Found, ReadLevel, Settled};
use crate::node_id::PublicId;
use error::ApiError;

const INDEX: HeaderName = HeaderName::from_static("x-hraftd-index");
const LEVEL: HeaderName = HeaderName::from_static("x-hraftd-level");
const STALENESS: HeaderName = HeaderName::from_static("x-hraftd-staleness-ms");
const SERVED_BY: HeaderName = HeaderName::from_static("x-hraftd-served-by");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// An answer that is not sent yet.
pub(super) struct Answer {
    /// The response with the headers of its own; or why there is none.
    pub result: Result<Response, ApiError>,
    /// The applied index it was served at.
    pub index: u64,
    /// `None` for this node.
    pub served_by: Option<HeaderValue>,
    /// Of a read.
    pub read: Option<Settled>,
    /// Whether a repeated request was answered from memory.
    pub replayed: bool,
}

impl Answer {
    /// A read of this node's own state.
    pub fn read(result: Result<Response, ApiError>, index: u64, read: Settled) -> Self {
        Self { result, index, served_by: None, read: Some(read), replayed: false }
    }

    /// A read of one key.
    pub fn found(result: Result<Response, ApiError>, found: &Found) -> Self {
        let read = Settled { level: found.level, staleness: found.staleness };
        Self { served_by: found.served_by.as_ref().and_then(served_by), ..Self::read(result, found.index, read) }
    }

    /// A refusal before anything was asked of the node.
    pub fn refused<S: crate::api::Service>(error: ApiError, app: &App<S>) -> Self {
        let index = app.service.applied_index();
        Self { result: Err(error), index, served_by: None, read: None, replayed: false }
    }

    pub fn into_response<S>(self, app: &App<S>) -> Response {
        let mut response = self.result.unwrap_or_else(IntoResponse::into_response);
        let headers = response.headers_mut();
        if let Some(index) = Short::of(format_args!("{}", self.index)).value() {
            headers.insert(INDEX, index);
        }
        if let Some(read) = self.read {
            put_read(&read, headers);
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(by) = self.served_by.or_else(|| app.served_by.clone()) {
            headers.insert(SERVED_BY, by);
        }
        response
    }
}

fn put_read(read: &Settled, headers: &mut HeaderMap) {
    headers.insert(LEVEL, HeaderValue::from_static(read.level.as_str()));
    if read.level == ReadLevel::None
        && let Some(staleness) = read.staleness
    {
        headers.insert(STALENESS, HeaderValue::from(as_ms(staleness)));
    }
}

/// The header value of a node's id.
pub(super) fn served_by(id: &PublicId) -> Option<HeaderValue> {
    HeaderValue::try_from(id.to_string()).ok()
}

/// The ETag of what was last changed at `index`.
pub(super) fn etag(response: &mut Response, index: u64) {
    if let Some(tag) = Short::of(format_args!("\"{index}\"")).value() {
        response.headers_mut().insert(ETAG, tag);
    }
}

/// JSON with a status of its own.
pub(super) fn json_with(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, json::CONTENT);
    response
}

/// `{"ok":true,"msg":"OK","index":17…}`.
pub(super) fn done(index: u64, more: impl Display) -> Bytes {
    let text = Short::of(format_args!("{{\"ok\":true,\"msg\":\"OK\",\"index\":{index}{more}}}"));
    Bytes::copy_from_slice(text.as_bytes())
}

/// A short text, made without the allocator.
struct Short {
    text: [u8; 128],
    left: usize,
}

impl Short {
    /// What is longer is cut: nobody here has more to say than two numbers and some names.
    fn of(text: std::fmt::Arguments<'_>) -> Self {
        let mut short = [0; 128];
        let mut rest = &mut short[..];
        let written = rest.write_fmt(text);
        debug_assert!(written.is_ok(), "{text} is no short text");
        let left = rest.len();
        Self { text: short, left }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.text.len() - self.left]
    }

    fn value(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.as_bytes()).ok()
    }
}
