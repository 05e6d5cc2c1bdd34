//! Answers: their bodies, the errors, and the headers that all answers about keys, locks and the
//! like have.

pub(super) mod array;
pub(super) mod error;
pub(super) mod held;
pub(super) mod json;
pub(super) mod lease;
pub(super) mod lock;
pub(super) mod memory;
pub(super) mod metadata;
pub(super) mod shapes;
pub(super) mod stream;
pub(super) mod text;

use std::io::Write;

use axum::body::Bytes;
use axum::http::header::ETAG;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::timing::Work;
use crate::duration::as_ms;
use crate::node::{Found, ReadLevel, Settled};
use crate::node_id::PublicId;
use error::ApiError;

const INDEX: HeaderName = HeaderName::from_static("x-hraftd-index");
const LEVEL: HeaderName = HeaderName::from_static("x-hraftd-level");
const STALENESS: HeaderName = HeaderName::from_static("x-hraftd-staleness-ms");
pub(super) const SERVED_BY: HeaderName = HeaderName::from_static("x-hraftd-served-by");
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// An answer that is not sent yet.
pub(super) struct Answer {
    /// The response with the headers of its own; or why there is none.
    pub result: Result<Response, ApiError>,
    /// The applied index it was served at.
    pub index: u64,
    /// `None` for this node.
    pub served_by: Option<HeaderValue>,
    /// How a read was served; `None`: it was no read.
    pub read: Option<Settled>,
    /// A repeated request was answered from memory.
    pub replayed: bool,
    /// What was asked of the node for it.
    pub work: Work,
}

impl Answer {
    /// A read of this node's own state.
    pub fn read(result: Result<Response, ApiError>, index: u64, read: Settled) -> Self {
        Self { result, index, served_by: None, read: Some(read), replayed: false, work: Work::read(read, false) }
    }

    /// A read of one key.
    pub fn found(result: Result<Response, ApiError>, found: &Found) -> Self {
        let read = Settled { level: found.level, staleness: found.staleness };
        let work = Work::read(read, found.served_by.is_some());
        Self { served_by: found.served_by.as_ref().and_then(served_by), work, ..Self::read(result, found.index, read) }
    }

    /// The response with all its headers. `this_node` is the header value of this node's id.
    pub fn into_response(self, this_node: Option<&HeaderValue>) -> Response {
        let mut response = self.result.unwrap_or_else(IntoResponse::into_response);
        let headers = response.headers_mut();
        if let Some(index) = Short::format(format_args!("{}", self.index)).value() {
            headers.insert(INDEX, index);
        }
        if let Some(read) = self.read {
            put_read(&read, headers);
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(by) = self.served_by.or_else(|| this_node.cloned()) {
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
    if let Some(tag) = Short::format(format_args!("\"{index}\"")).value() {
        response.headers_mut().insert(ETAG, tag);
    }
}

/// Done, and nothing more to say.
#[derive(Serialize, ToSchema)]
pub(super) struct Fine {
    /// Always true.
    ok: bool,
    msg: &'static str,
}

impl Fine {
    pub fn response() -> Response {
        json::response_of(StatusCode::OK, &Self { ok: true, msg: "OK" })
    }
}

/// A write is done.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {
    /// Always true.
    ok: bool,
    msg: &'static str,
    /// The index of the log entry that did it.
    index: u64,
}

impl Done {
    pub fn at(index: u64) -> Self {
        Self { ok: true, msg: "OK", index }
    }

    pub fn json(&self) -> Bytes {
        short_json(self)
    }
}

/// Keys were deleted.
#[derive(Serialize, ToSchema)]
pub(super) struct Deleted {
    /// Always true.
    ok: bool,
    msg: &'static str,
    /// The index of the log entry that did it.
    index: u64,
    /// How many.
    deleted: u64,
}

impl Deleted {
    pub fn json(index: u64, deleted: u64) -> Bytes {
        short_json(&Self { ok: true, msg: "OK", index, deleted })
    }
}

/// How many keys there are.
#[derive(Serialize, ToSchema)]
pub(super) struct Count {
    count: usize,
}

impl Count {
    pub fn response(count: usize) -> Response {
        json::response_of(StatusCode::OK, &Self { count })
    }
}

/// JSON of at most 128 bytes, in one allocation of its length.
fn short_json(value: &impl Serialize) -> Bytes {
    let text = Short::write(|out| serde_json::to_writer(out, value).is_ok());
    Bytes::copy_from_slice(text.as_bytes())
}

/// A short text, made without the allocator.
struct Short {
    text: [u8; 128],
    left: usize,
}

impl Short {
    /// A longer text is cut: nobody here has more to say than two numbers and some names.
    fn write(write: impl FnOnce(&mut &mut [u8]) -> bool) -> Self {
        let mut text = [0; 128];
        let mut rest = &mut text[..];
        let written = write(&mut rest);
        debug_assert!(written, "no short text");
        let left = rest.len();
        Self { text, left }
    }

    fn format(text: std::fmt::Arguments<'_>) -> Self {
        Self::write(|out| out.write_fmt(text).is_ok())
    }

    fn as_bytes(&self) -> &[u8] {
        &self.text[..self.text.len() - self.left]
    }

    fn value(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.as_bytes()).ok()
    }
}
