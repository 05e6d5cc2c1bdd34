//! Replies written directly: no tree is built to be thrown away.

use std::fmt::Display;
use std::io::Write;

use axum::body::Body;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::Response;

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

    /// Adds a string member whose text needs no escapes.
    pub fn quoted(&mut self, name: &str, value: impl Display) {
        plain(self.name(name), format_args!("\"{value}\""));
    }

    /// Closes the object.
    pub fn end(self) {
        self.out.push(b'}');
    }
}

/// Appends an array, each item by `write`.
pub fn array<T>(out: &mut Vec<u8>, items: impl IntoIterator<Item = T>, mut write: impl FnMut(&mut Vec<u8>, T)) {
    out.push(b'[');
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

/// A 200 with this JSON text.
pub fn response(body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, CONTENT);
    response
}

/// The answer of all that has nothing more to say.
pub fn ok() -> Response {
    response(&br#"{"ok":true,"msg":"OK"}"#[..])
}
