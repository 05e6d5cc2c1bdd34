//! How long a request may take (`timeout=`), and what is done within that: reading its body, above
//! all.

use std::pin::pin;
use std::time::Duration;

use axum::body::Body;
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, sleep_until};
use utoipa::IntoParams;

use crate::api::request::body::{self, BodyMemory, HeldBody, Place};
use crate::api::request::query;
use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::command::MAX_WAIT;

/// `timeout=` of a request about keys, locks and the like that has none.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest `timeout=`; also that of a change of the membership that has none: a joiner has to
/// catch up first.
const MAX_TIMEOUT: Duration = Duration::from_secs(60);

/// How much later than its deadline a request is given up here: the node's own answer says more, so
/// it goes first.
const GRACE: Duration = Duration::from_millis(100);

/// The parameter of every write.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct WriteParams {
    /// How long the request may take; 10s where it is not given, at most 60s.
    #[serde(deserialize_with = "timeout")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$", example = "10s")]
    timeout: Option<Duration>,
    /// Tell where its time went, in the header `Server-Timing`.
    timing: bool,
}

impl WriteParams {
    /// Counted from now.
    pub fn deadline(&self) -> Deadline {
        Deadline::within(self.timeout)
    }
}

/// How long a change of the membership may take.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct AdminParams {
    /// 60s where it is not given, and at most.
    #[serde(deserialize_with = "timeout")]
    #[param(value_type = Option<String>, pattern = "^[0-9]+(ms|s|m|h)$", example = "60s")]
    timeout: Option<Duration>,
}

impl AdminParams {
    /// Counted from now.
    pub fn deadline(&self) -> Deadline {
        Deadline::within(self.timeout.or(Some(MAX_TIMEOUT)))
    }
}

/// Reads `timeout=`: more than nothing, and at most [`MAX_TIMEOUT`].
///
/// # Errors
/// The value is not such a duration.
pub fn timeout<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    query::duration_where(value, |timeout| {
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err(format!(" is not more than 0 and at most {}", text::duration(MAX_TIMEOUT)));
        }
        Ok(())
    })
}

/// Reads `wait=` of a long poll, or of a lock that somebody holds.
///
/// # Errors
/// The value is no duration up to [`MAX_WAIT`].
pub fn wait<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Duration>, D::Error> {
    query::duration_within(value, Duration::ZERO, MAX_WAIT)
}

/// When a request is given up.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    /// As it was asked for, or the default.
    pub timeout: Duration,
    /// When that is over.
    pub at: Instant,
}

impl Deadline {
    /// The deadline of a request that begins now.
    pub fn within(timeout: Option<Duration>) -> Self {
        let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT);
        Self { timeout, at: Instant::now() + timeout }
    }

    /// Runs `work`; `None`: it did not end in time.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = sleep_until(self.at + GRACE) => None,
        }
    }

    /// Reads the whole body of a request.
    ///
    /// # Errors
    /// Those of [`body::read`], and [`ApiError::RequestTimeout`].
    pub async fn read_body<'a>(&self, body: Body, memory: &'a BodyMemory) -> Result<HeldBody<'a>, ApiError> {
        // Pinned before it is passed on: a future that takes another by value has room for it
        // twice.
        let place = Place::default();
        let read = pin!(body::read(body, memory, &place));
        match self.run(read).await {
            Some(read) => read,
            None if place.is_awaited() => Err(ApiError::Overloaded(format!(
                "this node receives as many large bodies as it takes, and none ended within {self}; nothing was done, try \
                 again later"
            ))),
            None => Err(ApiError::RequestTimeout(format!("the request body did not arrive within {self}"))),
        }
    }

    /// Refuses a body where it would be ignored: a value that is not stored must not look as if it
    /// were.
    ///
    /// # Errors
    /// Those of [`read_body`](Self::read_body), and [`ApiError::BadRequest`].
    pub async fn no_body(&self, body: Body, memory: &BodyMemory) -> Result<(), ApiError> {
        let (body, _memory) = self.read_body(body, memory).await?;
        if body.is_empty() { Ok(()) } else { Err(ApiError::BadRequest("this request takes no body".to_owned())) }
    }
}

impl std::fmt::Display for Deadline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (timeout=)", text::duration(self.timeout))
    }
}
