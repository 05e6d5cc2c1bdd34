//! `GET` and `HEAD` of one key: as JSON, raw, with metadata; conditional; as a long poll.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use crate::api::App;
use crate::api::access::{Caller, Guard, Head};
use crate::api::admission::Pass;
use crate::api::request::conditions::{ConditionHeaders, Tags};
use crate::api::request::deadline;
use crate::api::request::key_path::KeyPath;
use crate::api::request::query;
use crate::api::request::read::{self, ReadParams};
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::shapes;
use crate::api::response::{Answer, etag, json, metadata, text};
use crate::api::service::Service;
use crate::command::{Key, Need};
use crate::node::{Found, NodeError, ReadLevel, ReadOptions};
use crate::record::Record;
use crate::watch::Filter;

/// The form in which a key is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Raw,
    Meta,
}

/// The parameters of this request alone.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct GetParams {
    /// the value alone, with its Content-Type; a JSON string unquoted
    raw: bool,
    /// with metadata; not together with raw
    meta: bool,
    /// how long to wait for news, at most 5m
    #[serde(deserialize_with = "deadline::wait")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$")]
    wait: Option<Duration>,
}

/// Reads one key
///
/// As `{"key":value}`, as the value alone (`raw`) or with metadata (`meta`). With `wait` it is a
/// long poll: with `If-None-Match` until the key is another (304 when the time is up), without
/// until it exists (404).
#[utoipa::path(
    get,
    path = "/hraftd/key/{key}",
    tag = "keys",
    params(KeyPath, ReadParams, ConditionHeaders, GetParams),
    responses(
        (
            status = 200,
            description = "what the key holds, in the form asked for",
            content((shapes::KeyForms = "application/json"), (String = "*/*")),
            headers(("ETag" = String, description = "modify_index in quotes"))
        ),
        (status = 304, description = "as If-None-Match has it", headers(("ETag" = String))),
        (status = 404, description = "no such key", body = Problem),
        (status = 412, description = "not as If-Match demands", body = Problem),
    )
)]
pub async fn get<S: Service>(
    app: &Arc<App<S>>,
    raw_key: &str,
    head: &Head,
    pass: &mut Pass<'_>,
) -> Result<Answer, ApiError> {
    let (read, GetParams { raw, meta, wait }): (ReadParams, _) = query::parse(head.uri.query())?;
    let form = match (raw, meta) {
        (true, true) => return Err(ApiError::BadRequest("raw and meta are two forms; ask for one".to_owned())),
        (true, false) => Form::Raw,
        (false, true) => Form::Meta,
        (false, false) => Form::Json,
    };
    let (options, deadline) = read.resolve(app.settings.read_level)?;
    let ConditionHeaders { if_match, if_none_match } = ConditionHeaders::parse(&head.headers)?;
    let KeyPath { key } = KeyPath::parse(raw_key)?;
    let caller = Caller::of(head);
    caller.demand(Need::Read(&key))?;
    pass.read(&options, app.service.applied_index())?;
    if wait.is_some() {
        pass.will_wait()?;
    }

    // Pinned before it is passed on: a future that takes another by value has room for it twice.
    let read = pin!(app.service.read(caller.by(), &key, options, deadline.at));
    let mut found = read::in_time(&deadline, read).await?;
    if let Some(wait) = wait
        && !is_news(&found, if_none_match.as_ref())
    {
        pass.waits();
        let until = Instant::now() + wait;
        let mut guard = Guard::new(app, caller, Filter::Key(key.clone()));
        let news = wait_for_news(app, caller, &key, found, if_none_match.as_ref(), (deadline.timeout, until));
        found = tokio::select! {
            news = Box::pin(news) => news?,
            denied = guard.ended() => return Err(caller.refused(denied)),
        };
    }
    let index = found.record.as_ref().map(Record::modify_index);
    let result = match &found.record {
        record if if_match.as_ref().is_some_and(|tags| !tags.match_index(index)) => Err(ApiError::Precondition {
            msg: format!("{} is not as If-Match demands", text::quoted(&key)),
            current: Some(metadata::current(&key, record.as_ref(), app.service.log_time_ms())),
        }),
        None => Err(NodeError::NotFound(format!("there is no key {}", text::quoted(&key))).into()),
        Some(record) => {
            let mut response = if if_none_match.as_ref().is_some_and(|tags| tags.match_index(index)) {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                response
            } else {
                show(form, &key, record, app.service.log_time_ms())
            };
            etag(&mut response, record.modify_index());
            Ok(response)
        }
    };
    Ok(Answer::found(result, &found))
}

