//! What a watch request wants.

use std::borrow::Cow;

use axum::http::request::Parts;

use super::render::Format;
use super::{Position, ReadLevel, ReadOptions, Time};
use crate::api::keys;
use crate::api::request::key_path;
use crate::api::request::query::Query;
use crate::api::response::error::ApiError;
use crate::api::response::text;
use crate::command::MAX_KEY_BYTES;
use crate::watch::Filter;

/// How browsers and others say how far they came.
const LAST_EVENT_ID: &str = "last-event-id";

const KNOWN: &[&str] = &["prefix", "key", "lock", "initial", "after", "level", "freshness", "min_index", "timeout"];

/// Where to begin.
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
pub struct Ask {
    pub filter: Filter,
    pub from: From,
    pub read: ReadOptions,
    pub time: Time,
    pub format: Format,
}

impl Ask {
    pub fn of(head: &Parts, default: ReadLevel) -> Result<Self, ApiError> {
        let query = Query::parse(head.uri.query(), KNOWN)?;
        let read = keys::read_options(&query, default)?;
        let time = Time::of(&query)?;
        Ok(Self { filter: filter(&query)?, from: from(&query, head)?, read, time, format: Format::of(&head.headers) })
    }
}

fn filter(query: &Query<'_>) -> Result<Filter, ApiError> {
    let (prefix, key, lock) = (query.text("prefix")?, query.value("key")?, query.value("lock")?);
    match (prefix, key, lock) {
        (Some(prefix), None, None) => {
            if prefix.len() > MAX_KEY_BYTES {
                return bad(format!("no key is longer than {MAX_KEY_BYTES} bytes, so none begins with this prefix"));
            }
            Ok(Filter::Prefix(prefix.into()))
        }
        (None, Some(key), None) => key_path::check(key).map(|()| Filter::Key(key.into())),
        (None, None, Some(lock)) => key_path::check(lock).map(|()| Filter::Lock(lock.into())),
        (None, None, None) => {
            bad("what is to be watched? Give prefix=, key= or lock=; an empty prefix= is all keys".to_owned())
        }
        _ => bad("prefix, key and lock exclude each other: give one of them".to_owned()),
    }
}

fn from(query: &Query<'_>, head: &Parts) -> Result<From, ApiError> {
    let initial = query.switch("initial")?;
    let after = query.value("after")?.map(|after| position("after=", after)).transpose()?;
    // A browser that reconnects sends it to the address it first asked, with all that this says.
    if let Some(id) = last_event_id(head)? {
        return position("the header Last-Event-ID: ", &id).map(From::After);
    }
    match (initial, after) {
        (true, Some(_)) => {
            bad("initial and after= exclude each other: the state is newer than what came before".into())
        }
        (true, None) => Ok(From::Initial),
        (false, Some(after)) => Ok(From::After(after)),
        (false, None) => Ok(From::Now),
    }
}

/// An empty one is none, as browsers have it.
fn last_event_id(head: &Parts) -> Result<Option<Cow<'_, str>>, ApiError> {
    let mut ids = head.headers.get_all(LAST_EVENT_ID).iter();
    let Some(id) = ids.next() else { return Ok(None) };
    if ids.next().is_some() {
        return bad("the header Last-Event-ID is repeated; give it once".to_owned());
    }
    let id = String::from_utf8_lossy(id.as_bytes());
    Ok((!id.is_empty()).then_some(id))
}

fn position(of: &str, given: &str) -> Result<Position, ApiError> {
    Position::parse(given).ok_or_else(|| {
        ApiError::BadRequest(format!(
            "{of}{} is no position; take the id of an event, such as 17.1, or an index, such as 17, which means all of it",
            text::quoted(given)
        ))
    })
}

fn bad<T>(msg: String) -> Result<T, ApiError> {
    Err(ApiError::BadRequest(msg))
}
