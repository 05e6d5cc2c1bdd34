//! The task of a connection: its requests, its limits, its end.

use std::future::Future;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use h2::server::SendResponse;
use h2::{Ping, PingPong, Reason, RecvStream};

use super::counted::Counted;
use super::frames::Frames;
use super::stream::{self, Exchange, Open};
use crate::http::activity::ConnectionActivity;
use crate::http::long_heads::{self, no_room};
use crate::http::marks::Marks;
use crate::http::{Excess, HttpLimits};

/// A client from which nothing came for so many looks, though something is open, is asked; and is gone after as many more.
const SILENT_LOOKS: u32 = 4;

/// A connection that is to end has so many looks for that.
const CLOSING_LOOKS: u32 = 2;

/// How a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It takes requests.
    None,
    /// The client knows that it is to send no more; what it has sent is answered.
    Soon,
    /// It is being closed.
    Now,
}

/// What `begin` makes of a request are the streams.
pub(super) struct Connection<B, F> {
    library: h2::server::Connection<Counted, Bytes>,
    pings: Option<PingPong>,
    begin: B,
    streams: FuturesUnordered<F>,
    end: End,
    activity: Arc<ConnectionActivity>,
    frames: Arc<Frames>,
    limits: HttpLimits,
    marks: Arc<Marks>,
    every: Duration,
    /// Requests that began.
    begun: u64,
    unchanged: Unchanged,
}

/// What a look found, and how many looks before it found the same.
#[derive(Debug, Default)]
struct Unchanged {
    blocked: Same<Option<u64>>,
    head: Same<Option<u64>>,
    idle: Same<Option<u64>>,
    silent: Same<Option<u64>>,
    closing: Same<bool>,
}

#[derive(Debug, Default)]
struct Same<T> {
    last: T,
    looks: u32,
}

impl<T: PartialEq + Default> Same<T> {
    /// How many looks before this one found the same; none where there is nothing that could last.
    fn look(&mut self, now: T) -> u32 {
        self.looks = if now == self.last && now != T::default() { self.looks + 1 } else { 0 };
        self.last = now;
        self.looks
    }
}

