//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a write that may be repeated
//! counts once.

use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use utoipa::IntoParams;
use xxhash_rust::xxh3::Xxh3;

use crate::api::response::error::ApiError;
use crate::command::{Key, Retry};

const NAME: &str = "idempotency-key";

/// The most characters of an `Idempotency-Key`.
const MAX_KEY_CHARS: usize = 128;

/// The header that makes a write safe to repeat.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct IdempotencyHeader {
    /// 1 to 128 visible characters: the first outcome is kept and given again.
    #[param(rename = "Idempotency-Key", value_type = Option<String>, pattern = "^[!-~]{1,128}$")]
    key: Option<Key>,
}

impl IdempotencyHeader {
    /// Reads it.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`]: it is repeated, too long, or not visible ASCII.
    pub fn parse(headers: &HeaderMap) -> Result<Self, ApiError> {
        let mut keys = headers.get_all(NAME).iter();
        let Some(key) = keys.next() else { return Ok(Self { key: None }) };
        let bad = |what: &str| Err(ApiError::BadRequest(format!("the header Idempotency-Key {what}")));
        if keys.next().is_some() {
            return bad("is repeated; give it once");
        }
        let bytes = key.as_bytes();
        if bytes.is_empty() || bytes.len() > MAX_KEY_CHARS || !bytes.iter().all(u8::is_ascii_graphic) {
            return bad("is not 1 to 128 visible ASCII characters");
        }
        Ok(Self { key: Some(String::from_utf8_lossy(bytes).into()) })
    }

    /// The mark by which a repetition of this request is known; `None`: it has no key. Its outcome
    /// is kept for `window_ms`.
    pub fn retry(self, head: &Parts, body: &[u8], window_ms: u64) -> Option<Retry> {
        self.key.map(|key| Retry { key, digest: digest(head, body), window_ms })
    }
}

/// Tells whether the request has a key.
pub fn is_keyed(headers: &HeaderMap) -> bool {
    headers.contains_key(NAME)
}

/// A digest of all that makes the request what it is. Each part comes with its length, so that none
/// runs into the next.
fn digest(head: &Parts, body: &[u8]) -> u128 {
    let path = head.uri.path();
    let path = path.strip_prefix("/hraftd").unwrap_or(path);
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(head.method.as_str().as_bytes());
    part(path.as_bytes());
    part(head.uri.query().unwrap_or_default().as_bytes());
    for name in [IF_MATCH, IF_NONE_MATCH, CONTENT_TYPE] {
        for value in head.headers.get_all(&name) {
            part(value.as_bytes());
        }
        part(&[]);
    }
    part(body);
    hash.digest128()
}
