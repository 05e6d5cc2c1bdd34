//! JSON answers: a byte writer for what holds stored values, and serde for the rest.
//!
//! Stored values are JSON text already. The writer copies them as they are, without checking them a
//! second time.

use std::fmt::Display;
use std::io::Write;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::value::RawValue;

/// The type of every JSON answer.
pub const CONTENT: HeaderValue = HeaderValue::from_static("application/json");

/// Appends a JSON string with its quotes.
pub fn string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail, and any str is a JSON string.
    let _ = serde_json::to_writer(out, text);
}

/// Appends text that needs no escapes: numbers, durations, addresses.
pub fn plain(out: &mut Vec<u8>, value: impl Display) {
    let _ = write!(out, "{value}");
}

/// Writes one object, member by member, in the order given.
pub struct Object<'a> {
    out: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Opens the object.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, empty: true }
    }

    /// Adds a name, to be followed by a value written to what is returned.
    pub fn name(&mut self, name: &str) -> &mut Vec<u8> {
        if !std::mem::replace(&mut self.empty, false) {
            self.out.push(b',');
        }
        string(self.out, name);
        self.out.push(b':');
        self.out
    }

    /// Adds a string member.
    pub fn string(&mut self, name: &str, value: &str) {
        string(self.name(name), value);
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// A 200 with this JSON text.
pub fn response(body: impl Into<Body>) -> Response {
    response_with(StatusCode::OK, body)
}

/// JSON text with a status of its own.
pub fn response_with(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, CONTENT);
    response
}

/// A value as JSON, with a status of its own.
pub fn response_of(status: StatusCode, value: &impl Serialize) -> Response {
    // Only maps with odd keys and types that say so themselves fail.
    response_with(status, serde_json::to_vec(value).unwrap_or_default())
}

/// Checked JSON text; null where it is not.
pub fn raw(json: Vec<u8>) -> Box<RawValue> {
    let checked = String::from_utf8(json).ok().and_then(|json| RawValue::from_string(json).ok());
    checked.unwrap_or_else(|| RawValue::NULL.to_owned())
}
