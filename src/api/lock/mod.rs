//! `/hraftd/lock/{name}`: locks that expire, with fencing tokens and fair queues.

pub(super) mod acquire;
pub(super) mod list;

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use super::App;
use super::access::Caller;
use super::admission::Pass;
use super::service::Service;
use super::write::{self, WriteOutcome};
use crate::api::access::Head;
use crate::api::request::deadline::{Deadline, WriteParams};
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::request::key_path::LockPath;
use crate::api::request::read::{self, ReadParams};
use crate::api::request::{conditions, query};
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::lock::{LockAnswer, LockShape};
use crate::api::response::{Answer, Done, json, text};
use crate::command::{Action, Failure, Key, LockView, MAX_RENEWED_TTL, MIN_RENEWED_TTL, Need, Reply};
use crate::duration::as_ms;
use crate::node::NodeError;

fn ttl<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    query::duration_within(value, MIN_RENEWED_TTL, MAX_RENEWED_TTL)
}

/// Shows who holds a lock
#[utoipa::path(
    get,
    path = "/hraftd/lock/{name}",
    tag = "locks",
    params(LockPath, ReadParams),
    responses(
        (status = 200, description = "it is held", body = LockShape),
        (status = 404, description = "nobody holds it", body = Problem),
    )
)]
pub async fn get<S: Service>(app: &App<S>, head: &Head, pass: &mut Pass<'_>) -> Result<Answer, ApiError> {
    let (read,): (ReadParams,) = query::parse(head.uri.query())?;
    let (options, deadline) = read.resolve(app.settings.read_level)?;
    let LockPath { name } = LockPath::parse(head)?;
    let caller = Caller::of(head);
    caller.demand(Need::Lock(&name))?;
    pass.read(&options, app.service.applied_index())?;
    let read = app.service.lock(caller.by(), &name, options, deadline.at);
    let (lock, index, settled) = read::in_time(&deadline, read).await?;
    let result = match lock {
        Some((lock, lease)) => {
            let shape = LockShape::new(&name, &lock, app.service.log_time_ms()).under(lease);
            Ok(json::response_of(StatusCode::OK, &shape))
        }
        None => Err(NodeError::NotFound(format!("nobody holds the lock {}", text::quoted(&name))).into()),
    };
    Ok(Answer::read(result, index, settled))
}

/// The proof that the client holds the lock.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct TokenParams {
    /// what the POST answered
    #[serde(deserialize_with = "token")]
    #[param(value_type = u64, required = true)]
    token: Option<u64>,
}

fn token<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    query::number(value, "a token; it is a number that the POST answered")
}

impl TokenParams {
    fn given(&self) -> Result<u64, ApiError> {
        self.token.ok_or_else(|| ApiError::BadRequest("give the token= that the POST answered".to_owned()))
    }
}

/// How long to hold a lock from now on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct RenewParams {
    /// another time to live, 1s to 24h
    #[serde(deserialize_with = "ttl")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$")]
    ttl: Option<Duration>,
}

/// Keeps a lock for another while
#[utoipa::path(
    put,
    path = "/hraftd/lock/{name}",
    tag = "locks",
    params(LockPath, TokenParams, RenewParams, WriteParams, IdempotencyHeader),
    responses(
        (status = 200, description = "it is held", body = LockAnswer),
        (status = 409, description = "it was lost", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn renew<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (token, RenewParams { ttl }, time): (TokenParams, _, WriteParams) = query::parse(head.uri.query())?;
    let (token, ttl_ms, deadline) = (token.given()?, ttl.map(as_ms), time.deadline());
    let name = prepare(app, head, body, &deadline).await?;
    let action = Action::Renew { name: name.clone(), token, ttl_ms };
    let outcome = write::write(app, action, head, &[], &deadline).await?;
    Ok(match outcome.reply {
        Reply::Granted { token, ttl_ms } => outcome.into_answer(Ok(LockAnswer::response(&name, token, ttl_ms))),
        _ => refused(outcome, app, &name),
    })
}

/// Gives a lock up
#[utoipa::path(
    delete,
    path = "/hraftd/lock/{name}",
    tag = "locks",
    params(LockPath, TokenParams, WriteParams, IdempotencyHeader),
    responses(
        (status = 200, description = "who waits longest has it now", body = Done),
        (status = 409, description = "it was not held with this token", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn release<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (token, time): (TokenParams, WriteParams) = query::parse(head.uri.query())?;
    let (token, deadline) = (token.given()?, time.deadline());
    let name = prepare(app, head, body, &deadline).await?;
    let action = Action::Release { name: name.clone(), token };
    let outcome = write::write(app, action, head, &[], &deadline).await?;
    Ok(match outcome.reply {
        Reply::Done => {
            let body = Done::at(outcome.index).json();
            outcome.into_answer(Ok(json::response(body)))
        }
        _ => refused(outcome, app, &name),
    })
}

/// Reads what renewing and releasing have in common.
async fn prepare<S: Service>(app: &App<S>, head: &Head, body: Body, deadline: &Deadline) -> Result<Key, ApiError> {
    let LockPath { name } = LockPath::parse(head)?;
    conditions::none(head, "a lock has its token")?;
    Caller::of(head).demand(Need::Lock(&name))?;
    deadline.no_body(body, &app.body_memory).await?;
    Ok(name)
}

/// The 409 of a lock that somebody else holds, or that was not come by in time.
fn locked(name: &str, lock: Option<&LockView>, why: &str, log_time_ms: u64) -> ApiError {
    let name_quoted = text::quoted(name);
    let shape = lock.map(|lock| LockShape::new(name, lock, log_time_ms));
    ApiError::Locked {
        msg: match shape {
            Some(_) => format!("the lock {name_quoted} is held{why}; holder tells by whom"),
            None => format!("the lock {name_quoted} was held{why}; nobody holds it now, try again"),
        },
        retry_after: shape.as_ref().map_or(1, LockShape::retry_after_seconds),
        holder: shape.map_or_else(|| serde_json::value::RawValue::NULL.to_owned(), |shape| shape.json()),
    }
}

/// The answer to a request that a lock's entry refused.
fn refused<S: Service>(outcome: WriteOutcome, app: &App<S>, name: &str) -> Answer {
    let lock = match &outcome.reply {
        Reply::Failed(failure) => match &**failure {
            Failure::Locked(lock) => Some(lock.clone()),
            _ => None,
        },
        _ => None,
    };
    match lock {
        Some(lock) => outcome.into_answer(Err(locked(name, Some(&lock), "", app.service.log_time_ms()))),
        None => outcome.refused(app, name),
    }
}
