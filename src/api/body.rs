//! Request bodies, bounded. Their time is bounded by the caller.

use axum::body::{Body, Bytes, HttpBody};
use bytes::BytesMut;
use http_body_util::BodyExt;

use super::error::ApiError;

/// Reads the whole body, unless it is, or says it will be, longer than `limit` (`--max-request`).
///
/// A body that came in one piece, as small ones do, is not copied.
pub async fn read(mut body: Body, limit: usize) -> Result<Bytes, ApiError> {
    // Before the first read, which is what would send a client that waits for it its "100 Continue".
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    let Some(first) = next(&mut body).await? else {
        return Ok(Bytes::new());
    };
    if first.len() > limit {
        return Err(too_large(limit));
    }
    if body.is_end_stream() {
        return Ok(first);
    }
    // `announced` is within the limit, and memory that is not written yet costs nothing.
    let mut all = BytesMut::with_capacity((announced as usize).max(first.len() * 2));
    all.extend_from_slice(&first);
    drop(first);
    while let Some(data) = next(&mut body).await? {
        if all.len() + data.len() > limit {
            return Err(too_large(limit));
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

async fn next(body: &mut Body) -> Result<Option<Bytes>, ApiError> {
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                // Trailers are of no interest.
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
            Err(error) => return Err(ApiError::BadRequest(format!("the request body broke off: {error}"))),
        }
    }
    Ok(None)
}

fn too_large(limit: usize) -> ApiError {
    ApiError::TooLarge(format!(
        "the request body is longer than {limit} bytes, the limit of one request (--max-request); send less at once"
    ))
}
