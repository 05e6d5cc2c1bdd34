//! A key as it stands in a path: all that follows `/key/`, percent-decoded once, nothing
//! normalised.

use std::borrow::Cow;

use axum::http::request::Parts;
use compact_str::CompactString;
use utoipa::IntoParams;

use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::command::{Key, MAX_KEY_BYTES};

/// The key of a path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct KeyPath {
    /// All that follows `/key/`, percent-decoded once; at most 4096 bytes of UTF-8.
    #[param(value_type = String, min_length = 1)]
    pub key: Key,
}

impl KeyPath {
    /// Decodes and checks the raw text after `/key/`.
    ///
    /// # Errors
    /// Those of [`decode`].
    pub fn parse(raw: &str) -> Result<Self, ApiError> {
        decode(raw).map(|key| Self { key })
    }
}

/// The lock of a path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct LockPath {
    /// As keys are named.
    #[param(value_type = String, min_length = 1)]
    pub name: Key,
}

impl LockPath {
    /// Decodes and checks what follows `/hraftd/lock/` in the path of a request.
    ///
    /// # Errors
    /// Those of [`decode`].
    pub fn parse(head: &Parts) -> Result<Self, ApiError> {
        decode(head.uri.path().strip_prefix("/hraftd/lock/").unwrap_or_default()).map(|name| Self { name }).map_err(
            |error| match error {
                ApiError::BadRequest(why) => ApiError::BadRequest(format!("a lock is named as a key is: {why}")),
                other => other,
            },
        )
    }
}

/// The lease of a path.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct LeasePath {
    /// What the POST answered.
    #[param(minimum = 0)]
    pub id: u64,
}

impl LeasePath {
    /// Reads what follows `/hraftd/lease/` in the path of a request.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`]: it is no number that an id could be.
    pub fn parse(head: &Parts) -> Result<Self, ApiError> {
        let raw = head.uri.path().strip_prefix("/hraftd/lease/").unwrap_or_default();
        let digits = raw.bytes().all(|byte| byte.is_ascii_digit());
        raw.parse().ok().filter(|_| digits).map(|id| Self { id }).ok_or_else(|| {
            let raw = text::quoted(raw);
            ApiError::BadRequest(format!(
                "{raw} is not the id of a lease; it is a number that POST /hraftd/lease answered"
            ))
        })
    }
}

/// Decodes and checks a key or a name in a path. `+` is a plus.
///
/// # Errors
/// [`ApiError::BadRequest`]: its escapes are no UTF-8, or it is no key.
pub fn decode(raw: &str) -> Result<Key, ApiError> {
    let key = percent_decode(raw).map_err(|why| ApiError::BadRequest(format!("the key in the path {why}")))?;
    check(&key)?;
    Ok(CompactString::from(key))
}

/// Refuses what cannot be a key. `key` is decoded; it comes from a path, a query or a body.
pub fn check(key: &str) -> Result<(), ApiError> {
    if key.is_empty() {
        return Err(ApiError::BadRequest("the key is empty; a key has at least one character".to_owned()));
    }
    if key.len() > MAX_KEY_BYTES {
        let msg = format!("the key {} is longer than {MAX_KEY_BYTES} bytes, the limit of a key", text::quoted(key));
        return Err(ApiError::BadRequest(msg));
    }
    Ok(())
}

/// Refuses a prefix that is longer than any key: nothing begins with it, and it need not go into
/// the log.
pub fn check_prefix(prefix: &str) -> Result<(), ApiError> {
    if prefix.len() <= MAX_KEY_BYTES {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!(
        "the prefix {} is longer than {MAX_KEY_BYTES} bytes, the limit of a key",
        text::quoted(prefix)
    )))
}

/// Decodes `%XX` once, strictly; the error continues a sentence.
pub fn percent_decode(raw: &str) -> Result<Cow<'_, str>, String> {
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let bytes = raw.as_bytes();
    for (at, _) in raw.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(format!("has a `%` at byte {at} without two hexadecimal digits; a percent sign itself is %25"));
        }
    }
    percent_encoding::percent_decode_str(raw)
        .decode_utf8()
        .map_err(|error| format!("is not UTF-8 once decoded (from byte {} on)", error.valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        let cases = [
            ("a", "a"),
            ("a/b", "a/b"),
            ("a%2Fb%2fc", "a/b/c"),
            ("//a//./../", "//a//./../"),
            ("a+b", "a+b"),
            ("a%2Bb", "a+b"),
            ("a%20b", "a b"),
            ("100%25", "100%"),
            ("%2525", "%25"),
            ("%00", "\0"),
            ("%C3%A9é", "éé"),
            ("%22%7B%3F%23", "\"{?#"),
        ];
        for (raw, key) in cases {
            assert_eq!(decode(raw).unwrap(), key, "{raw}");
        }
        assert!(decode(&"a".repeat(4096)).is_ok());
        assert!(decode(&"%61".repeat(4096)).is_ok(), "the limit counts decoded bytes");
    }

    #[test]
    fn bad_keys() {
        let long = "a".repeat(4097);
        let cases = [
            ("", "empty"),
            ("%", "byte 0"),
            ("a%2", "byte 1"),
            ("%zz", "byte 0"),
            ("ab%%41", "byte 2"),
            ("%é", "byte 0"),
            ("%+1", "byte 0"),
            ("%FF", "UTF-8"),
            ("%C3", "UTF-8"),
            ("%ED%A0%80", "UTF-8"),
            (&long, "4096"),
        ];
        for (raw, part) in cases {
            let ApiError::BadRequest(msg) = decode(raw).unwrap_err() else { panic!("{raw}") };
            assert!(msg.contains(part), "{raw}: {msg}");
        }
    }
}
