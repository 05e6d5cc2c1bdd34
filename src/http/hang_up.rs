//! Tells a client that hung up from one that has only ended its own side.
//!
//! To the kernel both look the same: the client sends no more. `printf … | nc` does that with every request, and waits for
//! the answer (RFC 9112, 9.6 does not forbid it). So the end of what a client sends is no hang-up. But a request may wait
//! for minutes, and a client that is gone must not hold a place in a queue. Only what is sent to it tells: the host of a
//! client that is gone answers with a reset. While nothing of the answer was sent, that is an interim `100 Continue`, which
//! each client of HTTP/1.1 must skip (RFC 9110, 15.2); an answer under way is sent anyway. For others the kernel's keepalive
//! asks, and a client that is gone is noticed within some 70 s.
//!
//! hyper does not read while a request is being answered: it would take the end of what is sent for a hang-up.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{SockRef, TcpKeepalive};
use tokio::time::sleep;

use crate::http::activity::ConnectionActivity;
use crate::tls::Wire;

const INTERIM: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// An answer that takes no longer than this needs no interim one.
const FIRST_QUESTION: Duration = Duration::from_millis(500);

/// How often a client that has ended its side is asked, and looked at.
const QUESTION_INTERVAL: Duration = Duration::from_secs(5);

/// How soon after a question the reset is looked for.
const RESET_WAIT: Duration = Duration::from_millis(200);

/// The kernel's questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// The stream, for its connection and for this look at it. Both are polled by one task: the lock is never waited for.
pub(super) type Stream = Arc<Mutex<Wire>>;

/// Waits until the client of a request in progress has hung up.
pub(super) async fn hung_up(stream: &Stream, activity: &ConnectionActivity) {
    loop {
        if poll_fn(|cx| poll_sends_no_more(stream, activity, cx)).await.is_err() {
            return;
        }
        let request = activity.request();
        if let Err(error) = keep_asking(&stream.lock()) {
            tracing::debug!(%error, "keepalive of a connection");
        }
        sleep(FIRST_QUESTION).await;
        while activity.request() == request {
            if activity.may_send_interim() && stream.lock().try_write(INTERIM).is_err() {
                return;
            }
            sleep(RESET_WAIT).await;
            if is_reset(&stream.lock()) {
                return;
            }
            sleep(QUESTION_INTERVAL - RESET_WAIT).await;
            if is_reset(&stream.lock()) {
                return;
            }
        }
        // That one is answered: hyper reads the end, and closes.
    }
}

/// Ready once the client of a request in progress sends no more; an error if it is gone.
fn poll_sends_no_more(stream: &Stream, activity: &ConnectionActivity, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    if activity.is_idle() {
        // hyper reads, and wakes this task.
        return Poll::Pending;
    }
    match ready!(stream.lock().poll_is_ended(cx)) {
        Ok(true) => Poll::Ready(Ok(())),
        // hyper leaves it for later. What comes behind it cannot be seen.
        Ok(false) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    }
}

fn keep_asking(stream: &Wire) -> io::Result<()> {
    let Some(stream) = stream.tcp() else { return Ok(()) };
    let how = TcpKeepalive::new().with_time(KEEPALIVE_INTERVAL).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&how)
}

/// The kernel forgets the peer of a stream that was reset.
fn is_reset(stream: &Wire) -> bool {
    stream.tcp().is_none_or(|stream| stream.peer_addr().is_err())
}
