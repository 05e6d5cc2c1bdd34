//! Refuses bodies that are not the plain and whole content: they would be stored as if they were.

use axum::http::Method;
use axum::http::header::CONTENT_ENCODING;
use axum::http::request::Parts;

use crate::api::response::error::ApiError;
use crate::api::response::text;

/// Checks what the head of a request says of its body.
///
/// # Errors
/// [`ApiError::UnsupportedMediaType`]: the body is compressed.
pub fn check(head: &Parts) -> Result<(), ApiError> {
    if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
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
