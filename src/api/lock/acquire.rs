//! `POST /hraftd/lock/{name}`: takes the lock, or waits for it.
//!
//! The place in the queue is replicated, the waiting is this node's. Whoever does not get to hear of a lock must not hold
//! it: an answer that nobody waits for any more gives it back ([`Place`]). Not so where the request has an
//! `Idempotency-Key`: then a repetition finds it, and several nodes may wait for one place. None of them gives it back, not
//! even when the time is up: another may just have told the client that it has the lock. Its deadline in log time ends
//! it for all of them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use tokio::time::{Instant, timeout_at};

use super::{granted, locked, name_of, refused, ttl_of};
use crate::api::admission::Pass;
use crate::api::keys::get::MAX_WAIT;
use crate::api::request::query::Query;
use crate::api::request::{conditions, idempotency, json_body};
use crate::api::response::error::ApiError;
use crate::api::response::{Answer, json};
use crate::api::service::Service;
use crate::api::write::{self, Outcome, Time};
use crate::api::{App, spec, timer};
use crate::command::{Action, Failure, Key, LockView, Reply};
use crate::duration::as_ms;
use crate::kv::Ticket;
use crate::node::{NodeError, ReadLevel, ReadOptions};
use crate::task;

/// How long an answer waits until a place is given back; then that goes on without it.
const CANCEL_WITHIN: Duration = Duration::from_secs(1);

/// How much longer than asked for it is waited for the leader to say that a place with a key has ended.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// Takes a lock
///
/// With `wait` in a queue, first come first served. The token only grows: it fences.
#[utoipa::path(
    post,
    path = "/hraftd/lock/{name}",
    tag = "locks",
    params(
        spec::LockPath,
        ("ttl" = String, Query, description = "how long it is held unless it is renewed, 1s to 24h", pattern = "^[0-9]+(ms|s|m|h)$"),
        ("wait" = Option<String>, Query, description = "how long to wait for it, at most 5m", pattern = "^[0-9]+(ms|s|m|h)$"),
        spec::WriteParams,
        spec::RetryParams,
    ),
    request_body(content = Option<serde_json::Value>, description = "shown to others"),
    responses(
        (status = 200, description = "it is held", body = spec::LockAnswer),
        (
            status = 409,
            description = "somebody else holds it",
            body = spec::Problem,
            headers(("Retry-After" = u64, description = "seconds that the holder has left"))
        ),
        (status = 422, description = "the Idempotency-Key came with another request", body = spec::Problem),
    )
)]
pub(in crate::api) async fn post<S: Service>(
    app: &Arc<App<S>>,
    raw_name: &str,
    head: &Parts,
    body: Body,
    pass: &mut Pass<'_>,
) -> Result<Answer, ApiError> {
    let query = Query::parse(head.uri.query(), &["ttl", "wait", "timeout"])?;
    let time = Time::of(&query)?;
    let Some(ttl_ms) = ttl_of(&query)? else {
        return Err(ApiError::BadRequest("say how long the lock is held unless it is renewed: ttl=15s".to_owned()));
    };
    let wait = query.duration_within("wait", Duration::ZERO, MAX_WAIT)?.unwrap_or_default();
    let name = name_of(raw_name)?;
    if !wait.is_zero() {
        pass.will_wait()?;
    }
    conditions::none(head, "a lock is taken where nobody holds it")?;
    let (body, _room) = write::read_body(app, body, &time, pin!(timer(time.deadline))).await?;
    let most = app.settings.max_value_bytes;
    let shown = write::parsed(&body, move |body| shown_body(body, most)).await?;
    let action = Action::Acquire { name: name.clone(), ttl_ms, body: shown, wait_ms: as_ms(wait) };

    // A task of its own: the entry may be on its way when the client goes, and then its outcome must be known.
    let (shared, head, asked) = (app.clone(), head.clone(), name.clone());
    let written = task::spawn(async move {
        let outcome = write::write(&shared, action, &head, &body, &time).await?;
        let is_place = matches!(outcome.reply, Reply::Granted { .. } | Reply::Queued);
        let place = (is_place && !idempotency::is_keyed(&head)).then(|| Place {
            app: shared,
            name: asked,
            ticket: outcome.index,
        });
        Ok::<_, ApiError>((outcome, place))
    });
    let (outcome, place) = write::joined(written).await??;
    match outcome.reply {
        Reply::Granted { token, ttl_ms } => {
            Place::keep(place);
            Ok(outcome.answer(Ok(json::response(granted(&name, token, ttl_ms)))))
        }
        Reply::Queued => wait_for(app, &name, outcome, place, Instant::now() + wait).await,
        Reply::Failed(ref failure) if matches!(**failure, Failure::LockLost) => {
            let why = " by this request, which lost it since; a request with another Idempotency-Key asks anew";
            let error = locked(&name, None, why, app.service.log_time_ms());
            Ok(outcome.answer(Err(error)))
        }
        _ => Ok(refused(outcome, app, &name)),
    }
}

