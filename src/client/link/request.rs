//! A request, as it is put to one endpoint after another: each time the same.

use std::time::Duration;

use bytes::Bytes;
use hyper::Method;
use hyper::header::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::client::random_id;

/// An endpoint answers within this time, or another is asked. A node waits 3 s for a leader.
const ATTEMPT: Duration = Duration::from_secs(5);

/// What a path or a query may have as it is, `/` among it.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A request.
#[derive(Debug, Clone)]
pub(in crate::client) struct Request {
    pub(super) method: Method,
    /// With its query.
    pub(super) path: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Bytes,
    /// One endpoint is given this time.
    pub(super) attempt: Duration,
    /// One round of the endpoints is all.
    pub(super) once: bool,
    /// How long to try, where that is not what the command line says.
    pub(super) within: Option<Duration>,
}

impl Request {
    fn new(method: Method, path: impl Into<String>, body: Bytes) -> Self {
        Self { method, path: path.into(), headers: Vec::new(), body, attempt: ATTEMPT, once: false, within: None }
    }

    /// A read.
    pub(in crate::client) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, Bytes::new())
    }

    /// A write, with an `Idempotency-Key` of its own: wherever it is repeated, it counts once.
    pub(in crate::client) fn write(method: Method, path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let id = format!("cli-{}", random_id());
        Self::plain(method, path, body).header("idempotency-key", &id)
    }

    /// A change of members, tokens and the like, which takes no `Idempotency-Key`.
    pub(in crate::client) fn plain(method: Method, path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self::new(method, path, body.into())
    }

    /// With this header. One that cannot be sent is left out: none comes from the command line but tokens.
    pub(in crate::client) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }

    /// One endpoint is given this time.
    pub(in crate::client) fn attempt(mut self, attempt: Duration) -> Self {
        self.attempt = attempt;
        self
    }

    /// It is tried for so long.
    pub(in crate::client) fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Each endpoint is asked once, and no longer is tried.
    pub(in crate::client) fn once(mut self) -> Self {
        self.once = true;
        self
    }

    /// True where it may be put to another node though this one may have done it.
    pub(super) fn is_repeatable(&self) -> bool {
        !self.is_write() || self.headers.iter().any(|(name, _)| name == "idempotency-key")
    }

    /// True where it may change something.
    pub(super) fn is_write(&self) -> bool {
        self.method != Method::GET
    }
}

/// A key or name, as a path or a query has it.
pub(in crate::client) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The path of a key.
pub(in crate::client) fn key_path(key: &str) -> String {
    format!("/hraftd/key/{}", encoded(key))
}

/// A path with those of the parameters that are there; a value of "" stands for a switch.
pub(in crate::client) fn query(path: &str, parameters: &[(&str, Option<String>)]) -> String {
    let mut out = path.to_owned();
    for (name, value) in parameters.iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
        out.push(if out.contains('?') { '&' } else { '?' });
        out.push_str(name);
        if !value.is_empty() {
            out.push('=');
            out.push_str(&encoded(value));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_queries_are_encoded_once() {
        assert_eq!(key_path("app/a b%?é+"), "/hraftd/key/app/a%20b%25%3F%C3%A9%2B");
        let all = [("raw", Some(String::new())), ("cas", None), ("prefix", Some("a&b".to_owned()))];
        assert_eq!(query("/p", &all), "/p?raw&prefix=a%26b");
    }

    #[test]
    fn each_write_has_an_id_of_its_own() {
        let id = || Request::write(Method::PUT, "/p", "").headers[0].1.clone();
        assert_ne!(id(), id());
        assert!(Request::plain(Method::PUT, "/p", "").headers.is_empty());
    }
}
