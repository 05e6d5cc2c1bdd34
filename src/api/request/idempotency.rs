//! `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header): a write that may be repeated counts once.

use axum::http::header::{CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use axum::http::request::Parts;
use xxhash_rust::xxh3::Xxh3;

use crate::api::response::error::ApiError;
use crate::command::Retry;

const NAME: &str = "idempotency-key";

/// The most characters of a key.
const MAX_KEY: usize = 128;

/// Whether the request has a key.
pub fn is_keyed(head: &Parts) -> bool {
    head.headers.contains_key(NAME)
}

/// What tells a repetition of this request, where it has a key.
pub fn of(head: &Parts, body: &[u8], window_ms: u64) -> Result<Option<Retry>, ApiError> {
    let mut keys = head.headers.get_all(NAME).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let bad = |what: &str| Err(ApiError::BadRequest(format!("the header Idempotency-Key {what}")));
    if keys.next().is_some() {
        return bad("is repeated; give it once");
    }
    let bytes = key.as_bytes();
    if bytes.is_empty() || bytes.len() > MAX_KEY || !bytes.iter().all(u8::is_ascii_graphic) {
        return bad("is not 1 to 128 visible ASCII characters");
    }
    let key = String::from_utf8_lossy(bytes).into();
    Ok(Some(Retry { key, digest: digest(head, body), window_ms }))
}

/// Of all that makes the request what it is; each part with its length, so that none runs into the next.
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
