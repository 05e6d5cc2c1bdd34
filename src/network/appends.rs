//! Streams of appends: an HTTP request that upgrades its connection (RFC 9110, 7.8), then messages both ways.
//!
//! A message needs no request head, no pool and no task of its own: it is one system call on either side.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, CONTENT_TYPE, UPGRADE};
use axum::http::{HeaderValue, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt, stream};
use hyper_util::rt::TokioIo;
use openraft::raft::AppendEntriesRequest;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::time::timeout;
use tokio_util::codec::{Decoder, FramedRead, LengthDelimitedCodec};

use super::link::{Link, LinkError};
use super::origin::RAFT_CONTENT_TYPE;
use super::port::{self, Port};
use super::reply::{MAX_SMALL_REPLY_BYTES, read_reply};
use super::wire::{self, APPENDS_PATH, APPENDS_PROTOCOL, AppendAnswer, AppendMessage, MAX_MESSAGE_BYTES};
use crate::formats::{Format, NEWEST, OLDEST};
use crate::network::limits::{LimitedCodec, PortLimits};
use crate::network::validate::{self, Local};
use crate::node::rpc::{AppendStream, BoxFuture, PeerError, Refusal, StampedOutcome, Target};
use crate::node::{Node, NodeIdentity};
use crate::raft_types::TypeConfig;
use crate::tls::PeerIdentity;

/// A stream without a message for this long is closed. A leader closes a stream it does not need much earlier; this is for
/// a leader whose host is gone.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(120);

/// A leader that does not take an answer within this time is gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

type Frames<S, C> = FramedRead<ReadHalf<S>, C>;

fn framed<S: AsyncRead + AsyncWrite, C: Decoder>(socket: S, codec: C) -> (Frames<S, C>, WriteHalf<S>) {
    let (read, write) = split(socket);
    (FramedRead::new(read, codec), write)
}

fn codec(max_bytes: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().little_endian().max_frame_length(max_bytes).new_codec()
}

/// A leader's side of one connection.
struct LeaderSide<S> {
    me: Arc<NodeIdentity>,
    target: Target,
    /// The term of the requests.
    term: u64,
    answers: Frames<S, LengthDelimitedCodec>,
    requests: WriteHalf<S>,
}

/// A stream of appends to `target` over a connection that was upgraded.
pub(crate) fn leader_side<S: AsyncRead + AsyncWrite + Send + 'static>(
    me: Arc<NodeIdentity>,
    target: Target,
    socket: S,
) -> Box<dyn AppendStream> {
    let (answers, requests) = framed(socket, codec(MAX_SMALL_REPLY_BYTES));
    Box::new(LeaderSide { me, target, term: 0, answers, requests })
}

/// Asks a node to take a stream of appends; `None` where its version has none, or another node is there.
pub(super) async fn open(
    link: Link,
    me: Arc<NodeIdentity>,
    target: Target,
    within: Duration,
) -> Result<Option<Box<dyn AppendStream>>, PeerError> {
    let opened = async {
        let uri = link.uri(&target.id.raddr, target.raft_id, APPENDS_PATH).map_err(LinkError::into_unreachable)?;
        let mut request = Request::new(Body::empty());
        (*request.method_mut(), *request.uri_mut()) = (Method::POST, uri);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, HeaderValue::from_static(APPENDS_PROTOCOL));
        request.headers_mut().insert(CONTENT_TYPE, RAFT_CONTENT_TYPE);
        let response = match link.send(request).await {
            Ok(response) => response,
            // A heartbeat tells that one by itself that this node leads.
            Err(LinkError::AnotherNode(_)) => return Ok(None),
            Err(error) => return Err(error.into_unreachable()),
        };
        match response.status().as_u16() {
            101 => {
                let socket = hyper::upgrade::on(response).await;
                Ok(Some(TokioIo::new(socket.map_err(|error| PeerError::Lost(error.to_string()))?)))
            }
            404 => Ok(None),
            _ => Err(match read_reply(response, MAX_SMALL_REPLY_BYTES).await {
                Err(error) => error,
                Ok(reply) => PeerError::Lost(format!("an answer to another question: {reply:?}")),
            }),
        }
    };
    let opened = timeout(within, opened).await.unwrap_or_else(|_| Err(PeerError::Lost("no answer".to_owned())))?;
    Ok(opened.map(|socket| leader_side(me, target, socket)))
}

