//! The key requests: `/hraftd/key` and `/hraftd/key/{key}`.
//!
//! Every answer, an error too, has `X-Hraftd-Index` and `X-Hraftd-Served-By`.

pub(in crate::api) mod get;
pub(in crate::api) mod listing;
pub(in crate::api) mod write;

use axum::body::Body;
use axum::http::Method;
use axum::http::request::Parts;

use super::App;
use super::admission::Pass;
use super::service::Service;
use super::write::Time;
use crate::api::request::query::Query;
use crate::api::response::error::ApiError;
use crate::api::response::{Answer, text};
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
        (None, &Method::POST) => write::post(app, head, body).await,
        (None, &(Method::GET | Method::HEAD)) => Box::pin(listing::get(app, head, pass)).await,
        (None, &Method::DELETE) => Box::pin(listing::delete(app, head, body)).await,
        (None, method) => Err(ApiError::method(method, "GET, HEAD, POST, DELETE")),
        (Some(raw), &Method::GET) => get::get(app, raw, head, pass).await,
        (Some(raw), &Method::HEAD) => get::head(app, raw, head, pass).await,
        (Some(raw), &Method::PUT) => write::put(app, raw, head, body).await,
        (Some(raw), &Method::POST) => write::post_key(app, raw, head, body).await,
        (Some(raw), &Method::DELETE) => write::delete(app, raw, head, body).await,
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
