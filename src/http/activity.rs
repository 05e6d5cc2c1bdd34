//! The state of a connection, as far as its time limits care: idle, amid a request head, or busy
//! with a request.
//!
//! Shared by the socket (sees bytes come), the service (sees a head complete) and the response body
//! (its drop is the end of the request). One relaxed atomic per step and no clock: hyper's own
//! header timer would allocate and register a timer per request, and would close kept-alive
//! connections after the header's time.
//!
//! A [`Watchdog`] looks in at intervals and counts how many looks nothing changed.
//!
//! A streamed body is asked for no more than [`AHEAD_BYTES`] beyond what the socket took: hyper
//! alone would queue sixteen of its pieces for each client that does not read, and thousands of
//! watchers may not.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::Version;
use futures_util::task::AtomicWaker;
use hyper::body::{Frame, SizeHint};
use parking_lot::Mutex;

use crate::http::long_heads::HeadRoom;
use crate::http::{HttpLimits, LongHeads};

const IDLE: u64 = 0;
const HEAD: u64 = 1;
const BUSY: u64 = 2;
/// The phase is in the low bits; the rest counts changes, so that the watchdog tells one request
/// from the next.
const PHASE: u64 = 3;

/// Bytes of a streamed body that may wait to be written when the next piece is asked for.
const AHEAD_BYTES: usize = 8 << 10;

#[derive(Debug, Default)]
pub(super) struct ConnectionActivity {
    beat: AtomicU64,
    /// Bytes of an answer wait for a client that does not read.
    pub(super) write_blocked: AtomicBool,
    /// Counts writes that the client took something of.
    writes: AtomicU64,
    /// The value of `writes` when the request began; `u64::MAX` where the client knows no interim answer.
    began_at: AtomicU64,
    /// Bytes of a streamed body that the socket has not taken yet, at most: what frames them counts
    /// as taken, too.
    ahead: AtomicUsize,
    /// The task that waits for `ahead` to shrink.
    waits: AtomicWaker,
    /// Close without lingering: there is nothing the client could miss.
    pub(super) no_linger: AtomicBool,
    /// The client began with the preface of HTTP/2.
    http2: AtomicBool,
    /// The room of the longest head so far: what reads heads in HTTP/1.1 keeps as much for the next.
    head: Mutex<HeadRoom>,
    /// There was no room for a head.
    no_room: AtomicBool,
    /// It speaks something else than HTTP from now on.
    upgraded: AtomicBool,
}

impl ConnectionActivity {
    /// Bytes came in.
    pub(super) fn received(&self) {
        let beat = self.beat.load(Relaxed);
        if beat & PHASE == IDLE {
            self.set(beat, HEAD);
        }
    }

    /// A write was tried; `None` where the client takes no more for now.
    pub(super) fn wrote(&self, bytes: Option<usize>) {
        self.write_blocked.store(bytes.is_none(), Relaxed);
        let Some(bytes) = bytes else { return };
        self.writes.store(self.writes.load(Relaxed).wrapping_add(1), Relaxed);
        let ahead = self.ahead.load(Relaxed);
        if ahead > 0 {
            self.ahead.store(ahead.saturating_sub(bytes), Relaxed);
            self.waits.wake();
        }
    }

    /// The client began with the preface of HTTP/2.
    pub(super) fn speaks_http2(&self) {
        self.http2.store(true, Relaxed);
    }

