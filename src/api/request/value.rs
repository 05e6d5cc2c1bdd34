//! The body of a `PUT`: JSON, text or bytes.
//!
//! JSON if the Content-Type or `?json` says so; otherwise text if it is UTF-8, kept as a JSON
//! string; else bytes. A type that a client's library adds unasked says nothing: curl's form type
//! counts as none, and plain JSON needs no name.

use bytes::Bytes;
use compact_str::CompactString;

use crate::api::request::json_body;
use crate::api::response::error::ApiError;
use crate::api::response::metadata::is_json;
use crate::command::Value;

/// The most bytes of a Content-Type that is kept.
const MAX_CONTENT_TYPE_BYTES: usize = 255;

/// Parses and checks the body. `content_type` is the header, `json` whether `?json` was given.
pub fn parse(body: &Bytes, content_type: Option<&[u8]>, json: bool, max_value_bytes: usize) -> Result<Value, ApiError> {
    let given = content_type.map(check_type).transpose()?.filter(|given| !is_forms(given));
    let kept = given.filter(|given| !given.eq_ignore_ascii_case("application/json")).map(CompactString::from);
    let (data, is_bytes) = if json || given.is_some_and(is_json) {
        (json_body::one(body)?, false)
    } else {
        match std::str::from_utf8(body) {
            Ok(text) => {
                let quoted = serde_json::to_vec(text).map_err(|error| ApiError::BadRequest(error.to_string()))?;
                (Bytes::from(quoted), false)
            }
            Err(_) => (body.clone(), true),
        }
    };
    if data.len() > max_value_bytes {
        let (length, what) = (data.len(), if is_bytes { "" } else { " as JSON text" });
        return Err(ApiError::TooLarge(format!(
            "the value has {length} bytes{what}, more than {max_value_bytes}, the limit of one value (--max-value)"
        )));
    }
    Ok(Value { data, is_bytes, content_type: kept })
}

fn check_type(header: &[u8]) -> Result<&str, ApiError> {
    let text = std::str::from_utf8(header).ok().map(str::trim);
    let fits =
        |text: &&str| text.len() <= MAX_CONTENT_TYPE_BYTES && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    text.filter(fits).ok_or_else(|| {
        ApiError::BadRequest(format!("the Content-Type is not ASCII, or longer than {MAX_CONTENT_TYPE_BYTES} bytes"))
    })
}

/// curl's, where `-d` is given and no type.
fn is_forms(content_type: &str) -> bool {
    content_type.is_empty() || content_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(body: &[u8], content_type: Option<&str>, json: bool) -> Result<Value, ApiError> {
        parse(&Bytes::copy_from_slice(body), content_type.map(str::as_bytes), json, 100)
    }

    #[test]
    fn kinds() {
        const FORM: Option<&str> = Some("application/x-www-form-urlencoded");
        for (body, content_type, json, data, is_bytes, kept) in [
            (&b"{\"a\": 1}"[..], Some("application/json"), false, &b"{\"a\": 1}"[..], false, None),
            (b" 1.50\n", Some("Application/JSON"), false, b"1.50", false, None),
            (
                b"1",
                Some("application/json; charset=utf-8"),
                false,
                b"1",
                false,
                Some("application/json; charset=utf-8"),
            ),
            (b"1", Some("application/geo+json"), false, b"1", false, Some("application/geo+json")),
            (b"1", FORM, true, b"1", false, None),
            (b"1", None, false, b"\"1\"", false, None),
            (b"a\"\n", FORM, false, b"\"a\\\"\\n\"", false, None),
            (b"", None, false, b"\"\"", false, None),
            (b"<p>", Some("text/html"), false, b"\"<p>\"", false, Some("text/html")),
            (b"\xff", FORM, false, b"\xff", true, None),
            (b"\xff", Some("image/png"), false, b"\xff", true, Some("image/png")),
            (b"1", Some("text/plain"), true, b"1", false, Some("text/plain")),
        ] {
            let wanted =
                Value { data: Bytes::copy_from_slice(data), is_bytes, content_type: kept.map(CompactString::from) };
            assert_eq!(value(body, content_type, json).unwrap(), wanted, "{body:?} {content_type:?} {json}");
        }
    }

    #[test]
    fn what_is_refused() {
        for body in [&b""[..], b"{", b"1 2", b"\xff", b"nul", b"\"\x01\""] {
            for (content_type, json) in [(Some("application/json"), false), (None, true)] {
                assert!(matches!(value(body, content_type, json), Err(ApiError::BadRequest(_))), "{body:?}");
            }
        }
        let deep = [b"[".repeat(129), b"]".repeat(129)].concat();
        assert!(matches!(value(&deep, None, true), Err(ApiError::BadRequest(_))));
        let long = "a/".to_owned() + &"b".repeat(300);
        for content_type in [long.as_str(), "a\u{e9}"] {
            assert!(matches!(value(b"1", Some(content_type), false), Err(ApiError::BadRequest(_))));
        }
        assert!(value(&[b'a'; 98], None, false).is_ok());
        assert!(matches!(value(&[b'a'; 99], None, false), Err(ApiError::TooLarge(_))));
        assert!(matches!(value(&[0xff; 101], None, false), Err(ApiError::TooLarge(_))));
    }
}
