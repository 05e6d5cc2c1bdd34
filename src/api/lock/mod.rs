//! `/hraftd/lock/{name}`: locks that expire, with fencing tokens and fair queues.

pub(super) mod acquire;

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Method;
use axum::http::request::Parts;

use super::admission::Pass;
use super::keys::{read_options, too_slow};
use super::service::Service;
use super::write::{self, Outcome, Time};
use super::{App, spec, timer, within};
use crate::api::keys::write::no_body;
use crate::api::request::query::Query;
use crate::api::request::{conditions, key_path};
use crate::api::response::error::ApiError;
use crate::api::response::{Answer, done, json, text};
use crate::command::{Action, Failure, Key, LockView, Reply};
use crate::duration::as_ms;
use crate::node::NodeError;

/// The shortest and the longest `ttl=` of a lock.
const MIN_TTL: Duration = Duration::from_secs(1);
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

pub(super) async fn answer<S: Service>(
    app: &Arc<App<S>>,
    raw_name: &str,
    head: &Parts,
    body: Body,
    pass: &mut Pass<'_>,
) -> Result<Answer, ApiError> {
    match head.method {
        Method::GET | Method::HEAD => get(app, raw_name, head, pass).await,
        Method::POST => acquire::post(app, raw_name, head, body, pass).await,
        Method::PUT => renew(app, raw_name, head, body).await,
        Method::DELETE => release(app, raw_name, head, body).await,
        _ => Err(ApiError::method(&head.method, "GET, HEAD, POST, PUT, DELETE")),
    }
}

/// Shows who holds a lock
#[utoipa::path(
    get,
    path = "/hraftd/lock/{name}",
    tag = "locks",
    params(spec::LockPath, spec::ReadParams),
    responses(
        (status = 200, description = "it is held", body = spec::LockShape),
        (status = 404, description = "nobody holds it", body = spec::Problem),
    )
)]
pub(super) async fn get<S: Service>(
    app: &App<S>,
    raw_name: &str,
    head: &Parts,
    pass: &mut Pass<'_>,
) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["level", "freshness", "min_index", "timeout"])?;
    let options = read_options(&query, app.settings.read_level)?;
    let time = Time::of(&query)?;
    let name = name_of(raw_name)?;
    pass.read(&options, app.service.applied_index())?;
    let read = app.service.lock(&name, options, time.deadline);
    let (lock, index, settled) =
        within(pin!(timer(time.deadline)), read).await.unwrap_or_else(|| Err(too_slow(&time)))?;
    let result = match lock {
        Some(lock) => Ok(json::response(shown(&name, &lock, app.service.log_time_ms()))),
        None => Err(NodeError::NotFound(format!("nobody holds the lock {}", text::quoted(&name))).into()),
    };
    Ok(Answer::read(result, index, settled))
}

/// Keeps a lock for another while
#[utoipa::path(
    put,
    path = "/hraftd/lock/{name}",
    tag = "locks",
    params(
        spec::LockPath,
        ("token" = u64, Query, description = "what the POST answered"),
        ("ttl" = Option<String>, Query, description = "another time to live, 1s to 24h", pattern = "^[0-9]+(ms|s|m|h)$"),
        spec::WriteParams,
        spec::RetryParams,
    ),
    responses(
        (status = 200, description = "it is held", body = spec::LockAnswer),
        (status = 409, description = "it was lost", body = spec::Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = spec::Problem),
    )
)]
pub(super) async fn renew<S: Service>(
    app: &App<S>,
    raw_name: &str,
    head: &Parts,
    body: Body,
) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["token", "ttl", "timeout"])?;
    let time = Time::of(&query)?;
    let (token, ttl_ms) = (token_of(&query)?, ttl_of(&query)?);
    let name = prepare(app, raw_name, head, body, &time).await?;
    let action = Action::Renew { name: name.clone(), token, ttl_ms };
    let outcome = write::write(app, action, head, &[], &time).await?;
    Ok(match outcome.reply {
        Reply::Granted { token, ttl_ms } => outcome.answer(Ok(json::response(granted(&name, token, ttl_ms)))),
        _ => refused(outcome, app, &name),
    })
}

