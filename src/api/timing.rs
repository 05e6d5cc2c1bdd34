//! Where the time of a request goes: the one place that times its stages.
//!
//! A request costs a reading of the clock when it begins and one when it is answered. What lies between is looked up
//! afterwards, and only where it is asked for (`?timing`), or where the request goes into the log: the node keeps the times
//! of its newest entries.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use axum::http::request::Parts as Head;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::response::Response;
use compact_str::CompactString;

use super::service::Service;
use crate::node::rpc::RequestMark;
use crate::node::{ReadLevel, Settled, Written};
use crate::observe::{Logged as LoggedRequests, RequestLog};
use crate::seldom::{Seldom, Unsaid};

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const REQUEST_ID: &str = "x-request-id";
const TRACEPARENT: &str = "traceparent";

static SLOW_LINES: Seldom = Seldom::new();

/// On an answer, as an extension: the name of the token that the request came with. Whoever checks tokens sets it.
#[derive(Debug, Clone)]
pub struct TokenName(pub CompactString);

/// When something was asked of the node, and what came of it.
#[derive(Debug, Clone, Copy, Default)]
pub enum Work {
    /// Nothing was.
    #[default]
    Nothing,
    /// A read.
    Read {
        /// It was passed on.
        passed_on: bool,
        /// How it was served.
        level: ReadLevel,
    },
    /// A write that was applied.
    Write {
        /// When it was asked for.
        asked: Instant,
        /// The index of its entry.
        index: u64,
        /// When it was where, if it was proposed here.
        proposed: Option<crate::node::Proposed>,
        /// Where its time went at the leader, if that is known.
        stages: Option<crate::node::Stages>,
        /// How long it took to ask for that, which is not the request's.
        measuring: Duration,
    },
}

impl Work {
    /// A read that was served so.
    pub fn read(settled: Settled, passed_on: bool) -> Self {
        Self::Read { passed_on, level: settled.level }
    }

    /// A write that was asked for at this time.
    pub fn write(asked: Instant, written: &Written) -> Self {
        Self::Write {
            asked,
            index: written.index,
            proposed: written.proposed,
            stages: written.stages,
            measuring: written.measuring,
        }
    }
}

/// The parts of the time of a request, which follow one another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Parts {
    named: [(&'static str, Option<Duration>); 7],
    total: Duration,
}

impl Parts {
    /// The parts of a request that began at `began` and is answered now.
    pub fn of<S: Service>(service: &S, work: Work, began: Instant) -> Self {
        let measuring = if let Work::Write { measuring, .. } = work { measuring } else { Duration::ZERO };
        let total = began.elapsed().saturating_sub(measuring);
        let mut parse = None;
        let [mut wait, mut propose, mut flush, mut quorum, mut apply, mut forward] = [None; 6];
        match work {
            Work::Nothing => {}
            Work::Read { passed_on: true, .. } => forward = Some(total),
            Work::Read { level: ReadLevel::None, .. } => apply = Some(total),
            Work::Read { .. } => quorum = Some(total),
            Work::Write { asked, index, proposed, stages, .. } => {
                let parsed = asked.saturating_duration_since(began).min(total);
                parse = Some(parsed);
                let here = proposed.is_some();
                let stages = proposed.map_or(stages, |proposed| service.stages(index, proposed));
                let us = Duration::from_micros;
                let known = stages.unwrap_or_default();
                let rest = total.saturating_sub(parsed + us(known.sum_us()));
                (flush, quorum) = (Some(us(known.flush_us)), Some(us(known.quorum_us)));
                if stages.is_some() {
                    (wait, propose) = (Some(us(known.wait_us)), Some(us(known.propose_us)));
                    apply = Some(us(known.apply_us));
                }
                match here {
                    // The way of the outcome from Raft's threads to this one.
                    true => apply = Some(apply.unwrap_or_default() + rest),
                    false => forward = Some(rest),
                }
            }
        }
        let named = [
            ("parse", parse),
            ("wait", wait),
            ("propose", propose),
            ("flush", flush),
            ("quorum", quorum),
            ("apply", apply),
            ("forward", forward),
        ];
        Self { named, total }
    }

    /// As the header `Server-Timing` has them.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(160);
        let named = self.named.iter().filter_map(|(name, time)| Some((*name, (*time)?)));
        for (name, time) in named.chain([("total", self.total)]) {
            let separator = if text.is_empty() { "" } else { ", " };
            // Writing to memory does not fail.
            let _ = write!(text, "{separator}{name};dur={:.3}", time.as_secs_f64() * 1e3);
        }
        text
    }
}

