//! The key requests: `POST /hraftd/key`, and `GET` and `DELETE /hraftd/key/{key}`.
//!
//! Every answer, an error too, has `X-Hraftd-Index` and `X-Hraftd-Served-By`.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::error::ApiError;
use super::query::Query;
use super::service::Service;
use super::{App, body, json, key_path, pairs, text, timer, within};
use crate::command::{Command, Reply};
use crate::node::{Found, NodeError, ReadLevel, ReadOptions, Written};
use crate::node_id::PublicId;

const INDEX: HeaderName = HeaderName::from_static("x-hraftd-index");
const LEVEL: HeaderName = HeaderName::from_static("x-hraftd-level");
const STALENESS: HeaderName = HeaderName::from_static("x-hraftd-staleness-ms");
const SERVED_BY: HeaderName = HeaderName::from_static("x-hraftd-served-by");

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// What the node answered, and what the headers say of it.
struct Answer {
    /// The JSON text; an error where the key that was read does not exist.
    body: Result<Vec<u8>, ApiError>,
    index: u64,
    /// `None` for this node.
    served_by: Option<HeaderValue>,
    /// Of a read.
    read: Option<ReadHeaders>,
}

/// What the headers of a read say of it.
struct ReadHeaders {
    level: ReadLevel,
    staleness: Option<Duration>,
}

impl ReadHeaders {
    fn of(found: &Found) -> Self {
        Self { level: found.level, staleness: found.staleness }
    }

    fn put(&self, headers: &mut HeaderMap) {
        headers.insert(LEVEL, HeaderValue::from_static(self.level.as_str()));
        if let Some(staleness) = self.staleness {
            headers.insert(STALENESS, HeaderValue::from(u64::try_from(staleness.as_millis()).unwrap_or(u64::MAX)));
        }
    }
}

/// The header value of a node's id.
pub(super) fn served_by(id: &PublicId) -> Option<HeaderValue> {
    HeaderValue::try_from(id.to_string()).ok()
}

/// Answers a request for the raw key of a path, or for `/hraftd/key`.
pub(super) async fn respond<S: Service>(
    app: &App<S>,
    raw_key: Option<&str>,
    head: &Parts,
    body: Body,
    allowed: Result<(), ApiError>,
) -> Response {
    let outcome = match allowed {
        Err(refused) => Err(refused),
        Ok(()) => match (raw_key, &head.method) {
            (None, &Method::POST) => post(app, head, body).await,
            (None, method) => Err(ApiError::method(method, "POST")),
            (Some(raw), &Method::GET) => get(app, raw, head).await,
            (Some(raw), &Method::DELETE) => delete(app, raw, head).await,
            (Some(_), method) => Err(ApiError::method(method, "GET, DELETE")),
        },
    };
    let answer = outcome.unwrap_or_else(|error| Answer {
        body: Err(error),
        index: app.service.applied_index(),
        served_by: None,
        read: None,
    });
    let mut response = answer.body.map_or_else(IntoResponse::into_response, json::response);
    let headers = response.headers_mut();
    headers.insert(INDEX, HeaderValue::from(answer.index));
    if let Some(read) = answer.read {
        read.put(headers);
    }
    if let Some(by) = answer.served_by.or_else(|| app.served_by.clone()) {
        headers.insert(SERVED_BY, by);
    }
    response
}

async fn get<S: Service>(app: &App<S>, raw_key: &str, head: &Parts) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["level", "freshness", "min_index", "timeout"])?;
    let options = read_options(&query, app.settings.read_level)?;
    let timeout = query.timeout(DEFAULT_TIMEOUT, MAX_TIMEOUT)?;
    let key = key_path::decode(raw_key)?;

    let deadline = Instant::now() + timeout;
    let found =
        within(pin!(timer(deadline)), app.service.read(&key, options, deadline)).await.unwrap_or_else(|| {
            Err(NodeError::Timeout(format!(
                "no answer within {}; ?level=none reads this node's own copy",
                spell(timeout)
            )))
        })?;
    let body = match &found.value {
        None => Err(NodeError::NotFound(format!("there is no key {}", text::quoted(&key))).into()),
        Some(value) => {
            let mut out = Vec::with_capacity(key.len() + value.len() + 8);
            let mut object = json::Object::new(&mut out);
            object.name(&key).extend_from_slice(value);
            object.end();
            Ok(out)
        }
    };
    Ok(Answer {
        body,
        index: found.index,
        read: Some(ReadHeaders::of(&found)),
        served_by: found.served_by.as_ref().and_then(served_by),
    })
}

async fn post<S: Service>(app: &App<S>, head: &Parts, body: Body) -> Result<Answer, ApiError> {
    let timeout = Query::parse(head.uri.query(), &["timeout"])?.timeout(DEFAULT_TIMEOUT, MAX_TIMEOUT)?;
    let deadline = Instant::now() + timeout;
    let mut timer = pin!(timer(deadline));
    let read = body::read(body, app.settings.max_request_bytes, &app.room);
    // The pairs are slices of the body, so it keeps its room until they are written.
    let (body, _room) = within(timer.as_mut(), read).await.unwrap_or_else(|| {
        Err(ApiError::RequestTimeout(format!("the request body did not arrive within {}", spell(timeout))))
    })?;
    let pairs = pairs::parse(&body, app.settings.max_value_bytes)?;
    drop(body);

    let write = app.service.write(Command::Set(pairs), deadline);
    let written = written(within(timer, write).await, timeout)?;
    match written.reply {
        Reply::Set => Ok(answer(&written, "")),
        ref other => Err(unexpected(other)),
    }
}

async fn delete<S: Service>(app: &App<S>, raw_key: &str, head: &Parts) -> Result<Answer, ApiError> {
    let timeout = Query::parse(head.uri.query(), &["timeout"])?.timeout(DEFAULT_TIMEOUT, MAX_TIMEOUT)?;
    let key = key_path::decode(raw_key)?;

    let deadline = Instant::now() + timeout;
    let write = app.service.write(Command::Delete(key), deadline);
    let written = written(within(pin!(timer(deadline)), write).await, timeout)?;
    match written.reply {
        Reply::Deleted(count) => Ok(answer(&written, format_args!(",\"deleted\":{count}"))),
        ref other => Err(unexpected(other)),
    }
}

/// A write that timed out may have been done, or may still be: the message always says so.
fn written(result: Option<Result<Written, NodeError>>, timeout: Duration) -> Result<Written, NodeError> {
    let why = match result {
        Some(Err(NodeError::Timeout(why))) => why,
        Some(other) => return other,
        None => format!("no answer within {}", spell(timeout)),
    };
    Err(NodeError::Timeout(format!("{why}. The outcome of this write is unknown: read before you repeat it")))
}

fn unexpected(reply: &Reply) -> ApiError {
    NodeError::Internal(format!("the write was answered by {reply:?}, which does not fit it")).into()
}

fn answer(written: &Written, more: impl std::fmt::Display) -> Answer {
    let mut out = Vec::with_capacity(64);
    json::plain(&mut out, format_args!("{{\"ok\":true,\"msg\":\"OK\",\"index\":{}{more}}}", written.index));
    Answer {
        body: Ok(out),
        read: None,
        index: written.index,
        served_by: written.served_by.as_ref().and_then(served_by),
    }
}

fn read_options(query: &Query<'_>, default: ReadLevel) -> Result<ReadOptions, ApiError> {
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

fn spell(timeout: Duration) -> String {
    format!("{} (timeout=)", text::go_duration(timeout))
}