impl<B, F> Connection<B, F>
where
    B: Fn(Request, Exchange) -> F,
    F: Future<Output = ()>,
{
    pub(super) fn new(
        mut library: h2::server::Connection<Counted, Bytes>,
        begin: B,
        activity: Arc<ConnectionActivity>,
        frames: Arc<Frames>,
        limits: HttpLimits,
        marks: Arc<Marks>,
    ) -> Self {
        Self {
            pings: library.ping_pong(),
            library,
            begin,
            streams: FuturesUnordered::new(),
            end: End::None,
            activity,
            frames,
            every: limits.look_interval(),
            limits,
            marks,
            begun: 0,
            unchanged: Unchanged::default(),
        }
    }

    /// How often it is to be [looked at](Self::look).
    pub(super) fn every(&self) -> Duration {
        self.every
    }

    /// It takes no more requests.
    pub(super) fn ends(&self) -> bool {
        self.end != End::None
    }

    /// Takes requests and answers them; ready at the end of the connection.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.library.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    self.begin(request, respond);
                    continue;
                }
                Poll::Ready(Some(Err(error))) => {
                    // Clients break off and send garbage: no more than debug.
                    tracing::debug!(%error, "a connection of HTTP/2 ended");
                    if error.is_library() && error.reason() == Some(Reason::ENHANCE_YOUR_CALM) {
                        self.limits.numbers.calmed.one();
                    }
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            if self.end != End::Now && self.frames.is_too_busy() {
                self.calm();
                continue;
            }
            while let Poll::Ready(Some(())) = self.streams.poll_next_unpin(cx) {}
            // The client need not answer before it is over.
            if self.end == End::Soon && self.streams.is_empty() && !self.library.has_streams() {
                self.close(Reason::NO_ERROR);
                continue;
            }
            return Poll::Pending;
        }
    }

    fn begin(&mut self, request: axum::http::Request<RecvStream>, mut respond: SendResponse<Bytes>) {
        self.begun += 1;
        let (open, streams) = Open::count(&self.limits.numbers);
        let activity = self.activity.clone();
        let (head, body) = request.into_parts();
        let Some(room) = self.limits.long_heads.room_for(long_heads::size_of(&head)) else {
            self.limits.numbers.long_heads_refused.one();
            // It fails where the stream has ended already.
            let _ = respond.send_response(no_room().map(drop), true);
            return;
        };
        let request = axum::http::Request::from_parts(head, body);
        let (mut request, mut exchange) = stream::open(request, respond, activity, self.limits.write_timeout, open);
        exchange.room = room;
        exchange.at_work = self.marks.put_on(request.extensions_mut());
        if self.marks.is_excess() {
            self.stop();
        } else if streams > self.limits.connections {
            self.limits.numbers.excess.one();
            request.extensions_mut().insert(Excess);
        }
        self.streams.push((self.begin)(request, exchange));
    }

    /// Takes no more requests, and ends with the last that is in hand.
    pub(super) fn stop(&mut self) {
        if self.end == End::None {
            self.end = End::Soon;
            // One without streams is closed at once, and has no need of the client's word.
            if self.library.has_streams() {
                self.library.graceful_shutdown();
            } else {
                self.activity.no_linger.store(true, Relaxed);
            }
        }
    }

    fn close(&mut self, reason: Reason) {
        self.end = End::Now;
        self.library.abrupt_shutdown(reason);
    }

    fn calm(&mut self) {
        self.limits.numbers.calmed.one();
        self.close(Reason::ENHANCE_YOUR_CALM);
    }

    /// Looks whether a limit is broken. Breaks where nothing can be said to the client.
    pub(super) fn look(&mut self) -> ControlFlow<()> {
        let looks = |limit: Duration| self.limits.looks(limit);
        let [head, idle, write] =
            [self.limits.header_timeout, self.limits.idle_timeout, self.limits.write_timeout].map(looks);
        let (unchanged, is_idle) = (&mut self.unchanged, self.streams.is_empty());
        self.frames.look();
        if unchanged.blocked.look(self.activity.blocked()) >= write
            || unchanged.closing.look(self.end == End::Now) >= CLOSING_LOOKS
        {
            return ControlFlow::Break(());
        }
        let heads = unchanged.head.look(self.frames.amid());
        let idles = unchanged.idle.look(is_idle.then_some(self.begun));
        let silent = unchanged.silent.look((!is_idle).then(|| self.frames.reads()));
        if silent >= 2 * SILENT_LOOKS {
            tracing::debug!("a client of HTTP/2 does not answer any more");
            return ControlFlow::Break(());
        }
        if silent == SILENT_LOOKS {
            self.ask();
        }
        if self.end != End::Now && heads >= head {
            self.calm();
        } else if self.end != End::Now && idles >= idle {
            self.activity.no_linger.store(true, Relaxed);
            self.close(Reason::NO_ERROR);
        }
        ControlFlow::Continue(())
    }

    /// Has the client say that it lives.
    fn ask(&mut self) {
        if let Some(pings) = &mut self.pings {
            // An answer that came before must be taken first. Nobody waits for it: that something came is enough.
            let _ = pings.poll_pong(&mut Context::from_waker(Waker::noop()));
            if let Err(error) = pings.send_ping(Ping::opaque()) {
                tracing::debug!(%error, "a ping");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_counted() {
        let mut same = Same::default();
        assert_eq!([Some(1), Some(1), Some(1), Some(2), Some(2)].map(|now| same.look(now)), [0, 1, 2, 0, 1]);
        assert_eq!([None, None, Some(2), Some(2)].map(|now| same.look(now)), [0, 0, 0, 1]);
    }
}
