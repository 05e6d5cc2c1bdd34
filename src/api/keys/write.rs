//! Writes: `POST /hraftd/key`, and `PUT`, `DELETE` and `POST` of `/hraftd/key/{key}`.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;

use crate::api::request::query::Query;
use crate::api::request::{conditions, json_body, key_path, value};
use crate::api::response::error::ApiError;
use crate::api::response::{Answer, done, etag, json, json_with};
use crate::api::service::Service;
use crate::api::write::Time;
use crate::api::{App, spec, timer, write};
use crate::command::{Action, Reply};
use crate::duration::as_ms;

/// The shortest and the longest `ttl=` of a key: ten years, leap days aside.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// `ttl=`, in milliseconds.
pub(in crate::api) fn ttl(query: &Query<'_>) -> Result<Option<u64>, ApiError> {
    Ok(query.duration_within("ttl", MIN_TTL, MAX_TTL)?.map(as_ms))
}

/// The bounds of a TTL that comes in a body.
pub(in crate::api) fn check_ttl(ttl: Duration) -> bool {
    (MIN_TTL..=MAX_TTL).contains(&ttl)
}

/// Stores keys
///
/// All of them or none, in one log entry. The body is one JSON object; its members become keys and values.
#[utoipa::path(
    post,
    path = "/hraftd/key",
    tag = "keys",
    params(spec::WriteParams, spec::TtlParams, spec::CasParams, spec::ConditionHeaders, spec::RetryParams),
    request_body(content = spec::Pairs, description = "keys and values; any Content-Type"),
    responses(
        (status = 200, description = "stored", body = spec::Done),
        (status = 412, description = "a condition does not hold", body = spec::Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = spec::Problem),
    )
)]
pub(in crate::api) async fn post<S: Service>(app: &App<S>, head: &Parts, body: Body) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["timeout", "ttl", "cas"])?;
    let time = Time::of(&query)?;
    let (ttl_ms, conditions) = (ttl(&query)?, conditions::of_write(head, &query)?);
    // The pairs are slices of the body, so it keeps its room until they are written.
    let (body, _room) = write::read_body(app, body, &time, pin!(timer(time.deadline))).await?;
    let most = app.settings.max_value_bytes;
    let pairs = write::parsed(&body, move |body| json_body::parse(body, most)).await?;
    let one = (pairs.len() == 1).then(|| pairs[0].0.clone());
    if !conditions.is_empty() && one.is_none() {
        return Err(ApiError::BadRequest(format!(
            "a condition is about one key, and there are {}; POST /hraftd/txn takes conditions on many",
            pairs.len()
        )));
    }
    let outcome = write::write(app, Action::Set { pairs, ttl_ms, conditions }, head, &body, &time).await?;
    Ok(match outcome.reply {
        Reply::Done => {
            let mut response = json::response(done(outcome.index, ""));
            if one.is_some() {
                etag(&mut response, outcome.index);
            }
            outcome.answer(Ok(response))
        }
        _ => outcome.refused(app, one.as_deref().unwrap_or_default()),
    })
}

/// Stores one value
///
/// JSON where the Content-Type or `json` says so; otherwise text where it is UTF-8, else bytes.
#[utoipa::path(
    put,
    path = "/hraftd/key/{key}",
    tag = "keys",
    params(
        spec::KeyPath,
        spec::WriteParams,
        spec::TtlParams,
        spec::CasParams,
        spec::ConditionHeaders,
        spec::RetryParams,
        ("json" = Option<bool>, Query, description = "the body is JSON, whatever its Content-Type"),
    ),
    request_body(content(
        (serde_json::Value = "application/json"),
        (String = "text/plain"),
        (Vec<u8> = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "replaced", body = spec::Done, headers(("ETag" = String))),
        (status = 201, description = "created", body = spec::Done, headers(("ETag" = String))),
        (status = 412, description = "a condition does not hold", body = spec::Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = spec::Problem),
    )
)]
pub(in crate::api) async fn put<S: Service>(
    app: &App<S>,
    raw_key: &str,
    head: &Parts,
    body: Body,
) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["timeout", "ttl", "cas", "json"])?;
    let time = Time::of(&query)?;
    let (ttl_ms, conditions) = (ttl(&query)?, conditions::of_write(head, &query)?);
    let json = query.switch("json")?;
    let key = key_path::decode(raw_key)?;
    let (body, _room) = write::read_body(app, body, &time, pin!(timer(time.deadline))).await?;
    let (content_type, most) = (head.headers.get(CONTENT_TYPE).cloned(), app.settings.max_value_bytes);
    let parse = move |body: &_| value::parse(body, content_type.as_ref().map(HeaderValue::as_bytes), json, most);
    let value = write::parsed(&body, parse).await?;
    let action = Action::Put { key: key.clone(), value, ttl_ms, conditions };
    let outcome = write::write(app, action, head, &body, &time).await?;
    Ok(match outcome.reply {
        Reply::Put { created } => {
            let status = if created { StatusCode::CREATED } else { StatusCode::OK };
            let mut response = json_with(status, done(outcome.index, ""));
            etag(&mut response, outcome.index);
            outcome.answer(Ok(response))
        }
        _ => outcome.refused(app, &key),
    })
}

