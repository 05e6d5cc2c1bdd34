//! `GET /hraftd/watch`: changes as they are applied, as server-sent events or as JSON lines.
//!
//! A response is a position and all that comes after it. Contract: from that position on, every
//! change of what is watched is sent once and in order. If that cannot be, the stream says
//! `compacted` and ends.
//!
//! * `ask`: what a request asks for.
//! * `feed`: the body.
//! * `render`: events as text.
//! * `large`: values that are not copied for each watcher.
//! * `compact`: JSON without white space.
//!
//! Caveat: a stream that ends without `compacted` ended because this node stops or was removed; go
//! on elsewhere.

mod ask;
mod feed;
mod large;
mod render;
pub mod without_spaces;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use futures_util::StreamExt;
use tokio::sync::OwnedSemaphorePermit;

use std::sync::Arc;

use super::App;
use super::access::{self, Caller, Guard};
use super::admission::Pass;
use super::service::Service;
use crate::api::access::Head;
use crate::api::request::read::{self, ReadParams};
use crate::api::response::Answer;
use crate::api::response::error::{ApiError, Problem};
use crate::node::{NodeError, ReadLevel, ReadOptions, StateView};
use crate::watch::{Missed, Position, Watcher, Watches};
use ask::{From, LastEventId, WatchParams, WatchRequest};
use feed::{Begin, Feed, Initial};
use render::Format;

pub use large::LargeValues;

/// nginx would wait for its buffer to fill.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How often a watch tries to get a state and the history after it: writes may be faster than a
/// short history.
const INITIAL_TRIES: usize = 3;

/// Tells of changes
///
/// As server-sent events, or with `Accept: application/x-ndjson` as a JSON object a line. Events of
/// keys are `set`, `delete` and `expire`, those of locks `acquired`, `released` and `expired`; the
/// id is `index.n`.
#[utoipa::path(
    get,
    path = "/hraftd/watch",
    tag = "watch",
    params(WatchParams, LastEventId, ReadParams),
    responses(
        (status = 200, description = "changes, without end", content((String = "text/event-stream"), (String = "application/x-ndjson"))),
        (status = 410, description = "history does not reach back so far", body = Problem),
    )
)]
pub async fn watch<S: Service>(app: &Arc<App<S>>, head: &Head, mut pass: Pass<'_>) -> Result<Answer, ApiError> {
    let ask = WatchRequest::parse(head, app.settings.read_level)?;
    let caller = Caller::of(head);
    caller.demand(access::need_of(&ask.filter))?;
    pass.will_wait()?;
    match ask.from {
        // It may be ahead of this node.
        From::After(_) => pass.waits(),
        From::Now | From::Initial => pass.read(&ask.read, app.service.applied_index())?,
    }
    let (answer, feed) = read::in_time(&ask.deadline, open(&app.service, caller, &ask)).await?;
    let mut guard = Guard::new(app, caller, ask.filter);
    // Before it is answered with a 200.
    guard.check().map_err(|denied| caller.refused(denied))?;
    let feed = Feed::new(feed, ask.format, app.large_values.clone(), guard);
    Ok(Answer { result: Ok(response(feed, ask.format, pass.into_waiting())), ..answer })
}

/// `waiting` is the place among those who wait, kept for as long as the stream goes on.
fn response(feed: Feed, format: Format, waiting: Option<OwnedSemaphorePermit>) -> Response {
    let frames = futures_util::stream::unfold((feed, waiting), async |(mut feed, waiting)| {
        feed.frame().await.map(|frame| (frame, (feed, waiting)))
    });
    let mut response = Response::new(Body::from_stream(frames.map(Ok::<_, std::convert::Infallible>)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(format.content_type()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(NO_BUFFERING, HeaderValue::from_static("no"));
    response
}

/// A watcher and where it stands, as the answer tells it.
async fn open<S: Service>(service: &S, caller: &Caller, ask: &WatchRequest) -> Result<(Answer, Begin), ApiError> {
    let From::After(position) = ask.from else { return begin(service, caller, ask, ask.from).await };
    // The position says what has been seen, so no leader needs to be asked: any node that has
    // applied it will do.
    let min_index = ask.read.min_index.max(position.index);
    let here = ReadOptions { level: ReadLevel::None, min_index, ..ask.read };
    let settled = service.settle(here, ask.deadline.at).await?;
    let index = service.applied_index();
    match (watches(service)?.watch(ask.filter.clone(), position), ask.restart) {
        (Ok(watcher), _) => {
            let answer = Answer::read(Ok(Response::default()), index, settled);
            Ok((answer, Begin { watcher, missed: None, initial: None }))
        }
        (Err(missed), Some(from)) => {
            let (answer, restarted) = begin(service, caller, ask, from).await?;
            Ok((answer, Begin { missed: Some(missed), ..restarted }))
        }
        (Err(missed), None) => Err(compacted(missed)),
    }
}

/// A watcher that begins with the state, or with what comes.
async fn begin<S: Service>(
    service: &S,
    caller: &Caller,
    ask: &WatchRequest,
    from: From,
) -> Result<(Answer, Begin), ApiError> {
    let (index, settled, begin) = if from == From::Initial {
        let (StateView { kv, index, settled }, watcher) = initial(service, caller, ask).await?;
        let initial = Some(Initial::held(kv, index, ask.filter.clone()));
        (index, settled, Begin { watcher, missed: None, initial })
    } else {
        let settled = service.settle(ask.read, ask.deadline.at).await?;
        let watches = watches(service)?;
        let mut watcher = watches.watch_on(ask.filter.clone(), Position::whole(service.applied_index()));
        (watcher.position().index, settled, Begin { watcher, missed: None, initial: None })
    };
    Ok((Answer::read(Ok(Response::default()), index, settled), begin))
}

/// The state, and a watcher of what comes after it.
async fn initial<S: Service>(
    service: &S,
    caller: &Caller,
    ask: &WatchRequest,
) -> Result<(StateView, Watcher), ApiError> {
    let mut tries = INITIAL_TRIES;
    loop {
        let view = service.view(caller.by(), &[access::need_of(&ask.filter)], ask.read, ask.deadline.at).await?;
        match watches(service)?.watch(ask.filter.clone(), Position::whole(view.index)) {
            Ok(watcher) => return Ok((view, watcher)),
            Err(missed) if tries == 1 => return Err(compacted(missed)),
            Err(_) => tries -= 1,
        }
    }
}

fn watches(service: &impl Service) -> Result<Watches, ApiError> {
    let watches = service.watches()?;
    if watches.is_closed() {
        return Err(NodeError::NotReady("this node is stopping; ask another".to_owned()).into());
    }
    Ok(watches)
}

fn compacted(missed: Missed) -> ApiError {
    ApiError::Compacted(render::compacted(missed))
}
