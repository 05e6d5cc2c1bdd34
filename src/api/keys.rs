//! The key requests: `/hraftd/key` and `/hraftd/key/{key}`.
//!
//! Every answer, an error too, has `X-Hraftd-Index` and `X-Hraftd-Served-By`.

use axum::body::Body;
use axum::http::Method;
use axum::http::request::Parts;

use super::admission::Pass;
use super::answer::Answer;
use super::error::ApiError;
use super::query::Query;
use super::service::Service;
use super::write::Time;
use super::{App, keys_read, keys_write, listing, text};
use crate::node::{NodeError, ReadLevel, ReadOptions};

/// Answers a request for the raw key of a path, or for `/hraftd/key`.
pub(super) async fn answer<S: Service>(
    app: &App<S>,
    raw_key: Option<&str>,
    head: &Parts,
    body: Body,
    pass: &mut Pass<'_>,
) -> Result<Answer, ApiError> {
    // In a box is what is rare: a future has room for its largest branch, and is moved and zeroed on the way of each request.
    match (raw_key, &head.method) {
        (None, &Method::POST) => keys_write::post(app, head, body).await,
        (None, &(Method::GET | Method::HEAD)) => Box::pin(listing::get(app, head, pass)).await,
        (None, &Method::DELETE) => Box::pin(listing::delete(app, head, body)).await,
        (None, method) => Err(ApiError::method(method, "GET, HEAD, POST, DELETE")),
        (Some(raw), &Method::GET) => keys_read::get(app, raw, head, pass).await,
        (Some(raw), &Method::HEAD) => keys_read::head(app, raw, head, pass).await,
        (Some(raw), &Method::PUT) => keys_write::put(app, raw, head, body).await,
        (Some(raw), &Method::POST) => keys_write::post_key(app, raw, head, body).await,
        (Some(raw), &Method::DELETE) => keys_write::delete(app, raw, head, body).await,
        (Some(_), method) => Err(ApiError::method(method, "GET, HEAD, PUT, POST, DELETE")),
    }
}

/// A read that was not answered in time.
pub(super) fn too_slow(time: &Time) -> NodeError {
    NodeError::Timeout(format!("no answer within {}; ?level=none reads this node's own copy", time.spell()))
}

/// From `level=`, `freshness=` and `min_index=`.
pub(super) fn read_options(query: &Query<'_>, default: ReadLevel) -> Result<ReadOptions, ApiError> {
    let level = match query.value("level")? {
        None => default,
        Some(name) => ReadLevel::from_name(name).ok_or_else(|| {
            ApiError::BadRequest(format!("unknown read level {}; take linearizable, weak or none", text::quoted(name)))
        })?,
    };
    let freshness = query.duration("freshness")?;
    if freshness.is_some() && !matches!(level, ReadLevel::None | ReadLevel::Auto) {
        return Err(ApiError::BadRequest(format!(
            "freshness bounds how old level=none may be; it means nothing with level={}",
            level.as_str()
        )));
    }
    Ok(ReadOptions { level, freshness, min_index: query.index("min_index")?.unwrap_or(0) })
}
