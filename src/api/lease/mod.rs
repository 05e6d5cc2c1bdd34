//! `/hraftd/lease`: one heartbeat for many keys and locks.

pub(super) mod list;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use super::App;
use super::access::{Caller, Guard};
use super::admission::Pass;
use super::service::Service;
use super::write::{self, WriteOutcome};
use crate::api::access::Head;
use crate::api::request::deadline::WriteParams;
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::request::key_path::LeasePath;
use crate::api::request::read::{self, ReadParams};
use crate::api::request::{conditions, json_body, query};
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::lease::{LeaseAnswer, LeaseShape, Names};
use crate::api::response::{Answer, Deleted, json, stream};
use crate::command::{Action, Failure, MAX_RENEWED_TTL, MIN_RENEWED_TTL, Need, Reply};
use crate::duration::as_ms;
use crate::node::{NodeError, StateView};

/// How long a lease lasts from now on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct LeaseTtl {
    /// 1s to 24h
    #[serde(deserialize_with = "ttl")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$")]
    ttl: Option<Duration>,
}

fn ttl<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    query::duration_within(value, MIN_RENEWED_TTL, MAX_RENEWED_TTL)
}

/// Makes a lease
///
/// Its id is the index of the entry that made it. Keys and locks are attached with `lease=`, and go when it ends, all of
/// them at once.
#[utoipa::path(
    post,
    path = "/hraftd/lease",
    tag = "leases",
    params(LeaseTtl, WriteParams, IdempotencyHeader),
    request_body(content = Option<serde_json::Value>, description = "shown to others"),
    responses(
        (status = 201, description = "it is alive", body = LeaseAnswer),
        (status = 409, description = "a repeated request: the lease has ended", body = Problem),
        (status = 507, description = "its body would grow the state beyond the quota; nothing was done", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn post<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (LeaseTtl { ttl }, time): (_, WriteParams) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    let Some(ttl_ms) = ttl.map(as_ms) else {
        return Err(ApiError::BadRequest("say how long the lease lasts unless it is kept alive: ttl=15s".to_owned()));
    };
    conditions::none(head, "a lease is made, whatever there is")?;
    Caller::of(head).demand(Need::WriteAny)?;
    let (body, _memory) = deadline.read_body(body, &app.body_memory).await?;
    let most = app.settings.max_value_bytes;
    let shown = write::parsed(&body, move |body| json_body::shown(body, most)).await?;
    let outcome = write::write(app, Action::Grant { ttl_ms, body: shown }, head, &body, &deadline).await?;
    Ok(match outcome.reply {
        Reply::Leased { lease, ttl_ms } => {
            let response = LeaseAnswer::response(StatusCode::CREATED, outcome.index, lease, ttl_ms);
            outcome.into_answer(Ok(response))
        }
        _ => outcome.refused(app, ""),
    })
}

/// Keeps a lease alive
///
/// For another while from now on. Nothing of its keys changes.
#[utoipa::path(
    put,
    path = "/hraftd/lease/{id}",
    tag = "leases",
    params(LeasePath, LeaseTtl, WriteParams, IdempotencyHeader),
    responses(
        (status = 200, description = "it is alive", body = LeaseAnswer),
        (status = 404, description = "it has ended, or never was", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn keep_alive<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (LeaseTtl { ttl }, time): (_, WriteParams) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    let LeasePath { id } = LeasePath::parse(head)?;
    conditions::none(head, "a lease has its id")?;
    Caller::of(head).demand(Need::WriteAny)?;
    deadline.no_body(body, &app.body_memory).await?;
    let action = Action::KeepAlive { lease: id, ttl_ms: ttl.map(as_ms) };
    let outcome = write::write(app, action, head, &[], &deadline).await?;
    Ok(match outcome.reply {
        Reply::Leased { lease, ttl_ms } => {
            let response = LeaseAnswer::response(StatusCode::OK, outcome.index, lease, ttl_ms);
            outcome.into_answer(Ok(response))
        }
        _ => refused(outcome, app),
    })
}

/// Ends a lease
///
/// With all its keys and locks, in one log entry.
#[utoipa::path(
    delete,
    path = "/hraftd/lease/{id}",
    tag = "leases",
    params(LeasePath, WriteParams, IdempotencyHeader),
    responses(
        (status = 200, description = "it has ended; deleted counts its keys", body = Deleted),
        (status = 404, description = "it had ended, or never was", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn revoke<S: Service>(app: &App<S>, head: &Head, body: Body) -> Result<Answer, ApiError> {
    let (time,): (WriteParams,) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    let LeasePath { id } = LeasePath::parse(head)?;
    conditions::none(head, "a lease has its id")?;
    Caller::of(head).demand(Need::WriteAny)?;
    deadline.no_body(body, &app.body_memory).await?;
    let outcome = write::write(app, Action::Revoke { lease: id }, head, &[], &deadline).await?;
    Ok(match outcome.reply {
        Reply::Deleted(deleted) => {
            let response = json::response(Deleted::json(outcome.index, deleted));
            outcome.into_answer(Ok(response))
        }
        _ => refused(outcome, app),
    })
}

/// Which part of a lease to show.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct LeaseParams {
    /// the names of its keys, not only how many there are
    keys: bool,
}

/// Shows a lease
#[utoipa::path(
    get,
    path = "/hraftd/lease/{id}",
    tag = "leases",
    params(LeasePath, LeaseParams, ReadParams),
    responses(
        (status = 200, description = "it is alive", body = LeaseShape),
        (status = 404, description = "it has ended, or never was", body = Problem),
    )
)]
pub async fn get<S: Service>(app: &Arc<App<S>>, head: &Head, pass: &mut Pass<'_>) -> Result<Answer, ApiError> {
    let (LeaseParams { keys }, read): (_, ReadParams) = query::parse(head.uri.query())?;
    let (options, deadline) = read.resolve(app.settings.read_level)?;
    let LeasePath { id } = LeasePath::parse(head)?;
    let caller = Caller::of(head);
    caller.demand(Need::WriteAny)?;
    pass.read(&options, app.service.applied_index())?;
    let view = app.service.view(caller.by(), &[Need::WriteAny], options, deadline.at);
    let StateView { kv, index, settled } = read::in_time(&deadline, view).await?;
    // Who made it may see it, and who may read all that can be attached to it. To others it is as if it were not there.
    let is_own = kv.has_owner(id) && kv.is_lease_of(id, caller.by());
    let is_shown = is_own || caller.may(Need::ReadAll(""));
    let log_time_ms = app.service.log_time_ms();
    let result = match kv.lease(id).filter(|_| is_shown) {
        Some(lease) if !keys => Ok(json::response_of(StatusCode::OK, &LeaseShape::new(&kv, id, lease, log_time_ms))),
        Some(_) => {
            let gone = kv.gone();
            let goes_on = Guard::listing(app, caller, |look| look(Need::WriteAny));
            Names::new(kv, id, log_time_ms)
                .map(|names| json::response(stream::body(names, Some(gone), Some(goes_on))))
                .ok_or_else(|| not_found(id))
        }
        None => Err(not_found(id)),
    };
    Ok(Answer::read(result, index, settled))
}

fn not_found(id: u64) -> ApiError {
    NodeError::NotFound(format!("there is no lease {id}: it has ended, or never was, or another token made it")).into()
}

/// The answer to a request about a lease that its entry refused: there is none.
fn refused<S: Service>(outcome: WriteOutcome, app: &App<S>) -> Answer {
    match &outcome.reply {
        Reply::Failed(failure) => match **failure {
            Failure::LeaseLost { lease, .. } => outcome.into_answer(Err(not_found(lease))),
            _ => outcome.refused(app, ""),
        },
        _ => outcome.refused(app, ""),
    }
}