/// Tells whether a request wants to know where its time went.
pub fn is_asked(head: &Head) -> bool {
    let switches = head.uri.query().into_iter().flat_map(|query| query.split('&'));
    switches.into_iter().any(|part| matches!(part, "timing" | "timing=1" | "timing=true"))
}

/// How a request is known to its client; `None` where it says nothing, and does not want to know its times.
pub fn mark(head: &Head) -> Option<Box<RequestMark>> {
    let text = |name| head.headers.get(name).and_then(|value| RequestMark::text(value.as_bytes()));
    let mark = RequestMark { request_id: text(REQUEST_ID), traceparent: text(TRACEPARENT), timed: is_asked(head) };
    (mark != RequestMark::default()).then(|| Box::new(mark))
}

/// Adds the header to an answer.
pub fn tell(response: &mut Response, parts: &Parts) {
    response.headers_mut().extend(HeaderValue::try_from(parts.text()).ok().map(|value| (SERVER_TIMING, value)));
}

/// A request as the log shows it.
#[derive(Debug)]
pub struct Logged {
    method: Method,
    uri: Uri,
    request_id: Option<HeaderValue>,
    traceparent: Option<HeaderValue>,
}

impl Logged {
    /// What is shown of a request. It shares the request's own memory.
    pub fn of<B>(request: &axum::http::Request<B>) -> Self {
        let header = |name| request.headers().get(name).cloned();
        Self {
            method: request.method().clone(),
            uri: request.uri().clone(),
            request_id: header(REQUEST_ID),
            traceparent: header(TRACEPARENT),
        }
    }

    /// Logs it, if the log takes it.
    pub fn end(&self, log: RequestLog, response: &Response, took: Duration) {
        let status = response.status();
        let failed = status.is_client_error() || status.is_server_error();
        if !log.takes(took, failed && status != StatusCode::NOT_FOUND, waits(&self.uri)) {
            return;
        }
        // Who asked for no lines gets few: clients choose how many requests are slow.
        let turn = if log.logged == LoggedRequests::Slow { SLOW_LINES.turn() } else { Some(Unsaid::default()) };
        let Some(unsaid) = turn else { return };
        let parts = response.extensions().get::<Parts>();
        let text = |given: Option<&HeaderValue>| RequestMark::text(given?.as_bytes());
        let bytes = axum::body::HttpBody::size_hint(response.body()).exact();
        tracing::info!(
            method = %self.method,
            path = self.uri.path(),
            status = status.as_u16(),
            bytes = bytes.map_or_else(|| "streamed".to_owned(), |bytes| bytes.to_string()),
            timing = parts.map_or_else(|| format!("total;dur={:.3}", took.as_secs_f64() * 1e3), Parts::text),
            token = response.extensions().get::<TokenName>().map_or("-", |token| token.0.as_str()),
            request_id = text(self.request_id.as_ref()).as_deref().unwrap_or("-"),
            traceparent = text(self.traceparent.as_ref()).as_deref().unwrap_or("-"),
            "request{unsaid}"
        );
    }
}

/// It may wait for something to happen, and is not slow for that.
fn waits(uri: &Uri) -> bool {
    let path = uri.path();
    let is_stream = path == "/hraftd/watch" || path.ends_with("/raft/events");
    is_stream || uri.query().is_some_and(|query| query.split('&').any(|part| part.starts_with("wait=")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(query: &str) -> Head {
        axum::http::Request::get(format!("/hraftd/key/a{query}")).body(()).unwrap().into_parts().0
    }

    #[test]
    fn who_wants_to_know() {
        for (query, asked) in
            [("", false), ("?timing", true), ("?raw&timing=true", true), ("?timing=0", false), ("?timings", false)]
        {
            assert_eq!(is_asked(&head(query)), asked, "{query}");
        }
        assert_eq!(mark(&head("")), None);
        assert!(mark(&head("?timing")).unwrap().timed);
        let mut long = head("");
        long.headers.insert(REQUEST_ID, HeaderValue::try_from("x".repeat(10_000)).unwrap());
        assert_eq!(mark(&long).unwrap().request_id.unwrap().len(), 128);
    }

    #[test]
    fn the_header_has_what_applies() {
        let named = [("parse", Some(Duration::from_micros(12))), ("flush", None), ("quorum", Some(Duration::ZERO))];
        let mut parts = Parts { total: Duration::from_micros(2_500), ..Parts::default() };
        parts.named[..3].copy_from_slice(&named);
        assert_eq!(parts.text(), "parse;dur=0.012, quorum;dur=0.000, total;dur=2.500");
    }
}
