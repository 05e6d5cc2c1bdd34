//! `GET /hraftd/raft/events`: what Raft does, as it does it; of this node, or through it of all members.

use std::time::{Duration, UNIX_EPOCH};

use axum::body::Body;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use utoipa::{IntoParams, ToSchema};

use crate::api::App;
use crate::api::access::{Caller, Guard, Head};
use crate::api::admission::Pass;
use crate::api::request::query;
use crate::api::response::error::ApiError;
use crate::api::response::{Answer, text};
use crate::api::service::Service;
use crate::command::Denied;
use crate::node::{AllEvents, Cursor, Event, EventRing};
use crate::watch::Watches;

const LAST_EVENT_ID: &str = "last-event-id";
const LINES: &str = "application/x-ndjson";
/// nginx would wait for its buffer to fill.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A stream that ends with its node looks so often whether that stops.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// A sign of life is sent this often.
const ALIVE_EVERY: Duration = Duration::from_secs(15);

/// How the events are told.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub struct EventParams {
    /// of all members, through this one; without ids
    all: bool,
    /// begin with what is kept; otherwise with what comes
    history: bool,
}

/// One thing that a node did.
#[derive(Serialize, ToSchema)]
pub struct EventShape<'a> {
    event: &'static str,
    /// The position after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    node: &'a str,
    term: u64,
    index: u64,
    #[schema(format = "date-time")]
    time: String,
    /// A sentence.
    text: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(rename = "match", skip_serializing_if = "Option::is_none")]
    matched: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u64>,
}

/// Tells what Raft does
///
/// As server-sent events, or with `Accept: application/x-ndjson` as a JSON object a line.
#[utoipa::path(get, path = "/hraftd/raft/events", tag = "watch", params(EventParams), responses(
    (status = 200, description = "events, without end", content((EventShape = "application/x-ndjson"), (serde_json::Value = "text/event-stream"))),
))]
pub async fn events<S: Service>(app: &Arc<App<S>>, head: &Head, mut pass: Pass<'_>) -> Result<Answer, ApiError> {
    let (EventParams { all, history },) = query::parse(head.uri.query())?;
    let lines = head.headers.get(ACCEPT).is_some_and(|accept| accept.to_str().is_ok_and(|text| text.contains(LINES)));
    let after = head.headers.get(LAST_EVENT_ID).map(position).transpose()?;
    if all && (after.is_some() || history) {
        let why = "events of all members have no position: leave out all, or Last-Event-ID and history";
        return Err(ApiError::BadRequest(why.to_owned()));
    }
    pass.will_wait()?;
    let watches = app.service.watches()?;
    let source = if all {
        Source::All(app.service.follow_all()?)
    } else {
        let ring = app.service.events()?;
        let cursor = after.or_else(|| (!history).then(|| ring.end()));
        Source::Own { node: app.service.id().to_string(), ring, cursor }
    };
    let guard = Guard::of_status(app, Caller::of(head));
    let feed =
        Feed { source, guard, watches, lines, ended: false, alive_at: Instant::now() + ALIVE_EVERY, began: false };
    Ok(app.answer_here(Ok(response(feed, pass.into_waiting()))))
}

fn position(given: &HeaderValue) -> Result<Cursor, ApiError> {
    let text = given.to_str().unwrap_or_default();
    let parsed = text
        .split_once('.')
        .and_then(|(boot, id)| Some(Cursor { boot: u64::from_str_radix(boot, 16).ok()?, id: id.parse().ok()? }));
    parsed.ok_or_else(|| {
        ApiError::BadRequest(format!("Last-Event-ID: {} is no position; give the id of an event", text::quoted(text)))
    })
}