/// Looks whether a key exists
///
/// As GET, without the body.
#[utoipa::path(
    head,
    path = "/hraftd/key/{key}",
    tag = "keys",
    params(KeyPath, ReadParams, ConditionHeaders),
    responses(
        (status = 200, description = "it exists", headers(("ETag" = String, description = "modify_index in quotes"))),
        (status = 304, description = "as If-None-Match has it", headers(("ETag" = String))),
        (status = 404, description = "no such key"),
        (status = 412, description = "not as If-Match demands"),
    )
)]
pub async fn head<S: Service>(
    app: &Arc<App<S>>,
    raw_key: &str,
    head: &Head,
    pass: &mut Pass<'_>,
) -> Result<Answer, ApiError> {
    get(app, raw_key, head, pass).await
}

/// Tells whether a long poll has its answer: the key is another than the client has, or, without a
/// condition, it is there.
fn is_news(found: &Found, is_not: Option<&Tags>) -> bool {
    let index = found.record.as_ref().map(Record::modify_index);
    is_not.map_or(index.is_some(), |is_not| !is_not.match_index(index))
}

/// Reads this node's own state again whenever the key may have changed, from what was read already
/// on.
async fn wait_for_news<S: Service>(
    app: &App<S>,
    caller: &Caller,
    key: &Key,
    first: Found,
    is_not: Option<&Tags>,
    (timeout, until): (Duration, Instant),
) -> Result<Found, ApiError> {
    let watches = app.service.watches()?;
    let mut watcher = watches.wait_for(Filter::Key(key.clone()));
    let options = ReadOptions { min_index: first.index, ..ReadLevel::None.into() };
    loop {
        // The reads here are of this node's own state, which may have turned out not to be its cluster's.
        app.service.watches()?;
        let read = app.service.read(caller.by(), key, options, Instant::now() + timeout).await?;
        let staleness = read.staleness.filter(|_| first.level == ReadLevel::None);
        let found = Found { level: first.level, staleness, ..read };
        if is_news(&found, is_not) || Instant::now() >= until {
            return Ok(found);
        }
        if watches.is_closed() {
            return Err(NodeError::NotReady("this node is stopping; ask another".to_owned()).into());
        }
        // Either way it is read again.
        let _ = timeout_at(until, watcher.changed()).await;
    }
}

fn show(form: Form, key: &str, record: &Record, log_time_ms: u64) -> Response {
    match form {
        Form::Raw => raw(record),
        Form::Meta => json::response(metadata::object(key, record, log_time_ms)),
        Form::Json => {
            let value = record.json();
            let mut out = Vec::with_capacity(key.len() + value.len() + 8);
            let mut object = json::Object::new(&mut out);
            object.name(key).extend_from_slice(&value);
            object.end();
            json::response(out)
        }
    }
}

/// The value alone. A value must not get to run scripts in the name of this node.
fn raw(record: &Record) -> Response {
    let is_text = !record.is_bytes() && record.value().first() == Some(&b'"');
    let unquoted = is_text.then(|| serde_json::from_slice::<String>(record.value()).ok()).flatten();
    let (body, content_type) = match unquoted {
        Some(text) => (Body::from(text), metadata::content_type(record)),
        // A lone surrogate fits no text: the JSON is sent as it is.
        None if is_text => (Body::from(record.shared_value()), "application/json"),
        None => (Body::from(record.shared_value()), metadata::content_type(record)),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    // Checked when it was written.
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
    response
}