    /// Ready once it is known that the client speaks HTTP/2. Wakes nobody: poll it after what reads.
    pub(super) fn poll_is_http2(&self) -> Poll<()> {
        if self.http2.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Makes room for a head of so many bytes, until the connection ends; false where there is none.
    pub(super) fn keep_head(&self, heads: &LongHeads, bytes: usize) -> bool {
        self.head.lock().grow(heads, bytes)
    }

    /// There is no room for the head that comes.
    pub(super) fn has_no_room(&self) {
        self.no_room.store(true, Relaxed);
    }

    /// Ready once there is no room for the head that comes. Wakes nobody: poll it after what reads.
    pub(super) fn poll_has_no_room(&self) -> Poll<()> {
        if self.no_room.load(Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }

    /// An answer was given after which it speaks something else than HTTP.
    pub(super) fn upgrades(&self) {
        self.upgraded.store(true, Relaxed);
    }

    /// What comes is no HTTP, and has no heads.
    pub(super) fn is_upgraded(&self) -> bool {
        self.upgraded.load(Relaxed)
    }

    /// A request is in progress.
    pub(super) fn is_busy(&self) -> bool {
        self.beat.load(Relaxed) & PHASE == BUSY
    }

    /// Counts writes that the client took something of.
    pub(super) fn writes(&self) -> u64 {
        self.writes.load(Relaxed)
    }

    /// The number of the write that is blocked.
    pub(super) fn blocked(&self) -> Option<u64> {
        self.write_blocked.load(Relaxed).then(|| self.writes.load(Relaxed))
    }

    pub(super) fn is_idle(&self) -> bool {
        self.beat.load(Relaxed) & PHASE == IDLE
    }

    /// A request head of this version is complete; the request lasts until the guard is dropped.
    pub(super) fn begin(self: &Arc<Self>, version: Version) -> Busy {
        let knows_interim = version == Version::HTTP_11;
        self.began_at.store(if knows_interim { self.writes.load(Relaxed) } else { u64::MAX }, Relaxed);
        self.set(self.beat.load(Relaxed), BUSY);
        Busy(self.clone())
    }

    /// Changes when a request begins or ends.
    pub(super) fn request(&self) -> u64 {
        self.beat.load(Relaxed)
    }

    /// A request is in progress, its client knows interim answers, and nothing of its answer was written.
    pub(super) fn may_send_interim(&self) -> bool {
        let is_busy = self.beat.load(Relaxed) & PHASE == BUSY;
        is_busy && !self.write_blocked.load(Relaxed) && self.began_at.load(Relaxed) == self.writes.load(Relaxed)
    }

    /// Only the connection's own task writes, so load and store need no compare-and-swap.
    fn set(&self, beat: u64, phase: u64) {
        self.beat.store(((beat | PHASE) + 1) | phase, Relaxed);
    }
}

/// One request in progress.
#[derive(Debug)]
pub(super) struct Busy(Arc<ConnectionActivity>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(self.0.beat.load(Relaxed), IDLE);
    }
}

/// A response body that ends its request when hyper is done with it.
#[derive(Debug)]
pub(super) struct TrackedBody {
    inner: Body,
    busy: Busy,
}

impl TrackedBody {
    pub(super) fn new(inner: Body, busy: Busy) -> Self {
        Self { inner, busy }
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if self.inner.size_hint().exact().is_some() {
            return Pin::new(&mut self.inner).poll_frame(cx);
        }
        if self.busy.0.ahead.load(Relaxed) >= AHEAD_BYTES {
            self.busy.0.waits.register(cx.waker());
            return Poll::Pending;
        }
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame
            && let Some(data) = frame.data_ref()
        {
            let ahead = &self.busy.0.ahead;
            ahead.store(ahead.load(Relaxed) + data.len(), Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Which limit a connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    Head,
    Idle,
    /// The client took nothing of what waits for it.
    Write,
}

/// Counts the looks at a [`ConnectionActivity`] that found it unchanged.
#[derive(Debug)]
pub(super) struct Watchdog {
    every: Duration,
    head_looks: u32,
    idle_looks: u32,
    write_looks: u32,
    last: u64,
    unchanged: u32,
    last_blocked: Option<u64>,
    blocked: u32,
}

impl Watchdog {
    pub(super) fn new(limits: &HttpLimits) -> Self {
        Self {
            every: limits.look_interval(),
            head_looks: limits.looks(limits.header_timeout),
            idle_looks: limits.looks(limits.idle_timeout),
            write_looks: limits.looks(limits.write_timeout),
            last: 0,
            unchanged: 0,
            last_blocked: None,
            blocked: 0,
        }
    }

    /// Waits until `activity` breaks a limit.
    pub(super) async fn overdue(&mut self, activity: &ConnectionActivity) -> Overdue {
        loop {
            tokio::time::sleep(self.every).await;
            if let Some(overdue) = self.look(activity) {
                return overdue;
            }
        }
    }

    fn look(&mut self, activity: &ConnectionActivity) -> Option<Overdue> {
        let blocked = activity.blocked();
        let same = blocked.is_some() && blocked == std::mem::replace(&mut self.last_blocked, blocked);
        self.blocked = if same { self.blocked + 1 } else { 0 };
        if self.blocked >= self.write_looks {
            return Some(Overdue::Write);
        }
        let beat = activity.beat.load(Relaxed);
        if beat != self.last {
            // The first look at something new finds it up to one interval old: not counted.
            (self.last, self.unchanged) = (beat, 0);
            return None;
        }
        self.unchanged += 1;
        match beat & PHASE {
            HEAD if self.unchanged >= self.head_looks => Some(Overdue::Head),
            IDLE if self.unchanged >= self.idle_looks => Some(Overdue::Idle),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_and_limits() {
        let limits = HttpLimits {
            header_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(4),
            write_timeout: Duration::from_secs(3),
            ..HttpLimits::default()
        };
        let mut dog = Watchdog::new(&limits);
        let activity = Arc::new(ConnectionActivity::default());
        let mut look = |activity: &ConnectionActivity| dog.look(activity);

        assert_eq!([look(&activity), look(&activity), look(&activity)], [None; 3]);
        assert_eq!(look(&activity), Some(Overdue::Idle));
        activity.received();
        assert_eq!([look(&activity), look(&activity)], [None; 2]);
        // More bytes of the same head buy no time.
        activity.received();
        assert_eq!(look(&activity), Some(Overdue::Head));
        let busy = activity.begin(Version::HTTP_11);
        activity.received();
        assert!((0..100).all(|_| look(&activity).is_none()), "a request has no limit here");
        // An answer that the client takes, however slowly, has none either.
        for _ in 0..100 {
            activity.wrote(Some(1));
            activity.wrote(None);
            assert_eq!([look(&activity), look(&activity), look(&activity)], [None; 3]);
            activity.wrote(Some(1));
            assert_eq!(look(&activity), None);
        }
        activity.wrote(None);
        assert_eq!([look(&activity), look(&activity), look(&activity)], [None; 3]);
        assert_eq!(look(&activity), Some(Overdue::Write));
        activity.wrote(Some(1));
        drop(busy);
        assert!(activity.is_idle());
        // Requests between two looks are seen, though the phase is the same.
        for _ in 0..100 {
            drop(activity.begin(Version::HTTP_11));
            assert_eq!(look(&activity), None);
        }
    }
}
