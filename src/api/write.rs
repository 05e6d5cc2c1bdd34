//! The way of all writes: a body within its limits, a deadline, an outcome.

use std::pin::{Pin, pin};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::request::Parts;
use axum::response::Response;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Sleep};

use super::service::Service;
use super::{App, timer, within};
use crate::api::request::query::Query;
use crate::api::request::{body, idempotency};
use crate::api::response::error::ApiError;
use crate::api::response::{Answer, metadata, served_by, text};
use crate::command::{Action, Command, Failure, NotANumber, OpIndex, Reply, Stamped};
use crate::kv::MAX_READ_BYTES;
use crate::node::{NodeError, Written};
use crate::task;

/// `timeout=` of key requests where there is none, and the most it may be.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
pub(super) const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time {
    pub timeout: Duration,
    pub deadline: Instant,
}

impl Time {
    /// From `timeout=`, counted from now.
    pub fn of(query: &Query<'_>) -> Result<Self, ApiError> {
        let timeout = query.timeout(DEFAULT_TIMEOUT, MAX_TIMEOUT)?;
        Ok(Self { timeout, deadline: Instant::now() + timeout })
    }

    /// For messages.
    pub fn spell(&self) -> String {
        format!("{} (timeout=)", text::go_duration(self.timeout))
    }
}

/// Reads the body of a write.
pub(super) async fn read_body<'a, S: Service>(
    app: &'a App<S>,
    body: Body,
    time: &Time,
    timer: Pin<&mut Sleep>,
) -> Result<body::Held<'a>, ApiError> {
    let read = pin!(body::read(body, app.settings.max_request_bytes, &app.room));
    within(timer, read).await.unwrap_or_else(|| {
        Err(ApiError::RequestTimeout(format!("the request body did not arrive within {}", time.spell())))
    })
}

/// Longer bodies are parsed beside: that takes milliseconds, and the other connections of this thread would wait.
const PARSED_HERE: usize = 256 << 10;

/// Parses a body.
pub(super) async fn parsed<T, F>(body: &Bytes, parse: F) -> Result<T, ApiError>
where
    T: Send + 'static,
    F: FnOnce(&Bytes) -> Result<T, ApiError> + Send + 'static,
{
    if body.len() <= PARSED_HERE {
        return parse(body);
    }
    let body = body.clone();
    joined(task::spawn_blocking(move || parse(&body))).await?
}

/// What a task came to; its panic is the caller's.
pub(super) async fn joined<T>(task: JoinHandle<T>) -> Result<T, ApiError> {
    task.await.map_err(|ended| match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(ended) => NodeError::Internal(ended.to_string()).into(),
    })
}

/// What became of a write.
pub(super) struct Outcome {
    /// Of the entry that did it.
    pub index: u64,
    /// What applying it answered; never [`Reply::Replayed`].
    pub reply: Reply,
    /// Whether that was before, for the same `Idempotency-Key`.
    pub replayed: bool,
    written: Written,
}

impl Outcome {
    /// The answer, once what is to be said is known.
    pub fn answer(self, result: Result<Response, ApiError>) -> Answer {
        let served_by = self.written.served_by.as_ref().and_then(served_by);
        Answer { result, index: self.written.index, served_by, read: None, replayed: self.replayed }
    }

    /// The answer of a write that its entry refused, or of one that was answered by what does not fit it.
    pub fn refused<S: Service>(self, app: &App<S>, key: &str) -> Answer {
        let error = match &self.reply {
            Reply::Failed(failure) => refusal(failure, key, app.service.log_time_ms()),
            other => NodeError::Internal(format!("the write was answered by {other:?}, which does not fit it")).into(),
        };
        self.answer(Err(error))
    }
}

/// Has a write done; `body` is for telling repetitions.
pub(super) async fn write<S: Service>(
    app: &App<S>,
    action: Action,
    head: &Parts,
    body: &[u8],
    time: &Time,
) -> Result<Outcome, ApiError> {
    let retry = idempotency::of(head, body, app.settings.idempotency_window_ms)?;
    let command = Command::Stamped(Stamped { stamp_ms: 0, retry, action });
    let _writing = app.admission.write(time.deadline)?;
    // Pinned before it is passed on: a future that takes another by value has room for it twice.
    let write = pin!(app.service.write(command, time.deadline));
    let mut written = written(within(pin!(timer(time.deadline)), write).await, time)?;
    let reply = std::mem::replace(&mut written.reply, Reply::None);
    Ok(match reply {
        Reply::Replayed { index, reply } => Outcome { index, reply: *reply, replayed: true, written },
        reply => Outcome { index: written.index, reply, replayed: false, written },
    })
}

/// A write that timed out may have been done, or may still be: the message always says so.
fn written(result: Option<Result<Written, NodeError>>, time: &Time) -> Result<Written, NodeError> {
    let why = match result {
        Some(Err(NodeError::Timeout(why))) => why,
        Some(other) => return other,
        None => format!("no answer within {}", time.spell()),
    };
    Err(NodeError::Timeout(format!("{why}. The outcome of this write is unknown: read before you repeat it")))
}

/// Why an entry did nothing, in words.
fn refusal(failure: &Failure, key: &str, log_time_ms: u64) -> ApiError {
    match failure {
        Failure::Precondition { current } => {
            let current = current.as_ref().map(|record| metadata::object(key, record, log_time_ms));
            let msg = match &current {
                Some(_) => format!("{} is not as the request demands; current has what it is", text::quoted(key)),
                None => format!("{} does not exist, and the request demands that it does", text::quoted(key)),
            };
            ApiError::Precondition { msg, current: current.unwrap_or_else(|| b"null".to_vec()) }
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
            let place = place.map(|OpIndex { then, at }| {
                format!("{}[{at}].incr: ", if then { "then" } else { "else" })
            });
            NodeError::Conflict(format!("{}{why}; nothing was changed", place.unwrap_or_default())).into()
        }
        Failure::Locked(_) => NodeError::Conflict(format!("the lock {} is held", text::quoted(key))).into(),
        Failure::LockLost => NodeError::Conflict(format!(
            "the lock {} is not held with this token: it was released, or it expired and somebody else may have it",
            text::quoted(key)
        ))
        .into(),
        Failure::ReadsTooMuch { place: OpIndex { then, at } } => ApiError::TooLarge(format!(
            "{}[{at}].get: with this one the transaction reads more than {} MiB, the most that one may; nothing was changed",
            if *then { "then" } else { "else" },
            MAX_READ_BYTES >> 20
        )),
        Failure::RetryMismatch => ApiError::IdempotencyMismatch(
            "this Idempotency-Key came with another request; a repetition must have the same method, path, query, \
             conditions and body"
                .to_owned(),
        ),
        Failure::RetriesFull => NodeError::NotReady(
            "too many outcomes of requests with an Idempotency-Key are kept already; nothing was done. Try again later, \
             or without"
                .to_owned(),
        )
        .into(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// There is one thread here: a parser that held it up would wait in vain.
    #[tokio::test]
    async fn long_bodies_are_parsed_beside() {
        let (tell, told) = mpsc::channel();
        let body = Bytes::from(vec![b'x'; PARSED_HERE + 1]);
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
        assert_eq!(length.unwrap(), PARSED_HERE + 1);
    }
}
