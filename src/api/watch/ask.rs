//! The parts of a watch request.

use std::borrow::Cow;

use axum::http::request::Parts;
use serde::Deserialize;
use utoipa::IntoParams;

use super::render::Format;
use super::{Position, ReadLevel, ReadOptions, ReadParams};
use crate::api::request::deadline::Deadline;
use crate::api::request::{key_path, query};
use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::command::MAX_KEY_BYTES;
use crate::watch::Filter;

/// The header by which browsers and others say how far they came.
const LAST_EVENT_ID: &str = "last-event-id";

/// The keys or the lock to watch, and from where on.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct WatchParams {
    /// all keys that begin so; may be empty
    prefix: Option<String>,
    /// or one key
    #[serde(deserialize_with = "query::non_empty")]
    key: Option<String>,
    /// or one lock
    #[serde(deserialize_with = "query::non_empty")]
    lock: Option<String>,
    /// first the present state, then the event synced
    initial: bool,
    /// only what comes after this id
    #[serde(deserialize_with = "query::non_empty")]
    #[param(pattern = "^[0-9]+(\\.[0-9]+)?$")]
    after: Option<String>,
}

/// The position that browsers send when they reconnect.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
pub struct LastEventId {
    /// the same, as browsers send it; counts more
    #[param(rename = "Last-Event-ID", value_type = Option<String>)]
    position: Option<Position>,
}

/// The first thing that a stream sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With what comes.
    Now,
    /// With the state as it is.
    Initial,
    /// After a position.
    After(Position),
}

/// A request, understood.
#[derive(Debug)]
pub struct WatchRequest {
    pub filter: Filter,
    pub from: From,
    /// The beginning if history does not reach back to `from`; `None`: that is refused.
    pub restart: Option<From>,
    pub read: ReadOptions,
    pub deadline: Deadline,
    pub format: Format,
}

impl WatchRequest {
    /// Reads a request. `default` is the read level where it names none.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`].
    pub fn parse(head: &Parts, default: ReadLevel) -> Result<Self, ApiError> {
        let (params, read): (WatchParams, ReadParams) = query::parse(head.uri.query())?;
        let (read, deadline) = read.resolve(default)?;
        let from = params.from(head)?;
        let accepted = Format::accepted(&head.headers);
        let anew = if params.initial { From::Initial } else { From::Now };
        let restart = (accepted == Some(Format::Sse)).then_some(anew);
        let (filter, format) = (params.filter()?, accepted.unwrap_or(Format::Sse));
        Ok(Self { filter, from, restart, read, deadline, format })
    }
}

impl WatchParams {
    fn filter(self) -> Result<Filter, ApiError> {
        match (self.prefix, self.key, self.lock) {
            (Some(prefix), None, None) => {
                if prefix.len() > MAX_KEY_BYTES {
                    return bad(format!(
                        "no key is longer than {MAX_KEY_BYTES} bytes, so none begins with this prefix"
                    ));
                }
                Ok(Filter::Prefix(prefix.into()))
            }
            (None, Some(key), None) => key_path::check(&key).map(|()| Filter::Key(key.into())),
            (None, None, Some(lock)) => key_path::check(&lock).map(|()| Filter::Lock(lock.into())),
            (None, None, None) => {
                bad("what is to be watched? Give prefix=, key= or lock=; an empty prefix= is all keys".to_owned())
            }
            _ => bad("prefix, key and lock exclude each other: give one of them".to_owned()),
        }
    }

    fn from(&self, head: &Parts) -> Result<From, ApiError> {
        let after = self.after.as_deref().map(|after| position("after=", after)).transpose()?;
        // A browser that reconnects sends it to the address it first asked, with all that this
        // says.
        if let Some(position) = LastEventId::parse(head)?.position {
            return Ok(From::After(position));
        }
        match (self.initial, after) {
            (true, Some(_)) => {
                bad("initial and after= exclude each other: the state is newer than what came before".into())
            }
            (true, None) => Ok(From::Initial),
            (false, Some(after)) => Ok(From::After(after)),
            (false, None) => Ok(From::Now),
        }
    }
}

impl LastEventId {
    /// An empty one is none, as browsers have it.
    fn parse(head: &Parts) -> Result<Self, ApiError> {
        let mut ids = head.headers.get_all(LAST_EVENT_ID).iter();
        let id: Cow<'_, str> = ids.next().map(|id| String::from_utf8_lossy(id.as_bytes())).unwrap_or_default();
        if ids.next().is_some() {
            return bad("the header Last-Event-ID is repeated; give it once".to_owned());
        }
        let position = (!id.is_empty()).then(|| position("the header Last-Event-ID: ", &id)).transpose()?;
        Ok(Self { position })
    }
}

fn position(name: &str, given: &str) -> Result<Position, ApiError> {
    Position::parse(given).ok_or_else(|| {
        ApiError::BadRequest(format!(
            "{name}{} is no position; take the id of an event, such as 17.1, or an index, such as 17, which means all of it",
            text::quoted(given)
        ))
    })
}

fn bad<T>(msg: String) -> Result<T, ApiError> {
    Err(ApiError::BadRequest(msg))
}
