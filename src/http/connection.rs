//! One connection, from its accept to its end.

use std::convert::Infallible;
use std::future::{pending, poll_fn, ready};
use std::net::SocketAddr;
use std::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::body::Body;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, StatusCode};
use futures_util::future::Either;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::long_heads::{self, FREE_BYTES, no_room};
use super::marks::{Guest, Marks};
use super::newcomers::Arrived;
use super::places;
use super::socket::Socket;
use super::{Handler, HttpLimits, hang_up, http2};
use crate::http::activity::{ConnectionActivity, Overdue, TrackedBody, Watchdog};
use crate::tls::{Admitted, Wire};

/// There is no room for a long head now.
const NO_ROOM: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What a connection has at its port, for as long as it lives.
#[derive(Debug)]
pub(super) enum Entered {
    /// There is no place for it.
    Excess,
    Newcomer(Arrived),
    Place(places::Entered),
}

impl Entered {
    fn guest(&self) -> Guest {
        match self {
            Self::Excess => Guest::Excess,
            Self::Newcomer(arrived) => Guest::Newcomer(arrived.newcomer()),
            Self::Place(entered) => Guest::Place(entered.place()),
        }
    }

    /// Ends once others need the place.
    async fn gone(&self) {
        match self {
            Self::Excess => pending().await,
            Self::Newcomer(arrived) => arrived.gone().await,
            Self::Place(entered) => entered.gone().await,
        }
    }
}

/// Serves the requests of one client, one after the other, in HTTP/2 as many at a time as it sends; where it is in excess,
/// the first. Ends where others need its place.
pub(super) async fn run(
    stream: TcpStream,
    from: SocketAddr,
    handler: impl Handler,
    limits: HttpLimits,
    entered: Entered,
    stop: CancellationToken,
) {
    tokio::select! {
        biased;
        () = entered.gone() => {}
        () = open(stream, from, handler, limits, entered.guest(), stop) => {}
    }
}

/// Has a connection pass the port's door, if it has one.
async fn open(
    stream: TcpStream,
    from: SocketAddr,
    handler: impl Handler,
    limits: HttpLimits,
    guest: Guest,
    stop: CancellationToken,
) {
    let Some(door) = limits.door.clone() else {
        return serve(Admitted::plain(stream), handler, limits, guest, stop).await;
    };
    let admitted = tokio::select! {
        // On the heap: it is large, and soon done.
        admitted = Box::pin(door.admit(stream, from)) => admitted,
        () = stop.cancelled() => None,
        // The next ones cannot even be refused meanwhile.
        () = sleep(limits.header_timeout), if matches!(guest, Guest::Excess) => None,
    };
    let Some(mut admitted) = admitted else { return };
    match admitted.ends.take() {
        Some(ends) => tokio::select! {
            biased;
            () = ends.cancelled() => {}
            () = serve(admitted, handler, limits, guest, stop) => {}
        },
        None => serve(admitted, handler, limits, guest, stop).await,
    }
}

