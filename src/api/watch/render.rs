//! Events as text.
//!
//! Server-sent events, as the HTML standard has them (9.2.5), and JSON lines have the same members:
//! the name and the id of the one are `event` and `id` of the other.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use bytes::Bytes;

use super::large::{LargeValues, SMALL_VALUE_BYTES};
use super::without_spaces::{compact, is_compact};
use crate::api::response::json;
use crate::command::{Denied, Key, LockView};
use crate::kv::{Change, Event};
use crate::record::Record;
use crate::watch::{Missed, Position};

const SSE: &str = "text/event-stream";
const LINES: &str = "application/x-ndjson";

/// How events are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The form that `curl -N` shows and `EventSource` reads.
    Sse,
    /// A JSON object a line.
    Lines,
}

impl Format {
    /// The first of the two that the client says it accepts; `None`: it names neither.
    pub fn accepted(headers: &HeaderMap) -> Option<Self> {
        let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        for media in accepted.flat_map(|value| value.split(',')) {
            let essence = media.split(';').next().unwrap_or_default().trim();
            if essence.eq_ignore_ascii_case(LINES) {
                return Some(Self::Lines);
            }
            if essence.eq_ignore_ascii_case(SSE) {
                return Some(Self::Sse);
            }
        }
        None
    }

    pub fn content_type(self) -> &'static str {
        match self {
            Self::Sse => SSE,
            Self::Lines => LINES,
        }
    }
}

/// Text that is put together from parts; the large values in it are not copied.
#[derive(Debug)]
pub struct Text {
    format: Format,
    large: LargeValues,
    out: Vec<u8>,
    parts: Vec<Bytes>,
    /// The client of the event in hand.
    by: Option<Arc<str>>,
}

impl Text {
    pub fn new(format: Format, large: LargeValues) -> Self {
        Self { format, large, out: Vec::new(), parts: Vec::new(), by: None }
    }

