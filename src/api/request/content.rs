//! Refuses bodies that are not the plain and whole content: they would be stored as if they were.

use axum::http::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method};

use crate::api::response::error::ApiError;
use crate::api::response::text;

/// Checks what the head of a request says of its body.
///
/// # Errors
/// * [`ApiError::UnsupportedMediaType`]: the body is compressed, by its content or for its way.
/// * [`ApiError::BadRequest`]: it is a part of the content (RFC 9110, 14.5), has several types, or says twice how it ends.
pub fn check(head: &Parts) -> Result<(), ApiError> {
    // One in front may have gone by another of them than we do, and have read another request behind this one.
    if head.headers.get_all(TRANSFER_ENCODING).iter().filter(|coding| is_chunked(coding)).nth(1).is_some() {
        return Err(ApiError::BadRequest(
            "there are several Transfer-Encoding: chunked headers; a body is chunked once (RFC 9112, 6.1)".to_owned(),
        ));
    }
    if matches!(head.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return Ok(());
    }
    if head.headers.contains_key(CONTENT_RANGE) {
        return Err(ApiError::BadRequest(
            "Content-Range says that the body is a part, and it would replace the whole; send the whole value"
                .to_owned(),
        ));
    }
    if head.headers.get_all(CONTENT_TYPE).iter().nth(1).is_some() {
        return Err(ApiError::BadRequest("there are several Content-Type headers; a body has one type".to_owned()));
    }
    // hyper takes `chunked` off, and no coding beside it (RFC 9112, 6.1).
    for coding in head.headers.get_all(TRANSFER_ENCODING) {
        if !is_chunked(coding) {
            let coding = text::quoted(&String::from_utf8_lossy(coding.as_bytes()));
            return Err(ApiError::UnsupportedMediaType(format!(
                "a body with Transfer-Encoding {coding} is not taken: it would be stored compressed; send it with \
                 chunked alone"
            )));
        }
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

fn is_chunked(coding: &HeaderValue) -> bool {
    coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    /// The status that a PUT with these headers is refused with.
    fn put(headers: &[(&str, &str)]) -> Option<u16> {
        let mut request = Request::builder().method(Method::PUT).uri("/key/k");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match check(&request.body(()).unwrap().into_parts().0) {
            Ok(()) => None,
            Err(ApiError::BadRequest(_)) => Some(400),
            Err(ApiError::UnsupportedMediaType(_)) => Some(415),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_the_whole_plain_content_of_one_type_is_taken() {
        for (headers, status) in [
            (&[("transfer-encoding", "chunked")][..], None),
            (&[("transfer-encoding", "Chunked")], None),
            (&[("transfer-encoding", "gzip, chunked")], Some(415)),
            (&[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")], Some(415)),
            (&[("transfer-encoding", "chunked"), ("transfer-encoding", "Chunked ")], Some(400)),
            (&[("transfer-encoding", "identity")], Some(415)),
            (&[("content-encoding", "identity")], None),
            (&[("content-encoding", "gzip")], Some(415)),
            (&[("content-type", "text/plain")], None),
            (&[("content-type", "text/plain"), ("content-type", "text/html")], Some(400)),
            (&[("content-range", "bytes 0-1/2")], Some(400)),
        ] {
            assert_eq!(put(headers), status, "{headers:?}");
        }
    }
}
