//! A connection that speaks HTTP/2: over TLS by ALPN, in plain text by its preface.
//!
//! The protocol is `h2`'s, on which hyper's server is built. hyper's own does not tell how much of an answer has room in its
//! stream's window and cannot reset one stream, so a client that takes nothing of one answer could only be cut off as a whole.
//!
//! What is bounded by connection in HTTP/1.1 is bounded by stream here:
//!
//! * A request whose client resets its stream, or hangs up, ends as one whose connection is closed.
//! * An answer that its client gives no room for [`write_timeout`](HttpLimits::write_timeout) is cut, alone.
//! * Streams of all connections together are no more than there may be connections: the next ones are [`Excess`](super::Excess).
//! * All of a connection runs in one task: one with many streams gets its turn as one with a single request does.
//!
//! And by connection, beside what the library bounds: small frames ([`frames`]), the time of a head, silence. A client that
//! breaks these is told by a GOAWAY. Where something is open, a silent client is asked whether it lives.

mod counted;
mod frames;
mod stream;
mod task;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Bytes;
use tokio::time::{sleep, timeout};

use super::activity::ConnectionActivity;
use super::marks::Marks;
use super::socket::Socket;
use super::{Handler, HttpLimits, PortNumbers};
use counted::Counted;
use frames::Frames;
use stream::{AHEAD_BYTES, Exchange};
use task::Connection;

/// Streams of a connection at a time.
const MAX_STREAMS: u32 = 128;

/// A client may send so much of a body before any of it was taken.
const STREAM_WINDOW: u32 = 64 << 10;

/// Room for all of its streams: none that is not taken holds the others.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;

/// The most streams that may be reset before they were looked at.
const MAX_UNSEEN_RESETS: usize = 64;

/// The most requests of a connection that may break the protocol.
const MAX_BAD_STREAMS: usize = 256;

/// Serves a connection until it ends.
pub(super) async fn serve<H: Handler>(
    socket: Socket,
    activity: Arc<ConnectionActivity>,
    handler: H,
    limits: HttpLimits,
    marks: Arc<Marks>,
    stopped: impl Future<Output = ()>,
) {
    let _counted = Counting::begin(&limits.numbers);
    let frames = Arc::new(Frames::default());
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(if marks.is_excess() { 1 } else { MAX_STREAMS })
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(u32::try_from(limits.max_head_bytes).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(MAX_UNSEEN_RESETS)
        .max_local_error_reset_streams(Some(MAX_BAD_STREAMS))
        .max_send_buffer_size(AHEAD_BYTES);
    let mut stopped = pin!(stopped);
    let handshake = builder.handshake::<_, Bytes>(Counted::new(socket, frames.clone(), limits.long_heads.clone()));
    let opened = tokio::select! {
        opened = timeout(limits.header_timeout, handshake) => opened,
        () = &mut stopped => return,
    };
    let library = match opened {
        Ok(Ok(library)) => library,
        Ok(Err(error)) => return tracing::debug!(%error, "a connection of HTTP/2 ended before it began"),
        Err(_) => return,
    };
    let begin = move |request, exchange: Exchange| exchange.answer(handler.answer(request));
    let mut connection = Connection::new(library, begin, activity, frames, limits, marks);
    loop {
        let (every, ends) = (connection.every(), connection.ends());
        tokio::select! {
            biased;
            () = poll_fn(|cx| connection.poll(cx)) => return,
            () = &mut stopped, if !ends => connection.stop(),
            () = sleep(every) => if connection.look().is_break() {
                return;
            },
        }
    }
}

/// One of the connections of HTTP/2 at a port.
struct Counting(Arc<PortNumbers>);

impl Counting {
    fn begin(numbers: &Arc<PortNumbers>) -> Self {
        numbers.http2.fetch_add(1, Relaxed);
        Self(numbers.clone())
    }
}

impl Drop for Counting {
    fn drop(&mut self) {
        self.0.http2.fetch_sub(1, Relaxed);
    }
}
