//! One request and its answer: a stream.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_LENGTH, DATE, EXPECT, TRANSFER_ENCODING, UPGRADE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use hyper::body::{Frame, SizeHint};
use tokio::time::timeout;

use crate::http::PortNumbers;
use crate::http::activity::ConnectionActivity;
use crate::http::date;
use crate::http::long_heads::HeadRoom;
use crate::http::newcomers::AtWork;

/// The library holds so much of an answer that has room in its window and was not written yet.
pub(super) const AHEAD_BYTES: usize = 16 << 10;

/// They are about a connection, and may be in no answer (RFC 9113, 8.2.2).
const OF_CONNECTIONS: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The body of a request. Its client may send as much again as was taken of it.
struct RequestBody {
    stream: RecvStream,
    /// How much is to come, if the client said so.
    length: Option<u64>,
    /// The client waits until somebody wants it.
    wanted: Option<Arc<AtomicBool>>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if let Some(wanted) = self.wanted.take() {
            wanted.store(true, Relaxed);
        }
        // Trailers are of no interest.
        let Some(data) = ready!(self.stream.poll_data(cx)) else { return Poll::Ready(None) };
        let data = data?;
        if let Some(length) = &mut self.length {
            *length = length.saturating_sub(data.len() as u64);
        }
        self.stream.flow_control().release_capacity(data.len())?;
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A request that is being answered.
pub(super) struct Exchange {
    respond: SendResponse<Bytes>,
    is_head: bool,
    wanted: Option<Arc<AtomicBool>>,
    /// The activity of its connection.
    pub(super) activity: Arc<ConnectionActivity>,
    /// See [`HttpLimits::write_timeout`](crate::http::HttpLimits).
    pub(super) write_timeout: Duration,
    pub(super) open: Open,
    /// Until the handler has answered; `None` where nobody has to know.
    pub(super) at_work: Option<AtWork>,
    /// For its head, for as long.
    pub(super) room: HeadRoom,
}

/// One of the streams that are open at a port.
pub(super) struct Open(Arc<PortNumbers>);

impl Open {
    /// Counts one more, and tells how many there are with it.
    pub(super) fn count(numbers: &Arc<PortNumbers>) -> (Self, usize) {
        numbers.streams_begun.one();
        (Self(numbers.clone()), numbers.streams.fetch_add(1, Relaxed) + 1)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}

/// A request as the handler gets it, and what answers it.
pub(super) fn open(
    request: axum::http::Request<RecvStream>,
    respond: SendResponse<Bytes>,
    activity: Arc<ConnectionActivity>,
    write_timeout: Duration,
    open: Open,
) -> (Request, Exchange) {
    let (head, stream) = request.into_parts();
    let has_body = !stream.is_end_stream();
    // hyper's server of HTTP/1.1 does that by itself.
    let waits =
        has_body && head.headers.get(EXPECT).is_some_and(|what| what.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    let wanted = waits.then(Arc::<AtomicBool>::default);
    let is_head = head.method == Method::HEAD;
    let body = if has_body {
        // The library has compared it with what comes.
        let length = head.headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        Body::new(RequestBody { stream, length, wanted: wanted.clone() })
    } else {
        Body::empty()
    };
    let exchange =
        Exchange { respond, is_head, wanted, activity, write_timeout, open, at_work: None, room: HeadRoom::default() };
    (Request::from_parts(head, body), exchange)
}

impl Exchange {
    /// Sends what the handler answers. Ends at once, and the handler's work with it, where the client resets the stream or
    /// hangs up.
    pub(super) async fn answer(mut self, answer: impl Future<Output = Response>) {
        let mut answer = pin!(answer);
        let response = poll_fn(|cx| {
            if let Poll::Ready(response) = answer.as_mut().poll(cx) {
                return Poll::Ready(Some(response));
            }
            if self.wanted.as_ref().is_some_and(|wanted| wanted.swap(false, Relaxed)) {
                let mut go_on = axum::http::Response::new(());
                *go_on.status_mut() = StatusCode::CONTINUE;
                // It fails where the stream has ended, which is seen next.
                let _ = self.respond.send_informational(go_on);
            }
            self.respond.poll_reset(cx).map(|_| None)
        });
        let Some(response) = response.await else { return };
        drop((self.at_work.take(), std::mem::take(&mut self.room)));
        let (head, body) = response.into_parts();
        let mut head = axum::http::Response::from_parts(head, ());
        let length = body.size_hint().exact();
        let has_none = matches!(head.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        prepare(head.headers_mut(), length.filter(|_| !has_none));
        let is_all = self.is_head || has_none || length == Some(0);
        let Ok(stream) = self.respond.send_response(head, is_all) else { return };
        if !is_all {
            self.send(body, stream).await;
        }
    }

    /// Sends a body as the windows of stream and connection have room for it, and no sooner: what is not sent is here, and
    /// can be dropped.
    async fn send(&self, mut body: Body, mut stream: SendStream<Bytes>) {
        loop {
            let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Some(frame)),
                Poll::Pending => stream.poll_reset(cx).map(|_| None),
            });
            let Some(frame) = frame.await else { return };
            let data = match frame.map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(data))) => data,
                Some(Ok(Err(_trailers))) => continue,
                Some(Err(_)) => return stream.send_reset(Reason::INTERNAL_ERROR),
                None => {
                    // Nothing can be said to a client that is gone.
                    let _ = stream.send_data(Bytes::new(), true);
                    return;
                }
            };
            let is_last = body.is_end_stream();
            if !self.send_piece(data, is_last, &mut stream).await || is_last {
                return;
            }
        }
    }

    /// Sends a piece of a body; false where nothing more is to be sent.
    async fn send_piece(&self, mut data: Bytes, is_last: bool, stream: &mut SendStream<Bytes>) -> bool {
        if data.is_empty() {
            return stream.send_data(data, is_last).is_ok();
        }
        while !data.is_empty() {
            // No more than that is asked for: what is reserved is reserved from others.
            stream.reserve_capacity(data.len().min(AHEAD_BYTES));
            let room = match stream.capacity() {
                0 => match self.room(stream).await {
                    Some(room) => room,
                    None => return false,
                },
                room => room,
            };
            let piece = data.split_to(room.min(data.len()));
            if stream.send_data(piece, is_last && data.is_empty()).is_err() {
                return false;
            }
        }
        true
    }

    /// Waits for room. The stream is reset where its client gives it none for so long as a connection may stay blocked.
    async fn room(&self, stream: &mut SendStream<Bytes>) -> Option<usize> {
        loop {
            let writes = self.activity.writes();
            match timeout(self.write_timeout, poll_fn(|cx| stream.poll_capacity(cx))).await {
                Ok(room) => return room?.ok(),
                // All of the connection is slow, and the limit of that is its watchdog's.
                Err(_) if self.activity.blocked().is_some_and(|now| now != writes) => {}
                Err(_) => {
                    self.open.0.streams_cut.one();
                    stream.send_reset(Reason::CANCEL);
                    return None;
                }
            }
        }
    }
}

/// Makes headers those of an answer in HTTP/2.
fn prepare(headers: &mut HeaderMap, length: Option<u64>) {
    for name in OF_CONNECTIONS {
        headers.remove(name);
    }
    if let Some(length) = length
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    if !headers.contains_key(DATE) {
        headers.extend(date::now().map(|date| (DATE, date)));
    }
}
