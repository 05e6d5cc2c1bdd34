//! The way of all writes: a body that is parsed, a command, an outcome.

use std::pin::pin;
use std::time::Instant;

use axum::body::Bytes;
use axum::response::Response;
use tokio::task::JoinHandle;

use super::App;
use super::access::Caller;
use super::retry_shares::Client;
use super::service::Service;
use super::timing::{self, Work};
use crate::api::access::Head;
use crate::api::request::deadline::Deadline;
use crate::api::request::idempotency::IdempotencyHeader;
use crate::api::response::error::ApiError;
use crate::api::response::{Answer, metadata, served_by, text};
use crate::command::{Action, Failure, Need, NotANumber, OpIndex, Reply, Stamped};
use crate::kv::{MAX_READ_BYTES, MAX_TOKENS, RetryUse};
use crate::node::{NodeError, Written};
use crate::task;

/// Bodies up to this are parsed at once. Longer ones take milliseconds, for which the other
/// connections of this thread would wait: another thread parses them.
const PARSED_AT_ONCE_BYTES: usize = 256 << 10;

/// Parses a body.
pub async fn parsed<T, F>(body: &Bytes, parse: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&Bytes) -> Result<T, ApiError> + Send + 'static,
{
    if body.len() <= PARSED_AT_ONCE_BYTES {
        return parse(body);
    }
    let body = body.clone();
    joined(task::spawn_blocking(move || parse(&body))).await?
}

/// Waits for a task and gives its output; a panic of the task goes on here.
pub async fn joined<T>(task: JoinHandle<T>) -> Result<T, ApiError> {
    task.await.map_err(|ended| match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(ended) => NodeError::Internal(ended.to_string()).into(),
    })
}

/// A write that its entry did or refused.
pub struct WriteOutcome {
    /// The index of that entry.
    pub index: u64,
    /// The result of applying it; never [`Reply::Replayed`].
    pub reply: Reply,
    /// The entry is an earlier one, of the same `Idempotency-Key`.
    pub replayed: bool,
    written: Written,
    work: Work,
    caller: Caller,
}

impl WriteOutcome {
    /// The answer with this result.
    pub fn into_answer(self, result: Result<Response, ApiError>) -> Answer {
        let served_by = self.written.served_by.as_ref().and_then(served_by);
        let (index, work) = (self.written.index, self.work);
        Answer { result, index, served_by, read: None, replayed: self.replayed, work }
    }

    /// The answer to a write that its entry refused, or that got a reply which does not fit it.
    pub fn refused<S: Service>(self, app: &App<S>, key: &str) -> Answer {
        let error = match &self.reply {
            Reply::Failed(failure) => match &**failure {
                Failure::Denied(denied) => self.caller.refused(denied.clone()),
                // Who may not read it is told only that it is not so.
                Failure::Precondition { .. } if !self.caller.may(Need::Read(key)) => ApiError::Precondition {
                    msg: format!("{} is not as the request demands", text::quoted(key)),
                    current: None,
                },
                failure => refusal(failure, key, self.replayed, app.service.log_time_ms()),
            },
            other => NodeError::Internal(format!("the write was answered by {other:?}, which does not fit it")).into(),
        };
        self.into_answer(Err(error))
    }
}

/// Has a write done; `body` is for telling repetitions.
///
/// # Errors
/// * [`ApiError::BadRequest`]: the `Idempotency-Key` is none.
/// * [`ApiError::Overloaded`]: it was not begun.
/// * [`ApiError::Node`]: the node's own; with [`NodeError::Timeout`] the outcome is unknown. [`NodeError::NotYet`]: the
///   cluster has members that are too old for it.
pub async fn write<S: Service>(
    app: &App<S>,
    action: Action,
    head: &Head,
    body: &[u8],
    deadline: &Deadline,
) -> Result<WriteOutcome, ApiError> {
    let caller = Caller::of(head);
    caller.demand_action(&action)?;
    let retry = IdempotencyHeader::parse(&head.headers)?.retry(head, body, app.settings.idempotency_window_ms);
    if let Some(feature) = action.feature() {
        app.service.require(feature, deadline.at).await?;
    }
    let kept = retry.as_ref().map(|retry| caller.idempotency_key(&retry.key));
    let client = head.extensions.get::<Client>().filter(|_| kept.is_some());
    if let Some(key) = &kept {
        app.retry_shares.admit(client, app.service.retry_room(key))?;
    }
    let command = caller.command(Stamped { stamp_ms: 0, retry, action });
    let _writing = app.admission.write(deadline.at)?;
    // Pinned before it is passed on: a future that takes another by value has room for it twice.
    let asked = Instant::now();
    let write = pin!(app.service.write(command, timing::mark(head), deadline.at));
    let written = written(deadline.run(write).await, deadline);
    if let (Some(client), Some(key)) = (client, kept)
        && let Some(used) = taken(&key, &written)
    {
        app.retry_shares.took(client, used);
    }
    let mut written = written?;
    let reply = std::mem::replace(&mut written.reply, Reply::None);
    let work = Work::write(asked, &written);
    Ok(match reply {
        Reply::Replayed { index, reply } => {
            WriteOutcome { index, reply: *reply, replayed: true, written, work, caller: caller.clone() }
        }
        reply => WriteOutcome { index: written.index, reply, replayed: false, written, work, caller: caller.clone() },
    })
}