    /// The bytes so far, without the large values.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn has_large(&self) -> bool {
        !self.parts.is_empty()
    }

    /// All of it, to be sent in this order.
    pub fn take(&mut self) -> Vec<Bytes> {
        self.cut();
        std::mem::take(&mut self.parts)
    }

    fn cut(&mut self) {
        if !self.out.is_empty() {
            let mut out = std::mem::take(&mut self.out);
            out.shrink_to_fit();
            self.parts.push(Bytes::from(out));
        }
    }

    /// A change.
    pub fn event(&mut self, event: &Event) {
        let id = Some(Position::of_event(event));
        self.by.clone_from(&event.by);
        match &event.change {
            Change::Set { key, record } => self.set(id, key, record, event.index),
            Change::Deleted { key } => self.gone("delete", id, key, event.index, None),
            Change::Expired { key, lease } => self.gone("expire", id, key, event.index, *lease),
            Change::Acquired { lock, token, body } => {
                self.lock("acquired", id, (lock, *token), event.index, body.as_ref(), None);
            }
            Change::Released { lock, token } => self.lock("released", id, (lock, *token), event.index, None, None),
            Change::LockExpired { lock, token, lease } => {
                self.lock("expired", id, (lock, *token), event.index, None, *lease);
            }
        }
    }

    /// A key of the state that a watch begins with.
    pub fn present(&mut self, key: &Key, record: &Record) {
        self.set(None, key, record, record.modify_index());
    }

    /// The lock of the state that a watch begins with. Its token is the index of the entry that
    /// granted it.
    pub fn holder(&mut self, name: &Key, lock: &LockView) {
        self.lock("acquired", None, (name, lock.token), lock.token, lock.body.as_ref(), None);
    }

    /// The state that a watch begins with is complete.
    pub fn synced(&mut self, index: u64) {
        self.begin("synced", Some(Position::whole(index)));
        self.member("index", index);
        self.end();
    }

    /// The client may not see more.
    pub fn unauthorized(&mut self, denied: &Denied) {
        self.begin("unauthorized", None);
        self.name("msg");
        json::string(&mut self.out, &denied.to_string());
        self.end();
    }

    /// History went on without this watcher.
    pub fn compacted(&mut self, missed: Missed) {
        self.begin("compacted", None);
        self.name("oldest");
        json::plain(&mut self.out, format_args!("\"{}\"", missed.known_after));
        self.name("msg");
        json::string(&mut self.out, &compacted(missed));
        self.end();
    }

    /// Tells where a reader may go on from, though nothing was for it. No event is dispatched: a
    /// block that has only an id sets the last event id. Lines have it as an object like all
    /// others, for readers that parse each line.
    pub fn position(&mut self, position: Position) {
        match self.format {
            Format::Sse => json::plain(&mut self.out, format_args!("id: {position}\n\n")),
            Format::Lines => {
                json::plain(&mut self.out, format_args!("{{\"event\":\"position\",\"id\":\"{position}\"}}\n"));
            }
        }
    }

    /// Shows that the connection lives, and where a reader may go on from, where that is news.
    pub fn alive(&mut self, position: Option<Position>) {
        match (self.format, position) {
            (Format::Sse, None) => self.out.extend_from_slice(b":\n\n"),
            (Format::Sse, Some(position)) => {
                self.out.extend_from_slice(b":\n");
                self.position(position);
            }
            // Blank lines are no JSON: they would break readers that parse each line.
            (Format::Lines, None) => self.out.extend_from_slice(b"{\"event\":\"position\"}\n"),
            (Format::Lines, Some(position)) => self.position(position),
        }
    }

    fn set(&mut self, id: Option<Position>, key: &Key, record: &Record, index: u64) {
        self.begin("set", id);
        self.string("key", key);
        self.name("value");
        if record.value().len() > SMALL_VALUE_BYTES {
            self.cut();
            self.parts.push(self.large.text(record));
        } else {
            compact(&mut self.out, &record.json());
        }
        self.member("index", index);
        self.end();
    }

    fn gone(&mut self, name: &str, id: Option<Position>, key: &Key, index: u64, lease: Option<u64>) {
        self.begin(name, id);
        self.string("key", key);
        self.member("index", index);
        self.lease(lease);
        self.end();
    }

    fn lock(
        &mut self,
        name: &str,
        id: Option<Position>,
        (lock, token): (&Key, u64),
        index: u64,
        body: Option<&Bytes>,
        lease: Option<u64>,
    ) {
        self.begin(name, id);
        self.string("lock", lock);
        self.member("token", token);
        self.member("index", index);
        self.lease(lease);
        if let Some(body) = body {
            self.name("body");
            if body.len() > SMALL_VALUE_BYTES && is_compact(body) {
                self.cut();
                self.parts.push(body.clone());
            } else {
                compact(&mut self.out, body);
            }
        }
        self.end();
    }

    /// The lease whose end it was.
    fn lease(&mut self, lease: Option<u64>) {
        if let Some(lease) = lease {
            self.member("lease", lease);
        }
    }

    fn begin(&mut self, name: &str, id: Option<Position>) {
        match self.format {
            Format::Sse => {
                json::plain(&mut self.out, format_args!("event: {name}\n"));
                if let Some(id) = id {
                    json::plain(&mut self.out, format_args!("id: {id}\n"));
                }
                self.out.extend_from_slice(b"data: {");
            }
            Format::Lines => {
                json::plain(&mut self.out, format_args!("{{\"event\":\"{name}\""));
                if let Some(id) = id {
                    json::plain(&mut self.out, format_args!(",\"id\":\"{id}\""));
                }
            }
        }
    }

    /// A name that needs no escapes.
    fn name(&mut self, name: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        json::plain(&mut self.out, format_args!("\"{name}\":"));
    }

    fn member(&mut self, name: &str, value: u64) {
        self.name(name);
        json::plain(&mut self.out, value);
    }

    fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        json::string(&mut self.out, value);
    }

    fn end(&mut self) {
        if let Some(by) = self.by.take() {
            self.string("by", &by);
        }
        self.out.extend_from_slice(match self.format {
            Format::Sse => b"}\n\n",
            Format::Lines => b"}\n",
        });
    }
}

/// The message for a watcher that missed something: it says what to do.
pub fn compacted(missed: Missed) -> String {
    format!(
        "history on this node begins after {}: what came before is not known any more. Read the state anew (initial), \
         and go on from there; --watch-history keeps more",
        missed.known_after
    )
}
