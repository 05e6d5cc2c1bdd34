//! `POST /hraftd/lock/{name}`: takes the lock, or waits for it.
//!
//! The place in the queue is replicated; the waiting is this node's. A client that does not get to
//! hear of a lock must not hold it:
//!
//! * An answer that nobody waits for any more gives the lock back, or the place in its queue
//!   ([`QueuePlace`]).
//! * With an `Idempotency-Key` it does not: a repetition finds the lock, and several nodes may wait
//!   for one place. None of them gives it back, even when the time is up: another may just have
//!   told the client that it has the lock. Its deadline in log time ends it for all of them.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use utoipa::IntoParams;

use super::{locked, refused};
use crate::api::App;
use crate::api::access::{Caller, Guard, Head};
use crate::api::admission::Pass;
use crate::api::request::deadline::{self, WriteParams};
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::request::key_path::LockPath;
use crate::api::request::ttl::{self, Life};
use crate::api::request::{conditions, idempotency, json_body, query};
use crate::api::response::error::{ApiError, Problem};
use crate::api::response::lock::LockAnswer;
use crate::api::response::{Answer, text};
use crate::api::service::Service;
use crate::api::write::{self, WriteOutcome};
use crate::command::{Action, Failure, Key, Leased, LockView, Need, Reply};
use crate::duration::as_ms;
use crate::kv::Ticket;
use crate::node::{NodeError, ReadLevel, ReadOptions};
use crate::task;
use crate::watch::Filter;

/// How long an answer waits until a place is given back; then that goes on without it.
const GIVE_BACK_WITHIN: Duration = Duration::from_secs(1);

/// How much longer than asked for it is waited for the leader to say that a place with a key has
/// ended.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// How long to hold a lock, and how long to wait for it.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct AcquireParams {
    /// how long it is held unless it is renewed, 1s to 24h; this or lease
    #[serde(deserialize_with = "super::ttl")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$")]
    ttl: Option<Duration>,
    /// the lease that it is held under
    #[serde(deserialize_with = "ttl::lease")]
    #[param(minimum = 0)]
    lease: Option<u64>,
    /// how long to wait for it, at most 5m
    #[serde(deserialize_with = "deadline::wait")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$")]
    wait: Option<Duration>,
}

/// Takes a lock
///
/// With `wait` in a queue, first come first served. The token only grows: it fences.
#[utoipa::path(
    post,
    path = "/hraftd/lock/{name}",
    tag = "locks",
    params(LockPath, AcquireParams, WriteParams, IdempotencyHeader),
    request_body(content = Option<serde_json::Value>, description = "shown to others"),
    responses(
        (status = 200, description = "it is held", body = LockAnswer),
        (
            status = 409,
            description = "somebody else holds it",
            body = Problem,
            headers(("Retry-After" = u64, description = "seconds that the holder has left"))
        ),
        (status = 507, description = "its body would grow the state beyond the quota; nothing was done", body = Problem),
        (status = 422, description = "the Idempotency-Key came with another request", body = Problem),
    )
)]
pub async fn post<S: Service>(
    app: &Arc<App<S>>,
    head: &Head,
    body: Body,
    pass: &mut Pass<'_>,
) -> Result<Answer, ApiError> {
    let (AcquireParams { ttl, lease, wait }, time): (_, WriteParams) = query::parse(head.uri.query())?;
    let deadline = time.deadline();
    let hold = match (ttl.map(as_ms), lease) {
        (Some(ttl_ms), None) => Life::Ttl(Some(ttl_ms)),
        (None, Some(lease)) => Life::Lease(lease),
        (Some(_), Some(_)) => return Err(ttl::both()),
        (None, None) => {
            let why = "say how long the lock is held unless it is renewed: ttl=15s, or lease= and the id of a lease";
            return Err(ApiError::BadRequest(why.to_owned()));
        }
    };
    let wait = wait.unwrap_or_default();
    let LockPath { name } = LockPath::parse(head)?;
    if !wait.is_zero() {
        pass.will_wait()?;
    }
    conditions::none(head, "a lock is taken where nobody holds it")?;
    Caller::of(head).demand(Need::Lock(&name))?;
    let (body, _memory) = deadline.read_body(body, &app.body_memory).await?;
    let most = app.settings.max_value_bytes;
    let shown = write::parsed(&body, move |body| json_body::shown(body, most)).await?;
    let (asked_for, wait_ms) = (name.clone(), as_ms(wait));
    let action = match hold {
        Life::Lease(lease) => {
            Action::Leased { lease, write: Leased::Acquire { name: asked_for, body: shown, wait_ms } }
        }
        Life::Ttl(ttl_ms) => {
            Action::Acquire { name: asked_for, ttl_ms: ttl_ms.unwrap_or_default(), body: shown, wait_ms }
        }
    };

    // A task of its own: the entry may be on its way when the client goes, and then its outcome
    // must be known.
    let (shared, asker, asked) = (app.clone(), head.clone(), name.clone());
    let written = task::spawn(async move {
        let outcome = write::write(&shared, action, &asker, &body, &deadline).await?;
        let is_place = matches!(outcome.reply, Reply::Granted { .. } | Reply::Queued);
        let place = (is_place && !idempotency::is_keyed(&asker.headers)).then(|| QueuePlace {
            app: shared,
            name: asked,
            ticket: outcome.index,
        });
        Ok::<_, ApiError>((outcome, place))
    });
    let (outcome, place) = write::joined(written).await??;
    match outcome.reply {
        Reply::Granted { token, ttl_ms } => {
            QueuePlace::keep(place);
            Ok(outcome.into_answer(Ok(LockAnswer::response(&name, token, ttl_ms))))
        }
        Reply::Queued => wait_for(app, Caller::of(head), &name, outcome, place, Instant::now() + wait).await,
        Reply::Failed(ref failure) if matches!(**failure, Failure::LockLost) => {
            let error = ApiError::LockLost(format!(
                "the lock {} was held by this request, which lost it since; nobody holds it now: a request with another \
                 Idempotency-Key asks anew",
                text::quoted(&name)
            ));
            Ok(outcome.into_answer(Err(error)))
        }
        _ => Ok(refused(outcome, app, &name)),
    }
}

