//! Answers, and what they mean for the exit code.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{HeaderMap, Response, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use crate::config::Endpoint;
use crate::exit::{EX_FAILURE, Exit};

/// A header of each answer that a node makes.
const MADE_BY_A_NODE: &str = "x-hraftd-index";

/// An answer, whole.
#[derive(Debug)]
pub(in crate::client) struct Answer {
    pub(in crate::client) status: StatusCode,
    pub(in crate::client) headers: HeaderMap,
    pub(in crate::client) body: Bytes,
    pub(in crate::client) endpoint: Endpoint,
    /// When the request that was answered was sent, by [`now`].
    pub(in crate::client) sent: Duration,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is none: 1.
    pub(in crate::client) fn json(&self) -> Result<Value, Exit> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Exit::error(EX_FAILURE, format!("{}: the answer is not hraftd's: {error}", self.endpoint)))
    }

    /// Itself, where all went well.
    ///
    /// # Errors
    /// What was refused: 1.
    pub(in crate::client) fn ok(self) -> Result<Self, Exit> {
        if self.status.is_success() { Ok(self) } else { Err(self.refused()) }
    }

    /// Itself, where it says that what was asked is done. Any server says 200.
    ///
    /// # Errors
    /// What was refused, or is not hraftd's: 1.
    pub(in crate::client) fn done(self) -> Result<Self, Exit> {
        let answer = self.ok()?;
        if answer.json()?["ok"] == true { Ok(answer) } else { Err(answer.is_strange()) }
    }

    /// Itself, where its header says that a node made it: its body may be anything.
    ///
    /// # Errors
    /// What was refused, or is not hraftd's: 1.
    pub(in crate::client) fn of_a_node(self) -> Result<Self, Exit> {
        let answer = self.ok()?;
        if answer.header(MADE_BY_A_NODE).is_some() { Ok(answer) } else { Err(answer.is_strange()) }
    }

    /// Itself, where it is JSON that has this.
    ///
    /// # Errors
    /// What was refused, or is not hraftd's: 1.
    pub(in crate::client) fn with(self, name: &str) -> Result<Self, Exit> {
        let answer = self.ok()?;
        if answer.json()?.get(name).is_some() { Ok(answer) } else { Err(answer.is_strange()) }
    }

    /// Itself, where it is JSON that has a list of this name.
    ///
    /// # Errors
    /// What was refused, or is not hraftd's: 1.
    pub(in crate::client) fn with_list(self, name: &str) -> Result<Self, Exit> {
        let answer = self.ok()?;
        if answer.json()?[name].is_array() { Ok(answer) } else { Err(answer.is_strange()) }
    }

    /// It is of another kind of server.
    pub(in crate::client) fn is_strange(&self) -> Exit {
        strange(&self.endpoint)
    }

    /// The end of the process that this refusal is.
    pub(in crate::client) fn refused(&self) -> Exit {
        Exit::error(EX_FAILURE, format!("{}: {}", self.endpoint, message(self.status, &self.body)))
    }

    /// A header's text.
    pub(in crate::client) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The code of a refusal.
    pub(in crate::client) fn code(&self) -> String {
        let said: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        said["code"].as_str().unwrap_or_default().to_owned()
    }
}

fn strange(endpoint: &Endpoint) -> Exit {
    Exit::error(EX_FAILURE, format!("{endpoint}: the answer is not hraftd's"))
}

/// An answer whose body comes by and by.
#[derive(Debug)]
pub(in crate::client) struct Stream {
    pub(in crate::client) endpoint: Endpoint,
    content_type: Option<HeaderValue>,
    is_of_a_node: bool,
    body: Incoming,
}

impl Stream {
    pub(super) fn new(endpoint: Endpoint, response: Response<Incoming>) -> Self {
        let content_type = response.headers().get(CONTENT_TYPE).cloned();
        let is_of_a_node = response.headers().contains_key(MADE_BY_A_NODE);
        Self { endpoint, content_type, is_of_a_node, body: response.into_body() }
    }

    /// Itself, where it is of this type.
    ///
    /// # Errors
    /// It is not hraftd's: 1.
    pub(in crate::client) fn of_type(self, wanted: &str) -> Result<Self, Exit> {
        let is_it = self.content_type.as_ref().is_some_and(|given| given.as_bytes().starts_with(wanted.as_bytes()));
        if is_it { self.of_a_node() } else { Err(strange(&self.endpoint)) }
    }

    /// Itself, where its header says that a node made it.
    ///
    /// # Errors
    /// It is not hraftd's: 1.
    pub(in crate::client) fn of_a_node(self) -> Result<Self, Exit> {
        if self.is_of_a_node { Ok(self) } else { Err(strange(&self.endpoint)) }
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// The transfer broke off, or nothing came for `idle`.
    pub(in crate::client) async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>, String> {
        loop {
            let frame = timeout(idle, self.body.frame()).await;
            let frame = frame.map_err(|_| format!("{}: nothing came for {idle:?}", self.endpoint))?;
            match frame {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(format!("{}: the answer broke off: {}", self.endpoint, innermost(&error)));
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

/// The time since this machine was started, sleep included: a lock's time goes on while a laptop sleeps.
pub(in crate::client) fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// What a refusal says, to one who has sent no body but a value or a file.
pub(super) fn message(status: StatusCode, body: &[u8]) -> String {
    let said: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(text) = said["msg"].as_str() else { return format!("status {status}") };
    text.strip_prefix("the body ").map_or_else(|| text.to_owned(), |rest| format!("the input {rest}"))
}

/// The first cause of an error.
pub(in crate::client) fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = inner.to_string();
        source = inner.source();
    }
    text
}