/// Deletes one key
///
/// Whether it exists or not.
#[utoipa::path(
    delete,
    path = "/hraftd/key/{key}",
    tag = "keys",
    params(spec::KeyPath, spec::WriteParams, spec::CasParams, spec::ConditionHeaders, spec::RetryParams),
    responses(
        (status = 200, description = "it is not there any more", body = spec::Deleted),
        (status = 412, description = "a condition does not hold", body = spec::Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = spec::Problem),
    )
)]
pub(in crate::api) async fn delete<S: Service>(
    app: &App<S>,
    raw_key: &str,
    head: &Parts,
    body: Body,
) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["timeout", "cas"])?;
    let time = Time::of(&query)?;
    let conditions = conditions::of_write(head, &query)?;
    let key = key_path::decode(raw_key)?;
    no_body(app, body, &time).await?;
    let outcome = write::write(app, Action::Delete { key: key.clone(), conditions }, head, &[], &time).await?;
    Ok(match outcome.reply {
        Reply::Deleted(count) => {
            let body = done(outcome.index, format_args!(",\"deleted\":{count}"));
            outcome.answer(Ok(json::response(body)))
        }
        _ => outcome.refused(app, &key),
    })
}

/// Adds to an integer, or sets how long a key lives
///
/// `?incr=5` answers `{"key":6}`; a key that is not there counts as 0. `?touch&ttl=30s` changes neither value nor version.
#[utoipa::path(
    post,
    path = "/hraftd/key/{key}",
    tag = "keys",
    params(
        spec::KeyPath,
        spec::WriteParams,
        spec::TtlParams,
        spec::CasParams,
        spec::ConditionHeaders,
        spec::RetryParams,
        ("incr" = Option<i64>, Query, description = "what to add; this or touch"),
        ("touch" = Option<bool>, Query, description = "with ttl: how long the key lives from now on"),
    ),
    responses(
        (status = 200, description = "done", body = spec::NumberOrDone, headers(("ETag" = String))),
        (status = 404, description = "no such key to touch", body = spec::Problem),
        (status = 409, description = "the value is not an integer, or the sum is none of 64 bits", body = spec::Problem),
        (status = 412, description = "a condition does not hold", body = spec::Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = spec::Problem),
    )
)]
pub(in crate::api) async fn post_key<S: Service>(
    app: &App<S>,
    raw_key: &str,
    head: &Parts,
    body: Body,
) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["timeout", "ttl", "cas", "incr", "touch"])?;
    let time = Time::of(&query)?;
    let (ttl_ms, conditions) = (ttl(&query)?, conditions::of_write(head, &query)?);
    let key = key_path::decode(raw_key)?;
    let bad = |what: &str| Err(ApiError::BadRequest(what.to_owned()));
    let action = match (query.integer("incr")?, query.switch("touch")?, ttl_ms) {
        (Some(by), false, ttl_ms) => Action::Incr { key: key.clone(), by, ttl_ms, conditions },
        (None, true, Some(ttl_ms)) => Action::Touch { key: key.clone(), ttl_ms, conditions },
        (None, true, None) => return bad("touch sets how long a key lives: it needs ttl="),
        (Some(_), true, _) => return bad("incr and touch are two requests"),
        (None, false, _) => {
            return bad(
                "POST of one key takes ?incr=5 or ?touch&ttl=30s; PUT stores a value, and so does POST /hraftd/key \
                        with {\"key\":value}",
            );
        }
    };
    no_body(app, body, &time).await?;
    let outcome = write::write(app, action, head, &[], &time).await?;
    let tagged = |mut response: Response, index: u64| {
        etag(&mut response, index);
        Ok(response)
    };
    Ok(match outcome.reply {
        Reply::Number(number) => {
            let mut out = Vec::with_capacity(key.len() + 32);
            let mut object = json::Object::new(&mut out);
            json::plain(object.name(&key), number);
            object.end();
            let index = outcome.index;
            outcome.answer(tagged(json::response(out), index))
        }
        Reply::Touched { modify_index } => {
            let body = json::response(done(outcome.index, ""));
            outcome.answer(tagged(body, modify_index))
        }
        _ => outcome.refused(app, &key),
    })
}

/// What has no use for a body refuses one: a value that is not stored must not look as if it were.
pub(in crate::api) async fn no_body<S: Service>(app: &App<S>, body: Body, time: &Time) -> Result<(), ApiError> {
    let (body, _room) = write::read_body(app, body, time, pin!(timer(time.deadline))).await?;
    if body.is_empty() { Ok(()) } else { Err(ApiError::BadRequest("this request takes no body".to_owned())) }
}