/// `waiting` is the place among those who wait, kept for as long as the stream goes on.
fn response(feed: Feed, waiting: Option<OwnedSemaphorePermit>) -> Response {
    let kind = if feed.lines { LINES } else { "text/event-stream" };
    let frames = futures_util::stream::unfold((feed, waiting), async |(mut feed, waiting)| {
        feed.frame().await.map(|frame| (Ok::<_, std::convert::Infallible>(frame), (feed, waiting)))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// Whose events they are.
enum Source {
    Own { node: String, ring: Arc<EventRing>, cursor: Option<Cursor> },
    All(AllEvents),
}

/// The pieces of a body, each as soon as there is one.
struct Feed {
    source: Source,
    /// Over who follows them.
    guard: Guard,
    /// They ended: there is nothing more to say.
    ended: bool,
    watches: Watches,
    lines: bool,
    alive_at: Instant,
    began: bool,
}

impl Feed {
    async fn frame(&mut self) -> Option<Bytes> {
        if !std::mem::replace(&mut self.began, true) {
            // Whoever waits for the head knows now that it follows.
            return Some(self.alive());
        }
        loop {
            if self.ended || self.watches.is_closed() {
                return None;
            }
            let mut out = String::new();
            match &mut self.source {
                Source::Own { node, ring, cursor } => {
                    let page = ring.wait_after(*cursor, Instant::now() + LOOK_INTERVAL).await;
                    if page.missed {
                        missed(&mut out, self.lines, "events between that position and these are not kept any more");
                    }
                    *cursor = Some(page.next);
                    for event in &page.events {
                        let id = format!("{:x}.{}", page.next.boot, event.id);
                        write(&mut out, self.lines, node, event, Some(id));
                    }
                }
                Source::All(all) => match timeout(LOOK_INTERVAL, all.next()).await {
                    Ok(Some(Ok(event))) => write(&mut out, self.lines, &event.node, &event.event, None),
                    Ok(Some(Err(count))) => {
                        missed(&mut out, self.lines, &format!("{count} events came faster than they were taken"));
                    }
                    Ok(None) => return None,
                    Err(_) => {}
                },
            }
            // What came last may be of after the end of what its client may see.
            if let Err(denied) = self.guard.check() {
                self.ended = true;
                return Some(unauthorized(self.lines, &denied));
            }
            if !out.is_empty() {
                self.alive_at = Instant::now() + ALIVE_EVERY;
                return Some(out.into());
            }
            if Instant::now() >= self.alive_at {
                self.alive_at = Instant::now() + ALIVE_EVERY;
                return Some(self.alive());
            }
        }
    }

    fn alive(&self) -> Bytes {
        Bytes::from_static(if self.lines { b"{\"event\":\"alive\"}\n" } else { b":\n\n" })
    }
}

/// As the end of a watch says it.
fn unauthorized(lines: bool, denied: &Denied) -> Bytes {
    let json = serde_json::json!({ "event": "unauthorized", "msg": denied.to_string() }).to_string();
    let mut out = String::new();
    frame(&mut out, lines, "unauthorized", None, &json);
    out.into()
}

fn missed(out: &mut String, lines: bool, why: &str) {
    let json = serde_json::json!({ "event": "missed", "text": why }).to_string();
    frame(out, lines, "missed", None, &json);
}

fn write(out: &mut String, lines: bool, node: &str, event: &Event, id: Option<String>) {
    let shape = EventShape {
        event: event.kind.as_str(),
        id: id.clone().filter(|_| lines),
        node,
        term: event.term,
        index: event.index,
        time: text::rfc3339_millis(UNIX_EPOCH + Duration::from_millis(event.time_ms)),
        text: &event.text,
        peer: event.peer.as_deref(),
        action: event.action.map(crate::node::VoteAction::as_str),
        reason: event.reason.as_deref(),
        count: event.count,
        matched: event.matched,
        in_flight: event.in_flight,
    };
    // It has nothing that JSON cannot say.
    let json = serde_json::to_string(&shape).unwrap_or_default();
    frame(out, lines, event.kind.as_str(), id.as_deref(), &json);
}

fn frame(out: &mut String, lines: bool, event: &str, id: Option<&str>, json: &str) {
    if !lines {
        if let Some(id) = id {
            out.push_str(&format!("id: {id}\n"));
        }
        out.push_str(&format!("event: {event}\ndata: "));
    }
    out.push_str(json);
    out.push_str(if lines { "\n" } else { "\n\n" });
}
