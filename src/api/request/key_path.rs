//! A key as it stands in a path: all that follows `/key/`, percent-decoded once, nothing normalised.

use std::borrow::Cow;

use compact_str::CompactString;

use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::command::{Key, MAX_KEY_BYTES};

/// Decodes and checks the raw text after `/key/`. `+` is a plus.
pub fn decode(raw: &str) -> Result<Key, ApiError> {
    let key = percent_decode(raw).map_err(|why| ApiError::BadRequest(format!("the key in the path {why}")))?;
    check(&key)?;
    Ok(CompactString::from(key))
}

/// Whether a decoded key, from a path or a body, may be one.
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