impl<S: AsyncRead + AsyncWrite + Send> AppendStream for LeaderSide<S> {
    fn send(&mut self, request: AppendEntriesRequest<TypeConfig>) -> BoxFuture<'_, Result<(), PeerError>> {
        self.term = request.vote.leader_id.term;
        Box::pin(async move {
            let envelope = self.me.envelope(&self.target);
            let format = envelope.format;
            let frame = wire::encode_framed(&(envelope, request), format);
            self.requests.write_all(&frame).await.map_err(|error| PeerError::Lost(error.to_string()))
        })
    }

    fn next(&mut self) -> BoxFuture<'_, Result<StampedOutcome, PeerError>> {
        Box::pin(async move {
            match self.answers.next().await {
                Some(Ok(frame)) => match wire::decode::<AppendAnswer>(&frame, NEWEST) {
                    Ok(Ok(outcome)) => {
                        validate::append_reply(self.term, &outcome.0).map(|()| outcome).map_err(PeerError::Lost)
                    }
                    Ok(Err(refusal)) => Err(PeerError::Refused(refusal)),
                    Err(why) => Err(PeerError::Lost(format!("an unreadable answer: {why}"))),
                },
                Some(Err(error)) => Err(PeerError::Lost(error.to_string())),
                None => Err(PeerError::Lost("it closed the connection".to_owned())),
            }
        })
    }
}

/// A follower's side: upgrades the connection, which is a stream of appends from here on.
pub(super) async fn accept(State(port): State<Port>, mut request: Request) -> Response {
    let Some(node) = port.node.node() else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    if request.headers().get(UPGRADE).is_none_or(|to| to != APPENDS_PROTOCOL) {
        return StatusCode::UPGRADE_REQUIRED.into_response();
    }
    let upgrade = hyper::upgrade::on(&mut request);
    let node = node.clone();
    let peer = request.extensions().get::<PeerIdentity>().copied();
    tokio::spawn(async move {
        match upgrade.await {
            Ok(socket) => {
                serve_appends(node, TokioIo::new(socket), &port.limits, peer).await;
            }
            Err(error) => tracing::debug!(%error, "no stream of appends"),
        }
    });
    (StatusCode::SWITCHING_PROTOCOLS, [(CONNECTION, "upgrade"), (UPGRADE, APPENDS_PROTOCOL)]).into_response()
}

/// Answers appends until the leader closes the stream, a message is refused, or Raft stops.
pub(crate) async fn serve_appends<S: AsyncRead + AsyncWrite + Send + 'static>(
    node: Node,
    socket: S,
    limits: &Arc<PortLimits>,
    peer: Option<PeerIdentity>,
) {
    let codec = LimitedCodec { codec: codec(MAX_MESSAGE_BYTES), inbound: limits.stream() };
    let gone = codec.inbound.gone();
    let (frames, mut answers) = framed(socket, codec);
    let checks = (node.clone(), limits.clone());
    // Of the newest request; its answer is in the same.
    let format = Arc::new(AtomicU32::new(OLDEST.0));
    let said = format.clone();
    let requests = stream::unfold((frames, gone, checks), move |(mut frames, gone, checks)| {
        let said = said.clone();
        async move {
            let next = tokio::select! {
                biased;
                next = timeout(STREAM_IDLE_TIMEOUT, frames.next()) => next,
                () = gone.cancelled() => return None,
            };
            let bytes = next.as_ref().ok().and_then(|next| next.as_ref()?.as_ref().ok()).map_or(0, |frame| frame.len());
            let limits = checks.1.clone();
            let _turn = limits.decode_turn(bytes).await;
            let message = match next {
                Ok(Some(Ok(frame))) => wire::decode::<AppendMessage>(&frame, checks.0.speaks().newest),
                Ok(Some(Err(error))) => Err(error.to_string()),
                Ok(None) | Err(_) => return None,
            };
            let message = message.and_then(|(envelope, request)| {
                let (node, limits) = &checks;
                said.store(envelope.format.0, Ordering::Relaxed);
                let checked = port::check_sender(peer, &envelope);
                match checked.and_then(|()| validate::append(&envelope, &request, &Local::of(node))) {
                    Ok(()) => Ok((envelope, request)),
                    Err(why) => {
                        limits.refused.note(&envelope.from, &why);
                        Err(why)
                    }
                }
            });
            Some((message.map_err(Refusal::Unreadable), (frames, gone, checks)))
        }
    });
    let mut outcomes = pin!(node.receive_appends(Box::pin(requests)));
    let mut stopped = pin!(node.failed());
    loop {
        let outcome: Option<AppendAnswer> = tokio::select! {
            outcome = outcomes.next() => outcome,
            _ = &mut stopped => Some(Err(Refusal::Stopped)),
        };
        let Some(outcome) = outcome else { return };
        let ends = !matches!(outcome, Ok((Ok(_), _)));
        let frame = wire::encode_framed(&outcome, Format(format.load(Ordering::Relaxed)));
        let sent = timeout(ANSWER_TIMEOUT, answers.write_all(&frame)).await;
        if ends || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}