/// Gives a lock up
#[utoipa::path(
    delete,
    path = "/hraftd/lock/{name}",
    tag = "locks",
    params(
        spec::LockPath,
        ("token" = u64, Query, description = "what the POST answered"),
        spec::WriteParams,
        spec::RetryParams,
    ),
    responses(
        (status = 200, description = "who waits longest has it now", body = spec::Done),
        (status = 409, description = "it was not held with this token", body = spec::Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = spec::Problem),
    )
)]
pub(super) async fn release<S: Service>(
    app: &App<S>,
    raw_name: &str,
    head: &Parts,
    body: Body,
) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["token", "timeout"])?;
    let time = Time::of(&query)?;
    let token = token_of(&query)?;
    let name = prepare(app, raw_name, head, body, &time).await?;
    let action = Action::Release { name: name.clone(), token };
    let outcome = write::write(app, action, head, &[], &time).await?;
    Ok(match outcome.reply {
        Reply::Done => {
            let body = done(outcome.index, "");
            outcome.answer(Ok(json::response(body)))
        }
        _ => refused(outcome, app, &name),
    })
}

/// What renewing and releasing have in common.
async fn prepare<S: Service>(
    app: &App<S>,
    raw_name: &str,
    head: &Parts,
    body: Body,
    time: &Time,
) -> Result<Key, ApiError> {
    let name = name_of(raw_name)?;
    conditions::none(head, "a lock has its token")?;
    no_body(app, body, time).await?;
    Ok(name)
}

fn name_of(raw: &str) -> Result<Key, ApiError> {
    key_path::decode(raw).map_err(|error| match error {
        ApiError::BadRequest(why) => ApiError::BadRequest(format!("a lock is named as a key is: {why}")),
        other => other,
    })
}

fn token_of(query: &Query<'_>) -> Result<u64, ApiError> {
    let token = query.number("token", "a token; it is a number that the POST answered")?;
    token.ok_or_else(|| ApiError::BadRequest("give the token= that the POST answered".to_owned()))
}

fn ttl_of(query: &Query<'_>) -> Result<Option<u64>, ApiError> {
    Ok(query.duration_within("ttl", MIN_TTL, MAX_TTL)?.map(as_ms))
}

/// `{"ok":true,"name":"n","token":21,"ttl_ms":15000}`.
fn granted(name: &str, token: u64, ttl_ms: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len() + 64);
    let mut object = json::Object::new(&mut out);
    object.name("ok").extend_from_slice(b"true");
    object.string("name", name);
    json::plain(object.name("token"), token);
    json::plain(object.name("ttl_ms"), ttl_ms);
    object.end();
    out
}

/// `{"name":"n","token":21,"ttl_ms":14000,"body":null,"waiting":0}`: the time is what is left.
fn shown(name: &str, lock: &LockView, log_time_ms: u64) -> Vec<u8> {
    let body = lock.body.as_deref().unwrap_or(b"null");
    let mut out = Vec::with_capacity(name.len() + body.len() + 80);
    let mut object = json::Object::new(&mut out);
    object.string("name", name);
    json::plain(object.name("token"), lock.token);
    json::plain(object.name("ttl_ms"), left_ms(lock, log_time_ms));
    object.name("body").extend_from_slice(body);
    json::plain(object.name("waiting"), lock.waiting);
    object.end();
    out
}

/// A lock whose time is up is held until a tick says otherwise.
fn left_ms(lock: &LockView, log_time_ms: u64) -> u64 {
    lock.deadline_ms.saturating_sub(log_time_ms)
}

/// The 409 of a lock that somebody else holds, or that was not come by in time.
fn locked(name: &str, lock: Option<&LockView>, why: &str, log_time_ms: u64) -> ApiError {
    let name_quoted = text::quoted(name);
    ApiError::Locked {
        msg: match lock {
            Some(_) => format!("the lock {name_quoted} is held{why}; holder tells by whom"),
            None => format!("the lock {name_quoted} was held{why}; nobody holds it now, try again"),
        },
        holder: lock.map_or_else(|| b"null".to_vec(), |lock| shown(name, lock, log_time_ms)),
        retry_after: lock.map_or(0, |lock| left_ms(lock, log_time_ms)).div_ceil(1000).max(1),
    }
}

/// What a lock's entry refused.
fn refused<S: Service>(outcome: Outcome, app: &App<S>, name: &str) -> Answer {
    let lock = match &outcome.reply {
        Reply::Failed(failure) => match &**failure {
            Failure::Locked(lock) => Some(lock.clone()),
            _ => None,
        },
        _ => None,
    };
    match lock {
        Some(lock) => outcome.answer(Err(locked(name, Some(&lock), "", app.service.log_time_ms()))),
        None => outcome.refused(app, name),
    }
}