/// What is kept, or may be, of a write with an `Idempotency-Key`.
fn taken(key: &str, written: &Result<Written, NodeError>) -> Option<RetryUse> {
    match written.as_ref().map(|written| &written.reply) {
        Ok(Reply::Replayed { .. }) => None,
        Ok(Reply::Failed(failure)) if matches!(**failure, Failure::RetriesFull | Failure::RetryMismatch) => None,
        Ok(reply) => Some(RetryUse::of(key, reply)),
        Err(NodeError::Timeout(_)) => Some(RetryUse::of(key, &Reply::None)),
        Err(_) => None,
    }
}

/// A write that timed out may have been done, or may still be: the message always says so.
fn written(result: Option<Result<Written, NodeError>>, deadline: &Deadline) -> Result<Written, NodeError> {
    let why = match result {
        Some(Err(NodeError::Timeout(why))) => why,
        Some(other) => return other,
        None => format!("no answer within {deadline}"),
    };
    Err(NodeError::Timeout(format!("{why}. The outcome of this write is unknown: read before you repeat it")))
}

/// The error of an entry that did nothing.
fn refusal(failure: &Failure, key: &str, replayed: bool, log_time_ms: u64) -> ApiError {
    match failure {
        Failure::Precondition { current } => {
            let msg = match &current {
                Some(_) => format!("{} is not as the request demands; current has what it is", text::quoted(key)),
                None if replayed => {
                    format!("{} was not as the request demanded; it does not exist now", text::quoted(key))
                }
                None => format!("{} does not exist, and the request demands that it does", text::quoted(key)),
            };
            ApiError::Precondition { msg, current: Some(metadata::current(key, current.as_ref(), log_time_ms)) }
        }
        Failure::Missing => NodeError::NotFound(format!("there is no key {}", text::quoted(key))).into(),
        Failure::NotANumber { place, key, why } => {
            let key = text::quoted(key);
            let why = match why {
                NotANumber::TextOfNumber => format!(
                    "the value of {key} is text, not an integer; store a number with --json 5, or with ?json"
                ),
                NotANumber::Other => format!("the value of {key} is not an integer"),
                NotANumber::Overflow => format!("the sum for {key} does not fit into 64 bits"),
            };
            let place = place.map(|place| place_of(place, "incr"));
            ApiError::NotANumber(format!("{}{why}; nothing was changed", place.unwrap_or_default()))
        }
        // The requests that can be refused so show the holder, and do not come here.
        Failure::Locked(_) => NodeError::Conflict(format!("the lock {} is held", text::quoted(key))).into(),
        Failure::LockLost => ApiError::LockLost(format!(
            "the lock {} is not held with this token: it was released, or it expired and somebody else may have it",
            text::quoted(key)
        )),
        Failure::LeaseLost { place, lease } => ApiError::LeaseLost(format!(
            "{}there is no lease {lease}: it has ended, or never was, or another token made it; nothing was changed",
            place.map(|place| place_of(place, "lease")).unwrap_or_default()
        )),
        Failure::ReadsTooMuch { place } => ApiError::TooLarge(format!(
            "{}with this one the transaction reads more than {} MiB, the most that one may; nothing was changed",
            place_of(*place, "get"),
            MAX_READ_BYTES >> 20
        )),
        Failure::RetryMismatch => ApiError::IdempotencyMismatch(
            "this Idempotency-Key came with another request; a repetition must have the same method, path, query, \
             conditions and body"
                .to_owned(),
        ),
        Failure::Denied(denied) => NodeError::Denied(denied.clone()).into(),
        Failure::CertificateTaken => {
            NodeError::Conflict("another token has this certificate; nothing was done".to_owned()).into()
        }
        Failure::Quota { bytes, quota } => ApiError::Quota(format!(
            "there is no room: the state has {bytes} bytes, and the cluster's quota is {quota}; nothing was done. \
             Delete keys, write smaller values or bodies, or raise --quota on every node; what does not grow the state goes on"
        )),
        Failure::NoToken => NodeError::NotFound("there is no such token".to_owned()).into(),
        Failure::TokensFull => NodeError::Conflict(format!(
            "there are {MAX_TOKENS} tokens, as many as there may be; nothing was done. Delete some"
        ))
        .into(),
        Failure::RetriesFull => NodeError::NotReady(
            "too many outcomes of requests with an Idempotency-Key are kept already; nothing was done. Try again later, \
             or without"
                .to_owned(),
        )
        .into(),
    }
}

/// Names a part of an operation of a transaction.
fn place_of(OpIndex { then, at }: OpIndex, part: &str) -> String {
    format!("{}[{at}].{part}: ", if then { "then" } else { "else" })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// There is one thread here: a parser that held it up would wait in vain.
    #[tokio::test]
    async fn long_bodies_are_parsed_beside() {
        let (tell, told) = mpsc::channel();
        let body = Bytes::from(vec![b'x'; PARSED_AT_ONCE_BYTES + 1]);
        let parse = parsed(&body, move |body| {
            told.recv_timeout(Duration::from_secs(20))
                .map_err(|_| ApiError::BadRequest("it held up others".to_owned()))?;
            Ok(body.len())
        });
        let other = async {
            tokio::task::yield_now().await;
            tell.send(()).unwrap();
        };
        let (length, ()) = tokio::join!(parse, other);
        assert_eq!(length.unwrap(), PARSED_AT_ONCE_BYTES + 1);
    }
}