async fn serve(admitted: Admitted, handler: impl Handler, limits: HttpLimits, guest: Guest, stop: CancellationToken) {
    if let Guest::Newcomer(newcomer) = &guest {
        newcomer.comes_in();
    }
    let activity = Arc::new(ConnectionActivity::default());
    let soft_end = admitted.soft_end();
    let Admitted { wire, peer, certificate, .. } = admitted;
    let marks = Arc::new(Marks { guest, under_tls: matches!(wire, Wire::Tls(_)), peer, certificate });
    let by_alpn = wire.is_http2();
    let minds_preface = !limits.upgrades && !marks.under_tls;
    let stream = Arc::new(Mutex::new(wire));
    let mut socket =
        Socket::new(stream.clone(), activity.clone(), limits.linger_bytes, limits.linger, limits.numbers.clone());
    let stopped = async {
        match soft_end {
            None => stop.cancelled().await,
            Some(soft_end) => tokio::select! {
                () = stop.cancelled() => {}
                () = soft_end => {}
            },
        }
    };
    let mut stopped = pin::pin!(stopped);
    if by_alpn {
        // On the heap: most connections have no need of it.
        return Box::pin(http2::serve(socket, activity, handler, limits, marks, stopped)).await;
    }
    socket = socket.minding_heads(limits.long_heads.clone());
    if minds_preface {
        socket = socket.minding_http2();
    }
    let service = service_fn({
        // The connection's task may go on in HTTP/2.
        let (activity, marks, handler) = (activity.clone(), marks.clone(), handler.clone());
        let (heads, numbers) = (limits.long_heads.clone(), limits.numbers.clone());
        move |request: Request<Incoming>| {
            let (mut head, body) = request.into_parts();
            let at_work = marks.put_on(&mut head.extensions);
            let busy = activity.begin(head.version);
            let size = long_heads::size_of(&head);
            // A head that came with a body before it was read without a look.
            let is_long = size > FREE_BYTES;
            let answer = if is_long && !activity.keep_head(&heads, size) {
                numbers.long_heads_refused.one();
                Either::Left(ready(no_room()))
            } else {
                Either::Right(handler.answer(Request::from_parts(head, Body::new(body))))
            };
            let activity = activity.clone();
            async move {
                let mut answer = answer.await;
                drop(at_work);
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    activity.upgrades();
                }
                if is_long {
                    // What hyper read it with is only given back with the connection.
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer.map(|body| TrackedBody::new(body, busy)))
            }
        }
    });
    let mut connection = http1::Builder::new()
        // Ours is cheaper and knows idle from slow: see `activity`.
        .header_read_timeout(None)
        .max_buf_size(limits.max_head_bytes)
        .keep_alive(!marks.is_excess())
        // A peer that ends its side is gone; a client may only have nothing more to say.
        .half_close(!limits.upgrades)
        .serve_connection(TokioIo::new(socket), service);

    let mut watchdog = Watchdog::new(&limits);
    if limits.upgrades {
        let mut connection = pin::pin!(connection.with_upgrades());
        tokio::select! {
            biased;
            result = &mut connection => drop(ended(result)),
            () = poll_fn(|_| activity.poll_has_no_room()) => limits.numbers.long_heads_refused.one(),
            _overdue = watchdog.overdue(&activity) => {}
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    result = &mut connection => drop(ended(result)),
                    _overdue = watchdog.overdue(&activity) => {}
                }
            }
        }
        return;
    }
    let mut gone = pin::pin!(hang_up::hung_up(&stream, &activity));
    let overdue = tokio::select! {
        biased;
        result = &mut connection => ended(result),
        () = poll_fn(|_| activity.poll_is_http2()) => {
            let socket = connection.into_parts().io.into_inner();
            return Box::pin(http2::serve(socket, activity.clone(), handler, limits, marks, stopped)).await;
        }
        () = poll_fn(|_| activity.poll_has_no_room()) => {
            limits.numbers.long_heads_refused.one();
            return refuse(connection.into_parts().io.into_inner(), NO_ROOM).await;
        }
        () = &mut gone => None,
        overdue = watchdog.overdue(&activity) => Some(overdue),
        () = &mut stopped => {
            activity.no_linger.store(activity.is_idle(), Relaxed);
            pin::Pin::new(&mut connection).graceful_shutdown();
            tokio::select! {
                biased;
                result = &mut connection => ended(result),
                () = &mut gone => None,
                overdue = watchdog.overdue(&activity) => Some(overdue),
            }
        }
    };

    // An answer that the client does not take must not get a second one in its midst.
    if overdue == Some(Overdue::Head) && !activity.write_blocked.load(Relaxed) {
        refuse(connection.into_parts().io.into_inner(), REQUEST_TIMEOUT).await;
    }
}

async fn refuse(mut socket: Socket, answer: &[u8]) {
    if socket.write_all(answer).await.is_ok() {
        let _ = socket.shutdown().await;
    }
}

/// A connection that ended by itself has broken no limit. Clients break off and send garbage: no
/// more than debug.
fn ended(result: hyper::Result<()>) -> Option<Overdue> {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended");
    }
    None
}