async fn wait_for<S: Service>(
    app: &Arc<App<S>>,
    caller: &Caller,
    name: &Key,
    outcome: WriteOutcome,
    place: Option<QueuePlace<S>>,
    until: Instant,
) -> Result<Answer, ApiError> {
    let is_mine = place.is_some();
    let patience = if is_mine { Duration::ZERO } else { ENDS_WITHIN };
    let mut guard = Guard::new(app, caller, Filter::Lock(name.clone()));
    let became = tokio::select! {
        biased;
        // First: who may not have it any more is not told that it is his.
        denied = guard.ended() => Err(NodeError::Denied(denied)),
        became = app.service.await_ticket(name, outcome.index, until, patience) => became,
    };
    let result = match became {
        Ok(Ticket::Holds { token, ttl_ms }) => {
            QueuePlace::keep(place);
            Ok(LockAnswer::response(name, token, ttl_ms))
        }
        Ok(Ticket::Waits) if !is_mine => {
            let why = "the wait is over, and no leader says what became of the place in the queue: repeat the request with \
                       the same Idempotency-Key";
            Err(NodeError::Timeout(why.to_owned()).into())
        }
        Ok(became) => {
            let index = if became == Ticket::Waits { give_back(app, name, outcome.index).await } else { 0 };
            QueuePlace::keep(place);
            let why = if Instant::now() >= until {
                ", and was for all of wait="
            } else {
                "; its place in the queue was given up, or it had the lock and lost it"
            };
            let holder = holder(app, caller, name, index).await;
            Err(locked(name, holder.as_ref(), why, app.service.log_time_ms()))
        }
        Err(error) => {
            if is_mine {
                give_back(app, name, outcome.index).await;
                QueuePlace::keep(place);
            }
            Err(error.into())
        }
    };
    let index = app.service.applied_index();
    let answer = outcome.into_answer(result);
    Ok(Answer { index: answer.index.max(index), ..answer })
}

/// Gives a place up; the index of the entry that did, where that is known in time.
async fn give_back<S: Service>(app: &Arc<App<S>>, name: &Key, ticket: u64) -> u64 {
    let deadline = Instant::now() + GIVE_BACK_WITHIN;
    let cancel = Action::Cancel { name: name.clone(), ticket };
    match timeout_at(deadline, app.service.write(cancel.into(), None, deadline)).await {
        Ok(Ok(written)) => written.index,
        Ok(Err(_)) | Err(_) => {
            app.service.cancel_ticket(name.clone(), ticket);
            0
        }
    }
}

/// The holder of the lock as far as this node knows, for a client that did not get it.
async fn holder<S: Service>(app: &Arc<App<S>>, caller: &Caller, name: &Key, min_index: u64) -> Option<LockView> {
    let options = ReadOptions { min_index, ..ReadLevel::None.into() };
    let deadline = Instant::now() + GIVE_BACK_WITHIN;
    let read = timeout_at(deadline, app.service.lock(caller.by(), name, options, deadline)).await;
    read.ok()?.ok()?.0.map(|(lock, _)| lock)
}

/// A lock, or a place in its queue, that is given back unless somebody gets to hear of it.
struct QueuePlace<S: Service> {
    app: Arc<App<S>>,
    name: Key,
    ticket: u64,
}

impl<S: Service> QueuePlace<S> {
    /// Keeps the place: it is settled what becomes of it.
    fn keep(place: Option<Self>) {
        if let Some(mut place) = place {
            place.ticket = SETTLED;
        }
    }
}

/// No entry has this index.
const SETTLED: u64 = 0;

impl<S: Service> Drop for QueuePlace<S> {
    fn drop(&mut self) {
        if self.ticket != SETTLED {
            self.app.service.cancel_ticket(self.name.clone(), self.ticket);
        }
    }
}