/// JSON, or nothing.
fn shown_body(body: &bytes::Bytes, most: usize) -> Result<Option<bytes::Bytes>, ApiError> {
    if body.is_empty() {
        return Ok(None);
    }
    let shown = json_body::one(body)?;
    if shown.len() > most {
        return Err(ApiError::TooLarge(format!(
            "the body has {} bytes, more than {most}, the limit of one value (--max-value)",
            shown.len()
        )));
    }
    Ok(Some(shown))
}

async fn wait_for<S: Service>(
    app: &Arc<App<S>>,
    name: &Key,
    outcome: Outcome,
    place: Option<Place<S>>,
    until: Instant,
) -> Result<Answer, ApiError> {
    let is_mine = place.is_some();
    let patience = if is_mine { Duration::ZERO } else { ENDS_WITHIN };
    let became = app.service.await_ticket(name, outcome.index, until, patience).await;
    let result = match became {
        Ok(Ticket::Holds { token, ttl_ms }) => {
            Place::keep(place);
            Ok(json::response(granted(name, token, ttl_ms)))
        }
        Ok(Ticket::Waits) if !is_mine => {
            let why = "the wait is over, and no leader says what became of the place in the queue: repeat the request with \
                       the same Idempotency-Key";
            Err(NodeError::Timeout(why.to_owned()).into())
        }
        Ok(became) => {
            let index = if became == Ticket::Waits { give_back(app, name, outcome.index).await } else { 0 };
            Place::keep(place);
            let why = if Instant::now() >= until {
                ", and was for all of wait="
            } else {
                "; its place in the queue was given up, or it had the lock and lost it"
            };
            let holder = holder(app, name, index).await;
            Err(locked(name, holder.as_ref(), why, app.service.log_time_ms()))
        }
        Err(error) => {
            if is_mine {
                give_back(app, name, outcome.index).await;
                Place::keep(place);
            }
            Err(error.into())
        }
    };
    let index = app.service.applied_index();
    let answer = outcome.answer(result);
    Ok(Answer { index: answer.index.max(index), ..answer })
}

/// Gives a place up; the index of the entry that did, where that is known in time.
async fn give_back<S: Service>(app: &Arc<App<S>>, name: &Key, ticket: u64) -> u64 {
    let deadline = Instant::now() + CANCEL_WITHIN;
    let cancel = Action::Cancel { name: name.clone(), ticket };
    match timeout_at(deadline, app.service.write(cancel.into(), deadline)).await {
        Ok(Ok(written)) => written.index,
        Ok(Err(_)) | Err(_) => {
            app.service.cancel_ticket(name.clone(), ticket);
            0
        }
    }
}

/// Who holds the lock, for those who did not get it: as far as this node knows.
async fn holder<S: Service>(app: &Arc<App<S>>, name: &Key, min_index: u64) -> Option<LockView> {
    let options = ReadOptions { min_index, ..ReadLevel::None.into() };
    let deadline = Instant::now() + CANCEL_WITHIN;
    let read = timeout_at(deadline, app.service.lock(name, options, deadline)).await;
    read.ok()?.ok()?.0
}

/// A lock, or a place in its queue, that is given back unless somebody gets to hear of it.
struct Place<S: Service> {
    app: Arc<App<S>>,
    name: Key,
    ticket: u64,
}

impl<S: Service> Place<S> {
    /// It is settled what becomes of it.
    fn keep(place: Option<Self>) {
        if let Some(mut place) = place {
            place.ticket = SETTLED;
        }
    }
}

/// No entry has this index.
const SETTLED: u64 = 0;

impl<S: Service> Drop for Place<S> {
    fn drop(&mut self) {
        if self.ticket != SETTLED {
            self.app.service.cancel_ticket(self.name.clone(), self.ticket);
        }
    }
}
