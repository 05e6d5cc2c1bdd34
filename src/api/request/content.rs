//! Refuses bodies that are not the plain and whole content: they would be stored as if they were.

use axum::http::Method;
use axum::http::header::{CONTENT_ENCODING, CONTENT_RANGE};
use axum::http::request::Parts;

use crate::api::response::error::ApiError;
use crate::api::response::text;

/// Checks what the head of a request says of its body.
///
/// # Errors
/// * [`ApiError::UnsupportedMediaType`]: the body is compressed.
/// * [`ApiError::BadRequest`]: it is a part of the content (RFC 9110, 14.5).
pub fn check(head: &Parts) -> Result<(), ApiError> {
    if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    if head.headers.contains_key(CONTENT_RANGE) {
        return Err(ApiError::BadRequest(
            "Content-Range says that the body is a part, and it would replace the whole; send the whole value"
                .to_owned(),
        ));
    }
    for coding in head.headers.get_all(CONTENT_ENCODING) {
        if !coding.as_bytes().eq_ignore_ascii_case(b"identity") {
            let coding = text::quoted(&String::from_utf8_lossy(coding.as_bytes()));
            return Err(ApiError::UnsupportedMediaType(format!(
                "a body with Content-Encoding {coding} is not taken: it would be given back without the header; send it \
                 decompressed"
            )));
        }
    }
    Ok(())
}
