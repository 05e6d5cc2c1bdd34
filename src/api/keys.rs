//! The key requests: `/hraftd/key` and `/hraftd/key/{key}`.
//!
//! Every answer, an error too, has `X-Hraftd-Index` and `X-Hraftd-Served-By`.

use std::pin::pin;

use axum::body::Body;
use axum::http::Method;
use axum::http::request::Parts;
use axum::response::Response;

use super::answer::{Answer, done};
use super::error::ApiError;
use super::query::Query;
use super::service::Service;
use super::write::{self, Time};
use super::{App, json, key_path, pairs, text, timer, within};
use crate::command::{Action, Reply};
use crate::node::{NodeError, ReadLevel, ReadOptions};

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
    outcome.unwrap_or_else(|error| Answer::refused(error, app)).into_response(app)
}

async fn get<S: Service>(app: &App<S>, raw_key: &str, head: &Parts) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["level", "freshness", "min_index", "timeout"])?;
    let options = read_options(&query, app.settings.read_level)?;
    let time = Time::of(&query)?;
    let key = key_path::decode(raw_key)?;

    let found = within(pin!(timer(time.deadline)), app.service.read(&key, options, time.deadline))
        .await
        .unwrap_or_else(|| Err(too_slow(&time)))?;
    let result = match &found.record {
        None => Err(NodeError::NotFound(format!("there is no key {}", text::quoted(&key))).into()),
        Some(record) => {
            let value = record.json();
            let mut out = Vec::with_capacity(key.len() + value.len() + 8);
            let mut object = json::Object::new(&mut out);
            object.name(&key).extend_from_slice(&value);
            object.end();
            Ok(json::response(out))
        }
    };
    Ok(Answer::found(result, &found))
}

async fn post<S: Service>(app: &App<S>, head: &Parts, body: Body) -> Result<Answer, ApiError> {
    let time = Time::of(&Query::parse(head.uri.query(), &["timeout"])?)?;
    // The pairs are slices of the body, so it keeps its room until they are written.
    let (body, _room) = write::read_body(app, body, &time, pin!(timer(time.deadline))).await?;
    let pairs = pairs::parse(&body, app.settings.max_value_bytes)?;
    let action = Action::Set { pairs, ttl_ms: None, conditions: Vec::new() };
    let outcome = write::write(app, action, head, &body, &time).await?;
    Ok(match outcome.reply {
        Reply::Done => {
            let body = done(outcome.index, "");
            outcome.answer(Ok(json::response(body)))
        }
        _ => outcome.refused(app, ""),
    })
}

async fn delete<S: Service>(app: &App<S>, raw_key: &str, head: &Parts) -> Result<Answer, ApiError> {
    let time = Time::of(&Query::parse(head.uri.query(), &["timeout"])?)?;
    let key = key_path::decode(raw_key)?;
    let action = Action::Delete { key, conditions: Vec::new() };
    let outcome = write::write(app, action, head, &[], &time).await?;
    Ok(match outcome.reply {
        Reply::Deleted(count) => {
            let body = done(outcome.index, format_args!(",\"deleted\":{count}"));
            outcome.answer(Ok(json::response(body)))
        }
        _ => outcome.refused(app, ""),
    })
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
